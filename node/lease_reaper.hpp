// SPDX-License-Identifier: Apache-2.0
// Deletes every shard at its deadline, with or without its owner. It sleeps until the next deadline, is woken early by
// a lease that ends before that, and otherwise does nothing. Deadlines are compared with confirmed time. Naps are
// bounded, and look_again() ends one when the clock is set. Between batches other disk work gets its turn. When nothing
// is left to delete it settles what was deleted, by itself or at the owner's order: signs receipts, many at once.
#pragma once

#include "node/local_peer.hpp"

namespace ephfs::node {

class LeaseReaper {
 public:
  /// Becomes the peer's deadline listener. Waits on `executor`, deletes on `disk`.
  LeaseReaper(LocalPeer& peer, core::Clock& clock, core::asio::any_io_executor executor,
              core::asio::any_io_executor disk);
  LeaseReaper(const LeaseReaper&) = delete;
  LeaseReaper& operator=(const LeaseReaper&) = delete;

  void start();
  /// Resumes when the reaper is at rest for good. The peer outlives that.
  [[nodiscard]] awaitable<void> stop();
  /// The clock was set, or is confirmed. Any thread.
  void look_again();

 private:
  enum class Letter : char { look_again };

  [[nodiscard]] awaitable<void> run();
  [[nodiscard]] awaitable<LocalPeer::Reaped> reap();
  [[nodiscard]] awaitable<Result<std::size_t>> settle();
  [[nodiscard]] awaitable<bool> rest_after(Result<> outcome, bool any_done);
  void wake_for(core::Deadline deadline);

  LocalPeer& peer_;
  core::Clock& clock_;
  const core::asio::any_io_executor executor_;
  const core::asio::any_io_executor disk_;
  // The deadline it sleeps towards; the least value while it is awake, when nobody needs to wake it.
  std::atomic<std::int64_t> asleep_until_;
  std::atomic<bool> stopping_{false};
  bool failed_before_ = false;  // of the task
  core::Mailbox<Letter> mailbox_;
  core::TaskGroup task_;
};

}  // namespace ephfs::node
