// SPDX-License-Identifier: Apache-2.0
// One machine's wall clock in a world of many: another clock, with the wall time set wrong by as much as a
// test says. Boot time and timers are the other clock's. Thread-safe as that one is.
#pragma once

#include <atomic>

#include "core/clock.hpp"

namespace ephfs::testing {

class ShiftedClock final : public core::Clock {
 public:
  explicit ShiftedClock(core::Clock& base) : base_(base) {}

  /// How far ahead of the other clock the wall time is; negative: behind.
  void set_shift(core::Milliseconds shift) { shift_ms_ = shift.count(); }

  [[nodiscard]] core::Instant now() const override { return base_.now() + core::Milliseconds(shift_ms_); }
  [[nodiscard]] core::Boottime boot_now() const override { return base_.boot_now(); }
  [[nodiscard]] std::unique_ptr<core::Timer> call_at(boost::asio::any_io_executor executor, core::Boottime when,
                                                     std::function<void()> handler) override {
    return base_.call_at(std::move(executor), when, std::move(handler));
  }

 private:
  core::Clock& base_;
  std::atomic<std::int64_t> shift_ms_{0};
};

}  // namespace ephfs::testing
