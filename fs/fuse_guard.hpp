// SPDX-License-Identifier: Apache-2.0
// A process of its own that outlives a killed daemon by a moment. When the last descriptor of /dev/fuse is
// closed the kernel ends the connection, and nobody can tell it any more to drop what it cached: whoever
// holds a file open or mapped would read it after its death. So the guard holds the descriptor too. When the
// daemon is gone without having let go of it, it has the kernel drop the pages of every watched file, refuses
// meanwhile what is asked of the mount, and ends, which ends the connection.
//
// The guard is also who tells the kernel to drop pages and names, by order of the notifier. Such a call
// waits, and no signal ends the wait, for pages that a request is about. Were it made in the daemon, a daemon
// that is killed while it has such a request in hand would neither answer it nor end.
//
// It is forked before keys are read and shares nothing with the daemon but the ledger of inode numbers.
// Before that it sleeps, in a session of its own, and no signal ends it but SIGKILL.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <sys/types.h>

#include "core/files.hpp"
#include "fs/page_ledger.hpp"

namespace ephfs::fs {

class FuseGuard {
 public:
  /// Forks it; `title` is what ps(1) shows of it. Before any thread exists and before any key is in memory.
  [[nodiscard]] static core::Result<std::unique_ptr<FuseGuard>> start(const std::string& title);
  ~FuseGuard() { end(); }
  FuseGuard(const FuseGuard&) = delete;
  FuseGuard& operator=(const FuseGuard&) = delete;

  /// Gives it the mount to guard, a descriptor of /dev/fuse. Once. io when it is not there.
  [[nodiscard]] core::Result<> guard(int fuse_descriptor);
  /// Ends it; nothing is dropped.
  void end() noexcept;
  /// Orders, carried out in turn, also when this process has ended by then: pages of an inode that dies, by
  /// threads that are punctual; those of one that is only to be read anew; and what is not urgent, an inode's
  /// pages or (with a name) a name in a directory. None of the three waits for another. Any thread; waits while
  /// many of the same kind are outstanding. False when there is no guard.
  [[nodiscard]] bool drop_pages(core::InodeNumber number) const;
  [[nodiscard]] bool drop_read_pages(core::InodeNumber number) const;
  [[nodiscard]] bool forget(core::InodeNumber number, std::string_view name) const;
  /// Whose pages it is to drop when this process is gone.
  [[nodiscard]] PageLedger& ledger() { return *ledger_; }

 private:
  /// Sockets; their other ends see when this process ends.
  struct Lines {
    core::FileDescriptor life;     // the mount's descriptor goes this way
    core::FileDescriptor deaths;   // drop_pages()
    core::FileDescriptor rereads;  // drop_read_pages()
    core::FileDescriptor notices;  // forget()
  };
  FuseGuard(std::unique_ptr<PageLedger> ledger, Lines lines, pid_t process)
      : ledger_(std::move(ledger)), lines_(std::move(lines)), process_(process) {}
  [[noreturn]] static void run(const PageLedger& ledger, const Lines& lines, const std::string& title);

  std::unique_ptr<PageLedger> ledger_;
  Lines lines_;
  pid_t process_;
};

}  // namespace ephfs::fs
