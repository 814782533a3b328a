// SPDX-License-Identifier: Apache-2.0
#include "tests/support/virtual_clock.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/async.hpp"

namespace ephfs::testing {
namespace {

using core::Boottime;
using core::Instant;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

class VirtualClockTest : public ::testing::Test {
 protected:
  boost::asio::io_context context_;
  VirtualClock clock_{context_};
  const Boottime start_ = clock_.boot_now();
};

TEST_F(VirtualClockTest, TimersOfOneMomentFireInTheOrderTheyWereSet) {
  std::string order;
  std::vector<std::unique_ptr<core::Timer>> timers;
  for (const char name : {'a', 'b', 'c', 'd'}) {
    timers.push_back(clock_.call_at(context_.get_executor(), start_ + seconds{1}, [&order, name] { order += name; }));
  }
  clock_.run_for(seconds{1});
  EXPECT_EQ(order, "abcd");
}

TEST_F(VirtualClockTest, WhatATimerSetsOffRunsBeforeTheNextTimer) {
  std::string order;
  const auto first = clock_.call_at(context_.get_executor(), start_ + seconds{1}, [&] {
    order += "1";
    boost::asio::post(context_, [&] {
      order += "2";
      boost::asio::post(context_, [&] { order += "3"; });
    });
  });
  const auto second = clock_.call_at(context_.get_executor(), start_ + seconds{1}, [&] { order += "4"; });
  clock_.run_for(seconds{1});
  EXPECT_EQ(order, "1234");
}

TEST_F(VirtualClockTest, RunUntilReachesItsTimeExactlyAndNoTimerBehindIt) {
  bool at = false;
  bool behind = false;
  const auto on_time = clock_.call_at(context_.get_executor(), start_ + seconds{2}, [&] { at = true; });
  const auto later =
      clock_.call_at(context_.get_executor(), start_ + seconds{2} + core::Nanoseconds{1}, [&] { behind = true; });
  clock_.run_until(start_ + seconds{2});
  EXPECT_TRUE(at);
  EXPECT_FALSE(behind);
  EXPECT_EQ(clock_.boot_now(), start_ + seconds{2});
}

TEST_F(VirtualClockTest, WallTimeFollowsBootTimeUntilItIsSet) {
  const Instant wall = clock_.now();
  clock_.run_for(milliseconds{1500});
  EXPECT_EQ(clock_.now(), wall + milliseconds{1500});

  bool fired = false;
  const auto timer = clock_.call_at(context_.get_executor(), start_ + seconds{10}, [&] { fired = true; });
  clock_.set_wall(wall - hours{1});
  EXPECT_EQ(clock_.boot_now(), start_ + milliseconds{1500});
  clock_.run_until(start_ + seconds{10});
  EXPECT_TRUE(fired);
  EXPECT_EQ(clock_.now(), wall - hours{1} + milliseconds{8500});
}

TEST_F(VirtualClockTest, RunUntilIdleStopsAtItsLimit) {
  int ticks = 0;
  std::unique_ptr<core::Timer> timer;
  std::function<void()> tick = [&] {
    ++ticks;
    timer = clock_.call_at(context_.get_executor(), clock_.boot_now() + seconds{1}, tick);
  };
  tick();
  EXPECT_FALSE(clock_.run_until_idle(seconds{60}));
  EXPECT_EQ(ticks, 61);
  timer.reset();
  EXPECT_TRUE(clock_.run_until_idle(seconds{60}));
}

TEST_F(VirtualClockTest, RunGivesACoroutinesValueAndTakesNoRealTime) {
  auto sleep_and_add = [](core::Clock& clock, int a, int b) -> core::awaitable<int> {
    co_await core::sleep_for(clock, hours{5});
    co_return a + b;
  };
  EXPECT_EQ(clock_.run(sleep_and_add(clock_, 2, 3)), 5);
  EXPECT_EQ(clock_.boot_now(), start_ + hours{5});
  EXPECT_TRUE(clock_.run(core::sleep_for(clock_, seconds{1})));
}

TEST_F(VirtualClockTest, RunGivesNothingForWhatDoesNotEndInTime) {
  EXPECT_FALSE(clock_.run(core::sleep_for(clock_, hours{2}), hours{1}));
  const core::Mailbox<int> mailbox;
  EXPECT_EQ(clock_.run(mailbox.receive(), hours{1}), std::nullopt);
  // Both are still waiting, and end when what they wait for comes.
  mailbox.post(1);
  EXPECT_TRUE(clock_.run_until_idle(hours{3}));
  EXPECT_EQ(mailbox.try_receive(), std::nullopt);
}

TEST_F(VirtualClockTest, ATimerMayOutliveItsClock) {
  std::unique_ptr<core::Timer> timer;
  {
    VirtualClock brief(context_);
    timer = brief.call_at(context_.get_executor(), brief.boot_now() + seconds{1}, [] {});
  }
  timer->cancel();
}

}  // namespace
}  // namespace ephfs::testing
