// SPDX-License-Identifier: Apache-2.0
#include "fs/caller_affinity.hpp"

#include <array>
#include <future>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/files.hpp"
#include "core/idle_policy.hpp"

namespace ephfs::fs {
namespace {

constexpr pid_t kCaller = 4711, kOther = 4712;

class FakeSeat final : public Seat {
 public:
  bool has_request() override {
    ++looks;
    return is_there;
  }
  Joined join(pid_t caller) override {
    ++searches;
    if (!is_free) return Joined::impossible;
    if (is_joined && !moves) return Joined::was_there;
    joined.push_back(caller);
    is_joined = true;
    return Joined::moved;
  }
  void part() override { is_joined = false; }

  int looks = 0, searches = 0;
  bool is_there = true;  // the next request
  bool is_free = true;
  bool moves = false;  // the caller, from processor to processor
  bool is_joined = false;
  std::vector<pid_t> joined;  // and followed
};

class CallerAffinityTest : public ::testing::Test {
 protected:
  static constexpr int kWindow = CallerAffinity::kWindow;
  static constexpr CallerAffinity::Clock::duration kSoon = std::chrono::microseconds(10);

  /// A short request that is there when the thread comes to wait for one.
  void ask_at_once(pid_t caller = kCaller, CallerAffinity::Clock::duration after = kSoon) {
    ask(true, caller, true, after);
  }
  /// One for which the thread had to wait.
  void ask_later(pid_t caller = kCaller, CallerAffinity::Clock::duration after = kSoon) {
    ask(false, caller, true, after);
  }
  void ask_for_much(pid_t caller) { ask(true, caller, false, kSoon); }
  void ask(bool is_there, pid_t caller, bool is_short, CallerAffinity::Clock::duration after) {
    seat.is_there = is_there;
    affinity.await();
    now_ += after;
    affinity.took(caller, is_short, now_);
  }
  /// The first request of a caller begins a window, which is of those after it.
  void join(pid_t caller = kCaller) {
    for (int i = 0; i <= kWindow; ++i) {
      ASSERT_FALSE(seat.is_joined) << i;
      ask_later(caller);
    }
    ASSERT_TRUE(seat.is_joined);
    ASSERT_EQ(seat.joined.back(), caller);
  }
  void expect_rest() {
    ASSERT_FALSE(seat.is_joined);
    const int looks = seat.looks;
    for (int i = 0; i < CallerAffinity::kRespite; ++i) ask_later();
    ASSERT_FALSE(seat.is_joined);
    EXPECT_EQ(seat.looks, looks) << "who rests need not look";
    for (int i = 0; i < kWindow; ++i) ask_later();
    EXPECT_TRUE(seat.is_joined);
  }

  FakeSeat seat;
  CallerAffinity affinity{seat};

