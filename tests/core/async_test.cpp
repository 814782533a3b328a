// SPDX-License-Identifier: Apache-2.0
#include "core/async.hpp"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <gtest/gtest.h>

#include "tests/support/virtual_clock.hpp"

namespace ephfs::core::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class AsyncTest : public ::testing::Test {
 protected:
  // Posts `letter` after `span`; the timer has to be kept.
  [[nodiscard]] std::unique_ptr<Timer> post_after(milliseconds span, const Mailbox<int>& mailbox, int letter) {
    return clock_.call_at(context_.get_executor(), clock_.boot_now() + span,
                          [mailbox, letter] { mailbox.post(letter); });
  }

  asio::io_context context_;
  ephfs::testing::VirtualClock clock_{context_};
  const Boottime start_ = clock_.boot_now();
};

TEST_F(AsyncTest, AMailboxKeepsTheOrderOfItsLetters) {
  const Mailbox<int> mailbox;
  for (int i = 0; i < 3; ++i) mailbox.post(i);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(mailbox.try_receive(), i);
  EXPECT_EQ(mailbox.try_receive(), std::nullopt);
}

TEST_F(AsyncTest, ALetterThatIsThereIsReceivedAtOnce) {
  const Mailbox<int> mailbox;
  mailbox.post(7);
  EXPECT_EQ(clock_.run(mailbox.receive_until(clock_, start_ + seconds{10})), 7);
  EXPECT_EQ(clock_.boot_now(), start_);
}

TEST_F(AsyncTest, ALetterEndsTheWaitWhenItArrives) {
  const Mailbox<int> mailbox;
  const auto timer = post_after(milliseconds{1234}, mailbox, 7);
  EXPECT_EQ(clock_.run(mailbox.receive_until(clock_, start_ + seconds{10})), 7);
  EXPECT_EQ(clock_.boot_now(), start_ + milliseconds{1234});
}

TEST_F(AsyncTest, AWaitEndsAtItsTimeExactlyWithNothing) {
  const Mailbox<int> mailbox;
  const auto late = post_after(seconds{10} + milliseconds{1}, mailbox, 7);
  const auto received = clock_.run(mailbox.receive_until(clock_, start_ + seconds{10}));
  ASSERT_TRUE(received.has_value());
  EXPECT_EQ(*received, std::nullopt);
  EXPECT_EQ(clock_.boot_now(), start_ + seconds{10});
  // The letter that came too late is there for the next receiver.
  EXPECT_EQ(clock_.run(mailbox.receive_until(clock_, start_ + seconds{20})), 7);
  EXPECT_EQ(clock_.boot_now(), start_ + seconds{10} + milliseconds{1});
}

TEST_F(AsyncTest, AWaitThatIsOverBeforeItBeginsStillTakesWhatIsThere) {
  const Mailbox<int> mailbox;
  mailbox.post(1);
  EXPECT_EQ(clock_.run(mailbox.receive_until(clock_, start_ + seconds{-1})), 1);
  const auto second = clock_.run(mailbox.receive_until(clock_, start_ + seconds{-1}));
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(*second, std::nullopt);
}

TEST_F(AsyncTest, AReceiverThatTimedOutLeavesNothingThatDisturbsTheNext) {
  const Mailbox<int> mailbox;
  auto receive_twice = [](Clock& clock, Mailbox<int> box, Boottime first, Boottime second) -> awaitable<std::string> {
    const auto one = co_await box.receive_until(clock, first);
    const auto two = co_await box.receive_until(clock, second);
    co_return std::string(one ? "letter" : "nothing") + " " + (two ? "letter" : "nothing");
  };
  const auto timer = post_after(seconds{3}, mailbox, 1);
  EXPECT_EQ(clock_.run(receive_twice(clock_, mailbox, start_ + seconds{1}, start_ + seconds{5})), "nothing letter");
  EXPECT_EQ(clock_.boot_now(), start_ + seconds{3});
}

TEST_F(AsyncTest, SleepTakesExactlyItsTime) {
  EXPECT_TRUE(clock_.run(sleep_for(clock_, milliseconds{250})));
  EXPECT_EQ(clock_.boot_now(), start_ + milliseconds{250});
  EXPECT_TRUE(clock_.run(sleep_until(clock_, start_)));
  EXPECT_EQ(clock_.boot_now(), start_ + milliseconds{250});
}

