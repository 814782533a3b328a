// SPDX-License-Identifier: Apache-2.0
// A process of its own that outlives a killed daemon by a moment. When the last descriptor of /dev/fuse is
// closed the kernel ends the connection, and nobody can tell it any more to drop what it cached: whoever
// holds a file open or mapped would read it after its death. So the guard holds the descriptor too. When the
// daemon is gone without having let go of it, it has the kernel drop the pages of every watched file, refuses
// meanwhile what is asked of the mount, and ends, which ends the connection.
//
// It is forked before keys are read and shares nothing with the daemon but the ledger of inode numbers.
// Before that it sleeps, in a session of its own, and no signal ends it but SIGKILL.
#pragma once

#include <memory>
#include <string>

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
  /// Whose pages it is to drop.
  [[nodiscard]] PageLedger& ledger() { return *ledger_; }

 private:
  FuseGuard(std::unique_ptr<PageLedger> ledger, core::FileDescriptor lifeline, pid_t process)
      : ledger_(std::move(ledger)), lifeline_(std::move(lifeline)), process_(process) {}

  std::unique_ptr<PageLedger> ledger_;
  core::FileDescriptor lifeline_;  // a socket whose other end sees this process end
  pid_t process_;
};

}  // namespace ephfs::fs