 private:
  CallerAffinity::Clock::time_point now_{};
};

TEST_F(CallerAffinityTest, JoinsWhomItWaitsForAgainAndAgain) {
  join();
  for (int i = 0; i < 10 * kWindow; ++i) ask_at_once();
  EXPECT_TRUE(seat.is_joined);
  EXPECT_EQ(seat.joined.size(), 1U);
}

TEST_F(CallerAffinityTest, NeedNotJoinWhoAsksAtOnceAnyway) {
  for (int i = 0; i < 10 * kWindow; ++i) i % 4 == 0 ? ask_later() : ask_at_once();
  EXPECT_TRUE(seat.joined.empty());
}

TEST_F(CallerAffinityTest, JoinsNobodyWhenSeveralAsk) {
  for (int i = 0; i < 10 * kWindow; ++i) ask_later(i % kWindow == 0 ? kOther : kCaller);
  EXPECT_TRUE(seat.joined.empty());
}

TEST_F(CallerAffinityTest, PartsWhenSomebodyElseAsks) {
  join();
  ask_at_once(kOther);
  EXPECT_FALSE(seat.is_joined);
  join(kCaller);
}

TEST_F(CallerAffinityTest, PartsWhenMuchIsAskedFor) {
  join();
  ask_for_much(kCaller);
  EXPECT_FALSE(seat.is_joined);
  join(kOther);
  ask_for_much(0);
  EXPECT_FALSE(seat.is_joined);
}

TEST_F(CallerAffinityTest, JoinsWhoSendsWhatNobodyWaitsForBeforeItAsks) {
  for (int i = 0; i <= kWindow; ++i) {
    ask_later(0);
    ask_at_once();
  }
  ASSERT_TRUE(seat.is_joined);
  seat.moves = true;
  for (int i = 0; i < CallerAffinity::kLookAfter; ++i) {
    ask_later(0);
    ask_at_once();
  }
  EXPECT_EQ(seat.joined.size(), 2U);
}

TEST_F(CallerAffinityTest, WhatNobodyWaitsForTellsNothing) {
  for (int i = 0; i <= kWindow; ++i) {
    ask_at_once(0);
    ask_later();
  }
  ASSERT_TRUE(seat.is_joined);
  ask_at_once(0);
  EXPECT_TRUE(seat.is_joined);
}

TEST_F(CallerAffinityTest, PartsWhenToldTo) {
  join();
  affinity.part();
  EXPECT_FALSE(seat.is_joined);
}

TEST_F(CallerAffinityTest, AnotherThreadMayPartIt) {
  join();
  std::thread([this] { affinity.part(); }).join();
  EXPECT_FALSE(seat.is_joined);
  for (int i = 0; i < kWindow; ++i) ask_later();
  EXPECT_TRUE(seat.is_joined);
}

TEST_F(CallerAffinityTest, PartsForARequestThatMustNotWait) {
  join();
  std::thread(part_from_caller).join();
  EXPECT_TRUE(seat.is_joined) << "it is another thread's";
  part_from_caller();
  EXPECT_FALSE(seat.is_joined);
}

TEST_F(CallerAffinityTest, FollowsWhoGoesToAnotherProcessor) {
  join();
  seat.moves = true;
  for (int i = 0; i < 10; ++i) {
    for (int j = 0; j < CallerAffinity::kLookAfter; ++j) ask_later();
    for (int j = 0; j < kWindow; ++j) ask_at_once();
  }
  EXPECT_TRUE(seat.is_joined);
  EXPECT_EQ(seat.joined.size(), 11U);
}

TEST_F(CallerAffinityTest, LooksForWhoWasLong) {
  join();
  seat.moves = true;
  ask_later(kCaller, CallerAffinity::kAwayMax + kSoon);
  EXPECT_TRUE(seat.is_joined);
  EXPECT_EQ(seat.joined.size(), 2U);
}

TEST_F(CallerAffinityTest, RestsWhenFollowingIsOfNoUse) {
  join();
  seat.moves = true;
  for (int i = 0; i < kWindow; ++i) ask_later();
  EXPECT_EQ(seat.joined.size(), 1U + CallerAffinity::kFollowsMax);
  expect_rest();
}

TEST_F(CallerAffinityTest, StaysWithWhoIsNotRunAtOnceWhenAnswered) {
  join();
  seat.searches = 0;
  for (int i = 0; i < 8 * kWindow; ++i) ask_later();
  EXPECT_TRUE(seat.is_joined);
  EXPECT_EQ(seat.searches, 3 + 7) << "looks for him after 2, 4, 8 and then each 16 more";
  // At last it finds him where he has gone, and looks soon again.
  seat.moves = true;
  seat.searches = 0;
  while (seat.searches == 0) ask_later();
  for (int i = 0; i < CallerAffinity::kLookAfter; ++i) ask_later();
  EXPECT_EQ(seat.searches, 2);
}

TEST_F(CallerAffinityTest, RestsWhenItWasKeptFromRunning) {
  join();
  ask_at_once(kCaller, CallerAffinity::kAwayMax + kSoon);
  expect_rest();
}

TEST_F(CallerAffinityTest, RestsWhereItMayNotJoin) {
  seat.is_free = false;
  for (int i = 0; i <= kWindow; ++i) ask_later();
  seat.is_free = true;
  expect_rest();
}

/// In a thread of its own, as its priority and processors are the thread's.
class SchedulerSeatTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!core::may_leave_idle()) GTEST_SKIP() << "a thread may not come back from idle priority here";
    ASSERT_EQ(::sched_getaffinity(0, sizeof all_, &all_), 0);
    if (CPU_COUNT(&all_) < 2) GTEST_SKIP() << "needs two processors";
  }
  template <class Act>
  static void in_thread(Act act) {
    std::thread(act).join();
  }
  static cpu_set_t processors() {
    cpu_set_t now{};
    EXPECT_EQ(::sched_getaffinity(0, sizeof now, &now), 0);
    return now;
  }
  static void restrict_to(unsigned processor) {
    cpu_set_t one{};
    CPU_SET(processor, &one);
    EXPECT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  }
  /// The processors that this process may use, in order.
  [[nodiscard]] std::vector<unsigned> allowed() const {
    std::vector<unsigned> out;
    for (unsigned i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &all_)) out.push_back(i);
    }
    return out;
  }

  cpu_set_t all_{};
};

