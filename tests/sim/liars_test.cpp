// SPDX-License-Identifier: Apache-2.0
// Nodes that lie, disks that are lost, deadlines that slide, files that are shared: each in a whole cluster in virtual
// time, judged from outside. EPHFS_SEED=N runs with that seed; a failure names it.
#include <gtest/gtest.h>

#include "core/log.hpp"
#include "tests/sim/scenario.hpp"

namespace ephfs::sim {

void PrintTo(Lie lie, std::ostream* out) {
  *out << name_of(lie);
}

namespace {

using namespace std::chrono_literals;

class TroubledCluster : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("EPHFS_SIM_LOG") == nullptr) core::set_log_sink([](const std::string&) {});
  }
  void TearDown() override { core::set_log_sink(nullptr); }

  static Judge::Tally run(const ScenarioOptions& options, fs::EngineOptions engine = SimCluster::default_options()) {
    SCOPED_TRACE(testing::describe_seed(options.seed));
    Scenario scenario(options, std::move(engine));
    scenario.run();
    EXPECT_TRUE(scenario.judge().findings.empty()) << scenario.judge().findings.text() << scenario.summary();
    EXPECT_GT(scenario.judge().tally().calls, 100U) << "somebody works";
    ::testing::Test::RecordProperty("seed" + std::to_string(options.seed), scenario.summary());
    return scenario.judge().tally();
  }
  static ScenarioOptions options_for(std::uint64_t number, core::Nanoseconds duration) {
    ScenarioOptions options;
    options.seed = testing::test_seed() + 300 + number;
    options.duration = duration;
    options.proofs = true;
    options.audits = true;
    return options;
  }
};

class OneLiar : public TroubledCluster, public ::testing::WithParamInterface<Lie> {};

TEST_P(OneLiar, GainsNothingAndIsFound) {
  auto options = options_for(static_cast<std::uint64_t>(GetParam()), 12min);
  options.lies = {GetParam()};
  const auto tally = run(options);
  EXPECT_EQ(tally.excused, 0U) << "one node is spared";
  EXPECT_GT(tally.audited, 0U);
  EXPECT_GT(tally.proofs, 0U);
  if (GetParam() == Lie::wrong_bytes || GetParam() == Lie::lost_at_once) {
    EXPECT_GT(tally.missing, 0U);
  }
  if (GetParam() == Lie::kept_for_ever) {
    EXPECT_GT(tally.kept, 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(Lies, OneLiar,
                         ::testing::Values(Lie::wrong_bytes, Lie::lost_at_once, Lie::forged_receipts,
                                           Lie::kept_for_ever),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

// As many as the profile has parity, when fsync waits for all.
TEST_F(TroubledCluster, TwoLiarsLoseNothingOfWhatAllNodesHad) {
  auto options = options_for(10, 12min);
  options.lies = {Lie::lost_at_once, Lie::wrong_bytes};
  auto engine = SimCluster::default_options();
  engine.durability = fs::Durability::full;
  const auto tally = run(options, std::move(engine));
  EXPECT_EQ(tally.excused, 0U);
  EXPECT_GT(tally.missing, 0U);
}

TEST_F(TroubledCluster, TwoLostDisksLoseNothing) {
  auto options = options_for(20, 15min);
  options.lost_disks = 2;
  auto engine = SimCluster::default_options();
  engine.ttl.initial = 2h;
  const auto tally = run(options, std::move(engine));
  EXPECT_GT(tally.missing, 0U) << "and the audit found it";
}

TEST_F(TroubledCluster, SlidingDeadlinesAreKeptByTheirRules) {
  auto options = options_for(30, 25min);
  options.sliding = true;
  options.faults = true;
  const auto tally = run(options);
  EXPECT_GT(tally.deaths, 0U);
  EXPECT_GT(tally.proofs, 0U) << "receipts came, also from who was away";
}

TEST_F(TroubledCluster, SharesGiveWhatWasSharedAndEnd) {
  auto options = options_for(40, 15min);
  options.shares = true;
  const auto tally = run(options);
  EXPECT_GT(tally.fetched, 0U);
}

TEST_F(TroubledCluster, SharesWhileMachinesComeAndGo) {
  auto options = options_for(50, 15min);
  options.shares = true;
  options.sliding = true;
  options.faults = true;
  (void)run(options);
}

TEST_F(TroubledCluster, SameSeedSameTrace) {
  auto options = options_for(60, 4min);
  options.lies = {Lie::wrong_bytes};
  options.shares = true;
  options.sliding = true;
  options.lost_disks = 1;
  const auto digest_of = [&] {
    Scenario scenario(options);
    scenario.run();
    return scenario.digest();
  };
  const auto first = digest_of();
  EXPECT_EQ(digest_of(), first);
  ++options.seed;
  EXPECT_NE(digest_of(), first);
}

}  // namespace
}  // namespace ephfs::sim
