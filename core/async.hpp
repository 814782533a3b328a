// SPDX-License-Identifier: Apache-2.0
// The few coroutine idioms that everything above uses, so that each is right in one place: waiting on the Clock, a
// mailbox between tasks, and a counted group of tasks that is joined. No mutex is held across a co_await, parameters
// are taken by value, nothing is detached outside a TaskGroup.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/defer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "core/check.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"

namespace ephfs::core {

namespace asio = boost::asio;
using asio::awaitable;

/// Suspends the calling coroutine and hands `start` a function that resumes it: from any thread, exactly once. Called
/// by a coroutine, that function resumes the other once the calling one suspends: who has much left to do yields first.
template <class Start>
awaitable<void> suspend(Start start) {
  return asio::async_initiate<const asio::use_awaitable_t<>, void()>(
      [start = std::move(start)](auto handler) mutable {
        auto executor = asio::get_associated_executor(handler);
        auto shared = std::make_shared<decltype(handler)>(std::move(handler));
        start(
            std::function<void()>([executor, shared] { asio::defer(executor, [shared] { std::move (*shared)(); }); }));
      },
      asio::use_awaitable);
}

/// Lets run what waits for the calling coroutine's thread.
inline awaitable<void> yield() {
  co_await asio::defer(asio::use_awaitable);
}

/// A queue from any number of senders (any thread) to one receiver at a time (a coroutine). Copies share the queue.
/// Unbounded in itself: the senders are, so use it where their number has a bound.
template <class T>
class Mailbox {
 public:
  void post(T letter) const {
    std::function<void()> wake;
    {
      const std::lock_guard lock(state_->mutex);
      state_->letters.push_back(std::move(letter));
      wake = std::exchange(state_->wake, nullptr);
    }
    if (wake) wake();
  }

  /// The next letter if one is there.
  [[nodiscard]] std::optional<T> try_receive() const {
    const std::lock_guard lock(state_->mutex);
    return state_->pop();
  }

  /// The next letter, or none when `until` comes first.
  [[nodiscard]] awaitable<std::optional<T>> receive_until(Clock& clock, Boottime until) const {
    auto state = state_;
    auto executor = co_await asio::this_coro::executor;
    const auto timer = clock.call_at(executor, until, [state] { state->wake_receiver(); });
    for (;;) {
      if (auto letter = state->locked_pop()) co_return letter;
      if (clock.boot_now() >= until) co_return std::nullopt;
      co_await state->wait();
    }
  }

  /// The next letter, however long it takes: only where the sender is certain to send.
  [[nodiscard]] awaitable<T> receive() const {
    auto state = state_;
    for (;;) {
      if (auto letter = state->locked_pop()) co_return std::move(*letter);
      co_await state->wait();
    }
  }

 private:
  struct State {
    std::mutex mutex;
    std::deque<T> letters;
    std::function<void()> wake;
    bool woken = false;  // the timer fired while nobody waited

    std::optional<T> pop() {
      if (letters.empty()) return std::nullopt;
      std::optional<T> letter(std::move(letters.front()));
      letters.pop_front();
      return letter;
    }
    std::optional<T> locked_pop() {
      const std::lock_guard lock(mutex);
      return pop();
    }
    void wake_receiver() {
      std::function<void()> run;
      {
        const std::lock_guard lock(mutex);
        run = std::exchange(wake, nullptr);
        woken = !run;
      }
      if (run) run();
    }
    awaitable<void> wait() {
      return suspend([this](std::function<void()> resume) {
        {
          const std::lock_guard lock(mutex);
          if (letters.empty() && !woken) {
            EPHFS_CHECK(!wake, "a mailbox has one receiver at a time");
            wake = std::move(resume);
            return;
          }
          woken = false;
        }
        resume();
      });
    }
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

/// Waits until `when`.
inline awaitable<void> sleep_until(Clock& clock, Boottime when) {
  const Mailbox<char> never;
  (void)co_await never.receive_until(clock, when);
}
inline awaitable<void> sleep_for(Clock& clock, Nanoseconds span) {
  return sleep_until(clock, clock.boot_now() + span);
}

/// Tasks that belong together: counted, and joined before what they use is destroyed. Thread-safe.
class TaskGroup {
 public:
  TaskGroup() = default;
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  /// Starts `task` on `executor`. It must not throw.
  void spawn(const asio::any_io_executor& executor, std::function<awaitable<void>()> task);
  [[nodiscard]] std::size_t running() const;
  /// Resumes when no task is left. New ones may be spawned meanwhile and are waited for too.
  [[nodiscard]] awaitable<void> join();
  /// The same for a thread that runs no coroutine and no executor of these tasks.
  void wait();

 private:
  struct State;
  std::shared_ptr<State> state_ = make_state();
  static std::shared_ptr<State> make_state();
};

}  // namespace ephfs::core
