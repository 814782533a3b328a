// SPDX-License-Identifier: Apache-2.0
// What every Clock promises, asked of the machine's and of the tests' own.
#include "core/clock.hpp"

#include <thread>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <gtest/gtest.h>

#include "tests/support/virtual_clock.hpp"

namespace ephfs::core::testing {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

struct SystemHarness {
  asio::io_context context;
  SystemClock clock;

  // A context stops when its last work ends: here, another thread's timer, before anybody runs it.
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(context);

  void run_until_true(const std::function<bool()>& done) {
    while (!done()) context.run_one();
  }
};

struct VirtualHarness {
  asio::io_context context;
  ephfs::testing::VirtualClock clock{context};

  void run_until_true(const std::function<bool()>& done) { EXPECT_TRUE(clock.run_while_not(done)); }
};

template <class Harness>
class ClockContract : public ::testing::Test {
 protected:
  [[nodiscard]] Boottime in(milliseconds span) { return clock().boot_now() + span; }
  Clock& clock() { return harness_.clock; }
  asio::any_io_executor executor() { return harness_.context.get_executor(); }
  void run_until_true(const std::function<bool()>& done) { harness_.run_until_true(done); }

  Harness harness_;
};

using Clocks = ::testing::Types<SystemHarness, VirtualHarness>;
TYPED_TEST_SUITE(ClockContract, Clocks);

TYPED_TEST(ClockContract, DoesNotRunAHandlerInline) {
  bool ran = false;
  const auto timer = this->clock().call_at(this->executor(), this->in(milliseconds{-5}), [&] { ran = true; });
  EXPECT_FALSE(ran);
  this->run_until_true([&] { return ran; });
}

TYPED_TEST(ClockContract, RunsAHandlerOnceAndNotEarly) {
  const Boottime when = this->in(milliseconds{5});
  int runs = 0;
  Boottime ran_at{};
  const auto timer = this->clock().call_at(this->executor(), when, [&] {
    ++runs;
    ran_at = this->clock().boot_now();
  });
  bool later = false;
  const auto after = this->clock().call_at(this->executor(), this->in(milliseconds{10}), [&] { later = true; });
  this->run_until_true([&] { return later; });
  EXPECT_EQ(runs, 1);
  EXPECT_GE(ran_at, when);
}

TYPED_TEST(ClockContract, FiresInTheOrderOfTime) {
  std::vector<int> order;
  const auto third = this->clock().call_at(this->executor(), this->in(milliseconds{9}), [&] { order.push_back(3); });
  const auto first = this->clock().call_at(this->executor(), this->in(milliseconds{3}), [&] { order.push_back(1); });
  const auto second = this->clock().call_at(this->executor(), this->in(milliseconds{6}), [&] { order.push_back(2); });
  this->run_until_true([&] { return order.size() == 3; });
  EXPECT_EQ(order, (std::vector{1, 2, 3}));
}

TYPED_TEST(ClockContract, DoesNotFireWhatWasCancelledOrDestroyed) {
  bool cancelled_ran = false;
  bool destroyed_ran = false;
  bool later = false;
  const auto cancelled =
      this->clock().call_at(this->executor(), this->in(milliseconds{2}), [&] { cancelled_ran = true; });
  auto destroyed = this->clock().call_at(this->executor(), this->in(milliseconds{2}), [&] { destroyed_ran = true; });
  const auto last = this->clock().call_at(this->executor(), this->in(milliseconds{8}), [&] { later = true; });
  cancelled->cancel();
  cancelled->cancel();
  destroyed.reset();
  this->run_until_true([&] { return later; });
  EXPECT_FALSE(cancelled_ran);
  EXPECT_FALSE(destroyed_ran);
}

TYPED_TEST(ClockContract, ReleasesWhatACancelledHandlerHolds) {
  auto held = std::make_shared<int>(1);
  const auto timer =
      this->clock().call_at(this->executor(), this->in(std::chrono::hours{1}), [copy = held] { (void)copy; });
  EXPECT_EQ(held.use_count(), 2);
  timer->cancel();
  this->run_until_true([&] { return held.use_count() == 1; });
}

TYPED_TEST(ClockContract, AHandlerMayCancelItsOwnTimerAndSetAnother) {
  std::unique_ptr<Timer> timer;
  int runs = 0;
  std::function<void()> again = [&] {
    timer->cancel();
    if (++runs < 3) timer = this->clock().call_at(this->executor(), this->in(milliseconds{1}), again);
  };
  timer = this->clock().call_at(this->executor(), this->in(milliseconds{1}), again);
  this->run_until_true([&] { return runs == 3; });
  EXPECT_EQ(runs, 3);
}

TYPED_TEST(ClockContract, RunsHandlersOnTheExecutorGiven) {
  const auto strand = asio::make_strand(this->executor());
  bool ran = false;
  bool on_strand = false;
  const auto timer = this->clock().call_at(strand, this->in(milliseconds{1}), [&] {
    on_strand = strand.running_in_this_thread();
    ran = true;
  });
  this->run_until_true([&] { return ran; });
  EXPECT_TRUE(on_strand);
}

TYPED_TEST(ClockContract, TimersMayBeMadeAndCancelledFromAnyThread) {
  bool ran = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        const auto timer =
            this->clock().call_at(this->executor(), this->in(std::chrono::hours{1}), [&] { ran = true; });
        (void)this->clock().now();
      }
    });
  }
  bool later = false;
  const auto last = this->clock().call_at(this->executor(), this->in(milliseconds{5}), [&] { later = true; });
  for (auto& thread : threads) thread.join();
  this->run_until_true([&] { return later; });
  EXPECT_FALSE(ran);
}

TYPED_TEST(ClockContract, BootTimeDoesNotRunBack) {
  Boottime last = this->clock().boot_now();
  for (int i = 0; i < 1000; ++i) {
    const Boottime next = this->clock().boot_now();
    ASSERT_GE(next, last);
    last = next;
  }
}

}  // namespace
}  // namespace ephfs::core::testing
