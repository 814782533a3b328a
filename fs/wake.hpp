// SPDX-License-Identifier: Apache-2.0
// Waking: one coroutine that sleeps until there is work (Wake), and any number that wait for a change (Broadcast). A
// notification is remembered, never counted; whoever is woken looks at the state again. Thread-safe.
#pragma once

#include <atomic>
#include <limits>
#include <list>
#include <memory>
#include <mutex>
#include <optional>

#include "core/async.hpp"
#include "core/clock.hpp"

namespace ephfs::fs {

class Wake {
 public:
  void notify() {
    if (!pending_.exchange(true)) mailbox_.post('w');
  }
  /// The same for what can wait until `when`: nobody is woken who wakes up by then anyway.
  void notify_by(core::Boottime when) {
    if (asleep_until_ns_ > when.ns) notify();
  }
  /// Resumes at the next notification (or the one that came before), or at `until`. One waiter at a time.
  [[nodiscard]] core::awaitable<void> wait(core::Clock& clock, std::optional<core::Boottime> until) {
    if (until) {
      asleep_until_ns_ = until->ns;
      (void)co_await mailbox_.receive_until(clock, *until);
    } else {
      (void)co_await mailbox_.receive();
    }
    // Whoever read the value before this has changed what is looked at next.
    asleep_until_ns_ = kUntilNotified;
    while (mailbox_.try_receive()) {
    }
    pending_ = false;
  }

 private:
  static constexpr std::int64_t kUntilNotified = std::numeric_limits<std::int64_t>::max();

  std::atomic<bool> pending_{false};
  std::atomic<std::int64_t> asleep_until_ns_{kUntilNotified};  // also while the waiter is awake
  core::Mailbox<char> mailbox_;
};

class Broadcast {
 public:
  using Listener = std::shared_ptr<Wake>;

  /// Subscribe first, then look at the state, then wait. Letting the listener go ends the subscription.
  [[nodiscard]] Listener subscribe() {
    auto listener = std::make_shared<Wake>();
    const std::lock_guard lock(mutex_);
    std::erase_if(listeners_, [](const std::weak_ptr<Wake>& one) { return one.expired(); });
    listeners_.push_back(listener);
    return listener;
  }
  void notify_all() {
    std::list<std::weak_ptr<Wake>> listeners;
    {
      const std::lock_guard lock(mutex_);
      listeners = listeners_;
    }
    for (const auto& one : listeners) {
      if (const auto listener = one.lock()) listener->notify();
    }
  }

 private:
  std::mutex mutex_;
  std::list<std::weak_ptr<Wake>> listeners_;
};

}  // namespace ephfs::fs
