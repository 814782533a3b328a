// SPDX-License-Identifier: Apache-2.0
// Threads that read the kernel's requests and answer them. One of them leads: it alone waits for requests,
// and answers a short one itself before it waits for the next, so that a program that asks one thing after
// another is served by one thread, which is awake and has everything at hand. The kernel would else wake its
// readers in turn.
//
// The leader hands the lead on before it answers when that may take long (many bytes), or when more requests
// wait already and somebody could answer them meanwhile: while it waits for the disk, or where there are more
// processors than a program and the leader need. Else they are answered sooner in turn. A short request can turn out
// long, too: on a lock, or on a disk. So while there are requests one of the others looks every kLook whether the
// leader is stuck in one, and then takes the lead from it: nobody waits longer for somebody else's request. A leader
// that is stuck, or has had nothing to do since the last look, is parted from its caller (caller_affinity.hpp).
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "fs/caller_affinity.hpp"
#include "fs/fuse_request.hpp"

namespace ephfs::fs {

class FuseLoop {
 public:
  static constexpr Milliseconds kLook{2};
  /// A program has one of them and the leader the other; to hand a short request on takes longer than most of them
  /// (docs/performance.md).
  static constexpr unsigned kFewProcessors = 2;

  /// `session` is mounted and outlives the loop.
  explicit FuseLoop(fuse_session* session, unsigned processors = std::thread::hardware_concurrency())
      : session_(session), processors_(processors) {}

  /// Answers one request, before run(): the kernel's first, which settles how the two talk. What fails here fails again
  /// in run().
  void answer_first();
  /// Serves with this thread and `threads` - 1 more, until the file system is unmounted or its connection
  /// ends. A failure of reading requests otherwise. Once.
  [[nodiscard]] core::Result<> run(unsigned threads);

 private:
  /// Who leads and what it does, in one word: the leader's number, whether it is at work on a request, and a
  /// count that makes each moment differ from all others.
  struct Lead {
    static constexpr std::uint64_t kNobody = 0xff;
    static constexpr std::uint64_t kAtWork = 0x100;
    static constexpr std::uint64_t kMoment = 0x200;
    [[nodiscard]] static std::uint64_t leader(std::uint64_t word) { return word & kNobody; }
    [[nodiscard]] static bool is_at_work(std::uint64_t word) { return (word & kAtWork) != 0; }
    [[nodiscard]] static std::uint64_t next(std::uint64_t word, std::uint64_t leader, bool at_work) {
      return ((word & ~(kMoment - 1)) + kMoment) | leader | (at_work ? kAtWork : 0);
    }
  };

  void work(std::uint64_t me);
  void serve(std::uint64_t me, CallerAffinity& affinity);
  /// Returns as the leader; false when the loop ends.
  [[nodiscard]] bool lead(std::uint64_t me);
  /// Lock held; waits a kLook. Whether the leader was stuck and `me` leads now.
  [[nodiscard]] bool look_out(std::unique_lock<std::mutex>& lock, std::uint64_t me);
  /// By the leader, with a request in hand.
  void begin_work(std::uint64_t me, bool hands_on);
  void end(int status);
  [[nodiscard]] bool more_waits() const;

  fuse_session* session_;
  const unsigned processors_;
  std::atomic<std::uint64_t> lead_{Lead::kNobody};  // given to somebody by nobody only with the lock held
  std::atomic<bool> has_requests_{false};           // since the last look; turned on by the leader, off by the lookout
  std::mutex mutex_;                                // guards what follows
  std::condition_variable lead_free_, look_;
  unsigned waiting_ = 0;  // for lead_free_
  bool has_lookout_ = false;
  bool ending_ = false;
  int status_ = 0;
  std::vector<CallerAffinity*> affinities_;  // of those who serve, by their numbers
};

}  // namespace ephfs::fs
