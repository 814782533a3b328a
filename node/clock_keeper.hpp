// SPDX-License-Identifier: Apache-2.0
// Looks after a process's GuardedClock: once a second it looks whether the time was set, once a minute it
// hears what the kernel says of it, and while the clock is held it asks the kernel at every look and the
// peers every half minute.
#pragma once

#include <atomic>
#include <functional>
#include <optional>

#include "core/guarded_clock.hpp"
#include "net/peer.hpp"

namespace ephfs::node {

using core::awaitable;

class ClockKeeper {
 public:
  /// The kernel's time, if it says it is synchronized: core::synchronized_kernel_time, or a test's.
  using KernelTime = std::function<std::optional<core::Instant>()>;

  /// All of it is used until stop() has been awaited.
  ClockKeeper(core::GuardedClock& clock, const net::PeerDirectory& peers, core::asio::any_io_executor executor,
              KernelTime kernel);
  ClockKeeper(const ClockKeeper&) = delete;
  ClockKeeper& operator=(const ClockKeeper&) = delete;

  void start();
  /// The wall clock was set, or may have been: it looks now. Any thread.
  void look_now() { wake_.post('l'); }
  /// Resumes when the keeper is at rest for good. Without start() at once.
  [[nodiscard]] awaitable<void> stop();

 private:
  [[nodiscard]] awaitable<void> run();
  [[nodiscard]] awaitable<void> ask_peers();

  core::GuardedClock& clock_;
  const net::PeerDirectory& peers_;
  const core::asio::any_io_executor executor_;
  const KernelTime kernel_;
  std::stop_source stopping_;
  core::Mailbox<char> wake_;
  core::TaskGroup tasks_;
};

}  // namespace ephfs::node
