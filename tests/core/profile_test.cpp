// SPDX-License-Identifier: Apache-2.0
#include "core/profile.hpp"

#include <algorithm>
#include <thread>

#include <gtest/gtest.h>

namespace ephfs::core {
namespace {

using namespace std::chrono_literals;

Probe& sample() {
  static Probe probe("sample", "one");
  return probe;
}

std::optional<ProbeReading> reading() {
  const auto profile = read_profile();
  const auto found = std::ranges::find(profile.probes, std::string_view("sample"), &ProbeReading::group);
  return found == profile.probes.end() ? std::nullopt : std::optional(*found);
}

class ProfileTest : public ::testing::Test {
 protected:
  ~ProfileTest() override { stop_profiling(); }
};

TEST_F(ProfileTest, CountsNothingWhileOff) {
  start_profiling(1h);
  stop_profiling();
  { const ProbeScope scope(sample(), 10); }
  EXPECT_FALSE(profiling());
  EXPECT_FALSE(reading().has_value());
}

TEST_F(ProfileTest, CountsCallsBytesAndTime) {
  start_profiling(1h);
  sample().record(1000, 10);
  sample().record(3000, 20);
  const auto one = reading();
  ASSERT_TRUE(one.has_value());
  EXPECT_EQ(one->count, 2U);
  EXPECT_EQ(one->bytes, 30U);
  EXPECT_EQ(one->total, 4000ns);
  EXPECT_EQ(one->longest, 3000ns);
}

TEST_F(ProfileTest, ASpanThatIsNotFinishedCountsNothing) {
  start_profiling(1h);
  { const ProbeSpan lost(sample()); }
  EXPECT_FALSE(reading().has_value());
  ProbeSpan finished(sample());
  finished.finish(5);
  finished.finish(5);
  EXPECT_EQ(reading()->count, 1U);
}

TEST_F(ProfileTest, StartingForgetsWhatWasBefore) {
  start_profiling(1h);
  sample().record(1000, 0);
  start_profiling(1h);
  EXPECT_FALSE(reading().has_value());
}

TEST_F(ProfileTest, EndsByItself) {
  start_profiling(1ns);
  while (read_profile().running) std::this_thread::yield();
  sample().record(1, 0);
  EXPECT_FALSE(profiling());
}

TEST_F(ProfileTest, BucketsHoldWhatTheyShould) {
  // Every bucket ends above the one before, by at most a quarter, and a duration is in the bucket whose end is next.
  for (std::size_t i = 1; i < 200; ++i) {
    ASSERT_GT(bucket_end(i), bucket_end(i - 1)) << i;
    if (i > 8) {
      ASSERT_LE(bucket_end(i).count(), bucket_end(i - 1).count() * 5 / 4 + 1) << i;
    }
  }
  start_profiling(1h);
  for (const std::int64_t ns : {0, 1, 3, 4, 5, 7, 8, 100, 1023, 1024, 123'456'789}) {
    start_profiling(1h);
    sample().record(ns, 0);
    const auto one = reading();
    ASSERT_TRUE(one.has_value());
    const auto bucket = static_cast<std::size_t>(std::ranges::find(one->buckets, 1U) - one->buckets.begin());
    EXPECT_LE(ns, bucket_end(bucket).count()) << ns;
    if (bucket > 0) {
      EXPECT_GT(ns, bucket_end(bucket - 1).count()) << ns;
    }
  }
}

TEST_F(ProfileTest, QuantilesFollowTheDistribution) {
  start_profiling(1h);
  for (int i = 1; i <= 1000; ++i) sample().record(i * 1000, 0);
  const auto one = reading();
  ASSERT_TRUE(one.has_value());
  EXPECT_NEAR(static_cast<double>(one->quantile(0.5).count()), 500'000, 500'000 * 0.25);
  EXPECT_NEAR(static_cast<double>(one->quantile(0.99).count()), 990'000, 990'000 * 0.25);
  EXPECT_EQ(one->quantile(1.0), 1ms);
}

TEST_F(ProfileTest, ManyThreadsLoseNothing) {
  start_profiling(1h);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 10'000; ++i) sample().record(i, 1);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(reading()->count, 40'000U);
  EXPECT_EQ(reading()->bytes, 40'000U);
}

}  // namespace
}  // namespace ephfs::core
