// SPDX-License-Identifier: Apache-2.0
// The Clock seam: every reading of time and every timer of the program goes through here, so that tests run hours in
// milliseconds. SystemClock is the machine's; tests/support has the virtual one. Thread-safe.
#pragma once

#include <functional>
#include <memory>

#include <boost/asio/any_io_executor.hpp>

#include "core/time.hpp"

namespace ephfs::core {

/// A timer that was started. Destroying it, or cancel(), stops it; a handler already under way is not waited for.
class Timer {
 public:
  virtual ~Timer() = default;
  virtual void cancel() = 0;
};

class Clock {
 public:
  virtual ~Clock() = default;

  /// Wall time.
  [[nodiscard]] virtual Instant now() const = 0;
  /// Wall time as far as it is confirmed: at most now(). What died by now() is refused; what died by this is destroyed.
  [[nodiscard]] virtual Instant confirmed_now() const { return now(); }
  /// confirmed_now() for who is about to destroy by it: written down first, so that no restart goes back behind it.
  [[nodiscard]] virtual Instant destruction_now() { return confirmed_now(); }
  /// Wall time as files carry it, in nanoseconds since the epoch: now(), where nothing finer is known.
  [[nodiscard]] virtual std::int64_t file_time_ns() const { return now().ms * 1'000'000; }
  /// Time since boot, suspension included.
  [[nodiscard]] virtual Boottime boot_now() const = 0;
  /// Runs `handler` once on `executor`, at `when` or as soon after as the executor is free. Never runs it inline.
  [[nodiscard]] virtual std::unique_ptr<Timer> call_at(boost::asio::any_io_executor executor, Boottime when,
                                                       std::function<void()> handler) = 0;
};

class TimerThread;

/// The machine's clocks: CLOCK_REALTIME and CLOCK_BOOTTIME. The first timer starts a thread that watches them all, so
/// that the many which are set and soon cancelled cost neither the kernel nor an executor anything.
class SystemClock final : public Clock {
 public:
  SystemClock();
  ~SystemClock() override;
  SystemClock(const SystemClock&) = delete;
  SystemClock& operator=(const SystemClock&) = delete;

  [[nodiscard]] Instant now() const override;
  /// The time of the last tick, by which the kernel itself stamps files: what it writes to in the tick in which it was
  /// made has the same time, and nothing is left to be told.
  [[nodiscard]] std::int64_t file_time_ns() const override;
  [[nodiscard]] Boottime boot_now() const override;
  [[nodiscard]] std::unique_ptr<Timer> call_at(boost::asio::any_io_executor executor, Boottime when,
                                               std::function<void()> handler) override;

 private:
  const std::shared_ptr<TimerThread> timers_;
};

}  // namespace ephfs::core
