// SPDX-License-Identifier: Apache-2.0
// Where events come from and go to: each is one line of JSON, given to everybody who listens then. A listener holds at
// most kEventsHeldMax lines that it has not taken; past that the oldest are dropped, and it is told how many. Nothing
// is kept for those who listen later. Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace ephfs::node {

constexpr std::size_t kEventListenersMax = 8;
constexpr std::size_t kEventsHeldMax = 1024;

class EventHub {
 public:
  /// Listens until it is destroyed.
  class Listener {
   public:
    explicit Listener(std::function<void()> wake) : wake_(std::move(wake)) {}

   private:
    friend class EventHub;
    const std::function<void()> wake_;
    std::deque<std::string> lines_;  // guarded by the hub's mutex
    std::uint64_t lost_ = 0;
  };

  /// Null when there are kEventListenersMax. `wake` is called after an event came, from whatever thread publishes it;
  /// it returns at once and calls nothing of the hub.
  [[nodiscard]] std::shared_ptr<Listener> listen(std::function<void()> wake);
  /// `line` is without its end.
  void publish(const std::string& line);
  /// What came since the last time, in order; in front of it {"event":"lost","count":N} when that was too much.
  [[nodiscard]] std::vector<std::string> take(Listener& listener);
  [[nodiscard]] bool has_listeners() const;
  void wake_all();

 private:
  [[nodiscard]] std::vector<std::shared_ptr<Listener>> present_locked() const;

  mutable std::mutex mutex_;
  std::vector<std::weak_ptr<Listener>> listeners_;
};

}  // namespace ephfs::node