TEST_F(SchedulerSeatTest, SitsWhereTheCallerRanAndGivesAllBack) {
  for (const unsigned processor : allowed()) {
    std::promise<pid_t> caller;
    std::promise<void> done;
    std::thread program([&] {
      restrict_to(processor);
      caller.set_value(::gettid());
      done.get_future().wait();
    });
    in_thread([&, number = caller.get_future().get()] {
      SchedulerSeat seat(-1);
      ASSERT_EQ(seat.join(number), Seat::Joined::moved);
      EXPECT_EQ(seat.join(number), Seat::Joined::was_there);
      cpu_set_t one{};
      CPU_SET(processor, &one);
      const cpu_set_t now = processors();
      EXPECT_TRUE(CPU_EQUAL(&now, &one));
      EXPECT_EQ(::sched_getscheduler(0), SCHED_IDLE);
      seat.part();
      const cpu_set_t after = processors();
      EXPECT_TRUE(CPU_EQUAL(&after, &all_));
      EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
      EXPECT_EQ(seat.join(number), Seat::Joined::moved);
    });
    done.set_value();
    program.join();
  }
}

TEST_F(SchedulerSeatTest, LeavesAloneWhereThisThreadMayNotBe) {
  std::promise<pid_t> caller;
  std::promise<void> done;
  const auto processors_allowed = allowed();
  std::thread program([&] {
    restrict_to(processors_allowed[0]);
    caller.set_value(::gettid());
    done.get_future().wait();
  });
  in_thread([&, number = caller.get_future().get()] {
    restrict_to(processors_allowed[1]);
    SchedulerSeat seat(-1);
    EXPECT_EQ(seat.join(number), Seat::Joined::impossible);
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
    const cpu_set_t now = processors();
    EXPECT_EQ(CPU_COUNT(&now), 1);
    EXPECT_TRUE(CPU_ISSET(processors_allowed[1], &now));
  });
  done.set_value();
  program.join();
}

TEST_F(SchedulerSeatTest, JoinsNobodyWhoIsGone) {
  in_thread([&] {
    pid_t gone = 0;
    in_thread([&] { gone = ::gettid(); });
    SchedulerSeat seat(-1);
    EXPECT_EQ(seat.join(gone), Seat::Joined::impossible);
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
  });
}

TEST_F(SchedulerSeatTest, SeesRequests) {
  const core::FileDescriptor requests(::eventfd(0, EFD_CLOEXEC));
  SchedulerSeat seat(requests.get());
  EXPECT_FALSE(seat.has_request());
  ASSERT_EQ(::eventfd_write(requests.get(), 1), 0);
  EXPECT_TRUE(seat.has_request());
}

}  // namespace
}  // namespace ephfs::fs
