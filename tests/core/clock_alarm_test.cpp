// SPDX-License-Identifier: Apache-2.0
// That the alarm tells is the kernel's doing, and setting this machine's clock is no test's business: what is tested is
// that it begins and ends.
#include "core/clock_alarm.hpp"

#include <gtest/gtest.h>

namespace ephfs::core {
namespace {

TEST(ClockAlarmTest, SaysNothingWhileNobodySetsTheClockAndEndsAtOnce) {
  std::atomic<int> told{0};
  for (int i = 0; i < 10; ++i) {
    auto alarm = ClockAlarm::start([&told] { ++told; });
    ASSERT_TRUE(alarm) << alarm.error();
  }
  EXPECT_EQ(told, 0);
}

}  // namespace
}  // namespace ephfs::core
