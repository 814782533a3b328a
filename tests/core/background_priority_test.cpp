// SPDX-License-Identifier: Apache-2.0
#include "core/background_priority.hpp"

#include <fstream>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <sched.h>

#include "core/idle_policy.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::core {
namespace {

/// Its threads' policy is their own: each test is one.
class BackgroundPriorityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!may_leave_idle()) GTEST_SKIP() << "a thread may not come back from idle priority here";
    has_waited(0);
  }

  template <class Act>
  static void in_thread(Act act) {
    std::thread(act).join();
  }
  static int policy() { return ::sched_getscheduler(0); }
  void has_waited(std::int64_t ns) { std::ofstream(statistics) << "1000 " << ns << " 7\n"; }

  ::ephfs::testing::TempDir directory;
  const std::filesystem::path statistics = directory.path() / "schedstat";
  static constexpr std::int64_t kLong = BackgroundPriority::kPunctual.wait_max.count() + 1;
};

TEST_F(BackgroundPriorityTest, IsIdleAsLongAsItNeedNotWait) {
  in_thread([&] {
    BackgroundPriority priority(BackgroundPriority::kPunctual, statistics);
    EXPECT_EQ(policy(), SCHED_IDLE);
    for (int piece = 1; piece <= 1000; ++piece) {
      has_waited(piece * BackgroundPriority::kPunctual.wait_max.count());
      priority.look();
      ASSERT_EQ(policy(), SCHED_IDLE) << "each wait was short, however much they add up to";
    }
  });
}

TEST_F(BackgroundPriorityTest, TakesItsTurnForAWhileWhenItHadToWait) {
  in_thread([&] {
    BackgroundPriority priority(BackgroundPriority::kPunctual, statistics);
    has_waited(kLong);
    priority.look();
    for (int piece = 0; piece < BackgroundPriority::kPunctual.turns; ++piece) {
      ASSERT_EQ(policy(), SCHED_OTHER);
      has_waited(kLong * (piece + 2));
      priority.look();
    }
    EXPECT_EQ(policy(), SCHED_IDLE) << "what it waited meanwhile does not count";
    priority.look();
    EXPECT_EQ(policy(), SCHED_IDLE);
  });
}

TEST_F(BackgroundPriorityTest, StaysAsItWasWhereTheKernelDoesNotSayHowLongItWaited) {
  std::ofstream(statistics, std::ios::trunc) << "unknown\n";
  in_thread([&] {
    BackgroundPriority priority(BackgroundPriority::kPunctual, statistics);
    EXPECT_EQ(policy(), SCHED_OTHER);
    priority.look();
    EXPECT_EQ(policy(), SCHED_OTHER);
  });
  in_thread([&] {
    BackgroundPriority priority(BackgroundPriority::kPunctual, directory.path() / "none");
    EXPECT_EQ(policy(), SCHED_OTHER);
  });
}

TEST_F(BackgroundPriorityTest, UnderstandsWhatThisKernelSays) {
  in_thread([] {
    const BackgroundPriority priority;
    EXPECT_EQ(policy(), SCHED_IDLE);
  });
}

}  // namespace
}  // namespace ephfs::core
