// SPDX-License-Identifier: Apache-2.0
// A Clock whose time passes only when a run_ function says so. It drives one io_context: everything that is
// ready runs, then time jumps to the next timer, so hours pass in milliseconds and two runs of one seed are
// the same run.
//
// Timers fire in the order of (time, order of call_at), each with everything it sets off run to its end
// before the next. now(), boot_now(), call_at() and cancel() are thread-safe; the run_ functions belong to
// one thread, which is then the only one to run the context. Work on other threads (a thread pool) is not
// waited for.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "core/check.hpp"
#include "core/clock.hpp"

namespace ephfs::testing {

class VirtualClock final : public core::Clock {
 public:
  /// 2026-01-01T00:00:00Z, an hour after boot.
  static constexpr core::Instant kDefaultWall{1'767'225'600'000};
  static constexpr core::Boottime kDefaultBoot{3'600'000'000'000};

  explicit VirtualClock(boost::asio::io_context& context, core::Instant wall = kDefaultWall,
                        core::Boottime boot = kDefaultBoot);
  ~VirtualClock() override;
  VirtualClock(const VirtualClock&) = delete;
  VirtualClock& operator=(const VirtualClock&) = delete;

  [[nodiscard]] core::Instant now() const override;
  [[nodiscard]] core::Boottime boot_now() const override;
  [[nodiscard]] std::unique_ptr<core::Timer> call_at(boost::asio::any_io_executor executor, core::Boottime when,
                                                     std::function<void()> handler) override;

  /// Sets the wall clock, as an administrator or NTP would; boot time and timers do not notice.
  void set_wall(core::Instant wall);

  /// Runs what is ready now, without letting time pass.
  void settle();
  /// Runs everything up to and including `until`, which is then the time.
  void run_until(core::Boottime until);
  void run_for(core::Nanoseconds span) { run_until(boot_now() + span); }
  /// Runs until no timer is left, or stops before the first timer later than `at_most` from now. Whether none
  /// is left.
  bool run_until_idle(core::Nanoseconds at_most = std::chrono::hours{24});
  /// Runs until `done()`, looked at after each timer and what it set off; false when that takes more than
  /// `at_most`, or when nothing is left that could make it true.
  bool run_while_not(const std::function<bool()>& done, core::Nanoseconds at_most = std::chrono::hours{24});

  /// Runs `task` on the context to its end and gives its value (true for awaitable<void>): empty or false
  /// when it has not ended within `at_most`. It then still waits, and leaks if nothing ever ends its wait.
  template <class T>
  auto run(boost::asio::awaitable<T> task, core::Nanoseconds at_most = std::chrono::hours{24}) {
    using Value = std::conditional_t<std::is_void_v<T>, bool, T>;
    const auto value = std::make_shared<std::optional<Value>>();
    auto body = fill(std::move(task), value);
    boost::asio::co_spawn(context_, std::move(body), [](const std::exception_ptr& thrown) {
      if (thrown) std::rethrow_exception(thrown);
    });
    run_while_not([&] { return value->has_value(); }, at_most);
    if constexpr (std::is_void_v<T>) {
      return value->has_value();
    } else {
      return std::move(*value);
    }
  }

 private:
  struct Queue;
  class QueuedTimer;

  template <class T, class Value>
  static boost::asio::awaitable<void> fill(boost::asio::awaitable<T> task,
                                           std::shared_ptr<std::optional<Value>> value) {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(task);
      value->emplace(true);
    } else {
      value->emplace(co_await std::move(task));
    }
  }
  // Moves to the earliest timer if it is not later than `limit`, and fires it. False when there is none.
  bool fire_next(core::Boottime limit);

  boost::asio::io_context& context_;
  std::shared_ptr<Queue> queue_;
};

}  // namespace ephfs::testing
