// SPDX-License-Identifier: Apache-2.0
#include "core/clock.hpp"

#include "core/kernel_time.hpp"
#include "core/timer_thread.hpp"

namespace ephfs::core {

SystemClock::SystemClock() : timers_(std::make_shared<TimerThread>()) {}

SystemClock::~SystemClock() {
  timers_->stop();
}

Instant SystemClock::now() const {
  return {read_kernel_clock_ns(CLOCK_REALTIME) / 1'000'000};
}

std::int64_t SystemClock::file_time_ns() const {
  return read_kernel_clock_ns(CLOCK_REALTIME_COARSE);
}

Boottime SystemClock::boot_now() const {
  return {read_kernel_clock_ns(CLOCK_BOOTTIME)};
}

std::unique_ptr<Timer> SystemClock::call_at(boost::asio::any_io_executor executor, Boottime when,
                                            std::function<void()> handler) {
  return TimerThread::set(timers_, std::move(executor), when, std::move(handler));
}

}  // namespace ephfs::core