TEST_F(AsyncTest, JoinWaitsForEveryTaskAndForThoseSpawnedMeanwhile) {
  TaskGroup group;
  std::vector<std::string> ended;
  const asio::any_io_executor executor = context_.get_executor();
  auto note_after = [this, &ended](milliseconds span, std::string name) -> awaitable<void> {
    co_await sleep_for(clock_, span);
    ended.push_back(std::move(name));
  };
  group.spawn(executor, [&] { return note_after(milliseconds{20}, "slow"); });
  group.spawn(executor, [&]() -> awaitable<void> {
    co_await sleep_for(clock_, milliseconds{10});
    group.spawn(executor, [&] { return note_after(milliseconds{30}, "child"); });
    ended.emplace_back("parent");
  });
  EXPECT_EQ(group.running(), 2U);
  EXPECT_TRUE(clock_.run(group.join()));
  EXPECT_EQ(ended, (std::vector<std::string>{"parent", "slow", "child"}));
  EXPECT_EQ(clock_.boot_now(), start_ + milliseconds{40});
  EXPECT_EQ(group.running(), 0U);
  EXPECT_TRUE(clock_.run(group.join()));
}

TEST_F(AsyncTest, AGroupMayBeJoinedByMany) {
  TaskGroup group;
  group.spawn(context_.get_executor(), [&] { return sleep_for(clock_, seconds{1}); });
  int joined = 0;
  TaskGroup joiners;
  for (int i = 0; i < 3; ++i) {
    joiners.spawn(context_.get_executor(), [&]() -> awaitable<void> {
      co_await group.join();
      ++joined;
    });
  }
  EXPECT_TRUE(clock_.run(joiners.join()));
  EXPECT_EQ(joined, 3);
}

TEST_F(AsyncTest, SuspendResumesFromAnotherThread) {
  std::thread other;
  auto wait_for_thread = [&]() -> awaitable<int> {
    co_await suspend([&](std::function<void()> resume) { other = std::thread(std::move(resume)); });
    co_return 5;
  };
  asio::thread_pool pool(1);
  auto future = asio::co_spawn(pool, wait_for_thread, asio::use_future);
  EXPECT_EQ(future.get(), 5);
  other.join();
}

// Every letter arrives once and each sender's letters in order, whatever the threads do.
TEST(AsyncStress, ManyThreadsPostToReceiversThatTimeOutOften) {
  constexpr int kSenders = 4;
  constexpr int kLetters = 5000;
  struct Letter {
    int sender;
    int number;
  };
  SystemClock clock;
  asio::thread_pool pool(3);
  const Mailbox<Letter> mailbox;
  TaskGroup group;
  std::vector<int> next(kSenders, 0);
  int received = 0;
  bool in_order = true;
  group.spawn(pool.get_executor(), [&]() -> awaitable<void> {
    while (received < kSenders * kLetters) {
      const auto letter = co_await mailbox.receive_until(clock, clock.boot_now() + std::chrono::microseconds{50});
      if (!letter) continue;
      in_order = in_order && letter->number == next[static_cast<std::size_t>(letter->sender)]++;
      ++received;
    }
  });
  std::vector<std::thread> senders;
  for (int sender = 0; sender < kSenders; ++sender) {
    senders.emplace_back([&mailbox, sender] {
      for (int number = 0; number < kLetters; ++number) {
        mailbox.post({sender, number});
        if (number % 500 == 0) std::this_thread::yield();
      }
    });
  }
  for (auto& sender : senders) sender.join();
  group.wait();
  pool.join();
  EXPECT_EQ(received, kSenders * kLetters);
  EXPECT_TRUE(in_order);
}

TEST(AsyncStress, ManyTasksOnManyThreadsAreAllJoined) {
  asio::thread_pool pool(3);
  TaskGroup group;
  std::atomic<int> ended{0};
  for (int i = 0; i < 1000; ++i) {
    group.spawn(pool.get_executor(), [&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      co_await asio::post(executor, asio::use_awaitable);
      group.spawn(executor, [&]() -> awaitable<void> {
        ++ended;
        co_return;
      });
      ++ended;
    });
  }
  group.wait();
  pool.join();
  EXPECT_EQ(ended, 2000);
}

}  // namespace
}  // namespace ephfs::core::testing
