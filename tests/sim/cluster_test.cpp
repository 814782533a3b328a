// SPDX-License-Identifier: Apache-2.0
// A whole cluster in virtual time. EPHFS_SEED=N runs the seeded tests with that seed; a failure names it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "core/log.hpp"
#include "tests/sim/scenario.hpp"

namespace ephfs::sim {
namespace {

using namespace std::chrono_literals;

class ClusterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("EPHFS_SIM_LOG") == nullptr) core::set_log_sink([](const std::string&) {});
  }
  void TearDown() override { core::set_log_sink(nullptr); }

  /// Runs it and gives its digest.
  static std::uint64_t run(const ScenarioOptions& options) {
    SCOPED_TRACE(testing::describe_seed(options.seed));
    Scenario scenario(options);
    scenario.run();
    EXPECT_TRUE(scenario.judge().findings.empty()) << scenario.judge().findings.text() << scenario.summary();
    EXPECT_GT(scenario.judge().tally().calls, 100U) << "somebody works";
    ::testing::Test::RecordProperty("seed" + std::to_string(options.seed), scenario.summary());
    return scenario.digest();
  }
};

// A node that has come back is left alone for a while, and another may fall silent in that while.
TEST_F(ClusterTest, FsyncTurnsToANodeThatFailedBeforeWhenAnotherIsSilent) {
  SimCluster cluster(testing::test_seed());
  auto& clock = cluster.clock();
  testing::Random random;
  EPHFS_TRACE_SEED(random);
  const auto save = [&](const std::string& name) -> Result<> {
    auto& engine = *cluster.mount()->engine;
    EPHFS_TRY(const auto created, engine.create(core::kRootInode, name, 0644, O_RDWR, {}));
    const Descriptor descriptor(cluster.mount(), created.second);
    EPHFS_TRY_VOID(engine.try_write(*descriptor.file(), 0, random.bytes(10'000)));
    return *clock.run(engine.fsync(descriptor.file()), 1min);
  };
  ASSERT_TRUE(clock.run(cluster.crash_node(1)));
  for (int i = 0; i < 8; ++i) {
    const auto saved = save("without one " + std::to_string(i));
    ASSERT_TRUE(saved) << saved.error();
    clock.run_for(15s);
  }
  cluster.open_node(1);
  cluster.start_node(1);
  cluster.cut_off(0);
  const auto saved = save("with five");
  EXPECT_TRUE(saved) << saved.error();
}

// Nodes delete at the deadline they agreed to, so an extension has to reach those that answer before that, whoever is
// silent.
TEST_F(ClusterTest, AnExtendedFileSurvivesItsFirstDeadlineWithTwoNodesSilent) {
  auto engine_options = SimCluster::default_options();
  engine_options.cache_bytes = 0;
  SimCluster cluster(testing::test_seed(), engine_options);
  auto& clock = cluster.clock();
  testing::Random random;
  EPHFS_TRACE_SEED(random);
  auto& engine = *cluster.mount()->engine;
  const core::Bytes content = random.bytes(10'000);
  std::vector<core::InodeNumber> numbers;
  for (int i = 0; i < 10; ++i) {
    const auto created = engine.create(core::kRootInode, "file" + std::to_string(i), 0644, O_RDWR, {});
    ASSERT_TRUE(created) << created.error();
    const Descriptor descriptor(cluster.mount(), created->second);
    ASSERT_TRUE(engine.set_xattr(created->first.number, "user.ephfs.ttl", core::as_bytes("15s"), fs::XattrMode::any));
    ASSERT_TRUE(engine.try_write(*descriptor.file(), 0, content));
    const auto saved = *clock.run(engine.fsync(descriptor.file()), 1min);
    ASSERT_TRUE(saved) << saved.error();
    numbers.push_back(created->first.number);
  }
  clock.run_for(1s);
  cluster.cut_off(0);
  cluster.cut_off(1);
  for (const auto number : numbers) {
    ASSERT_TRUE(engine.set_xattr(number, "user.ephfs.ttl", core::as_bytes("1h"), fs::XattrMode::any));
  }
  clock.run_for(1min);
  cluster.reconnect(0);
  cluster.reconnect(1);
  clock.run_for(1min);
  for (const auto number : numbers) {
    const auto opened = engine.open_file(number, O_RDONLY);
    ASSERT_TRUE(opened) << opened.error();
    const Descriptor descriptor(cluster.mount(), *opened);
    core::Bytes out(content.size());
    const core::MutableByteView view(out);
    const auto got = *clock.run(engine.read(descriptor.file(), 0, view, {}), 1min);
    if (!got) {
      ADD_FAILURE() << "inode " << number.value << ": " << got.error();
      continue;
    }
    EXPECT_EQ(out, content);
  }
}

// A year forward on the machine with the mount: nothing can be read, nothing is destroyed anywhere, and all is back.
TEST_F(ClusterTest, AYearForwardAndBackDestroysNothing) {
  auto engine_options = SimCluster::default_options();
  engine_options.cache_bytes = 0;
  SimCluster cluster(testing::test_seed(), engine_options);
  auto& clock = cluster.clock();
  testing::Random random;
  EPHFS_TRACE_SEED(random);
  auto& engine = *cluster.mount()->engine;
  constexpr core::Milliseconds kYear = std::chrono::hours(24 * 365);
  const core::Bytes content = random.bytes(10'000);
  constexpr int kFiles = 10;
  const auto name_of = [](int i) { return "file" + std::to_string(i); };
  for (int i = 0; i < kFiles; ++i) {
    const auto created = engine.create(core::kRootInode, name_of(i), 0644, O_RDWR, {});
    ASSERT_TRUE(created) << created.error();
    const Descriptor descriptor(cluster.mount(), created->second);
    ASSERT_TRUE(engine.try_write(*descriptor.file(), 0, content));
    const auto saved = *clock.run(engine.fsync(descriptor.file()), 1min);
    ASSERT_TRUE(saved) << saved.error();
  }
  clock.run_for(2s);
  const auto shards = [&] {
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < SimCluster::kNodes; ++i) count += cluster.node(i)->store().usage().shards;
    return count;
  };
  const std::uint64_t placed = shards();
  ASSERT_GT(placed, 0U);

  cluster.set_mount_clock(kYear);
  for (std::size_t i = 0; i < SimCluster::kNodes; ++i) cluster.set_node_clock(i, kYear);
  for (int i = 0; i < kFiles; ++i) {
    const auto found = engine.lookup(core::kRootInode, name_of(i));
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, core::Error::gone);
    const auto over = engine.make_node(core::kRootInode, name_of(i), S_IFREG | 0644, 0, {});
    ASSERT_FALSE(over) << "nothing takes the name of what may come back";
    EXPECT_EQ(over.error().code, core::Error::busy);
  }
  clock.run_for(20min);
  EXPECT_TRUE(cluster.mount_clock().is_held()) << "peers whose own clocks are held confirm nothing";
  EXPECT_EQ(shards(), placed);

  cluster.set_mount_clock(0ms);
  for (std::size_t i = 0; i < SimCluster::kNodes; ++i) cluster.set_node_clock(i, 0ms);
  clock.run_for(2s);
  for (int i = 0; i < kFiles; ++i) {
    const auto found = engine.lookup(core::kRootInode, name_of(i));
    ASSERT_TRUE(found) << found.error();
    const auto opened = engine.open_file(found->number, O_RDONLY);
    ASSERT_TRUE(opened) << opened.error();
    const Descriptor descriptor(cluster.mount(), *opened);
    core::Bytes out(content.size());
    const core::MutableByteView view(out);
    const auto got = *clock.run(engine.read(descriptor.file(), 0, view, {}), 1min);
    ASSERT_TRUE(got) << got.error();
    EXPECT_EQ(out, content);
  }
}

// The same year, confirmed: everything is destroyed, on the machine with the mount and on every node.
TEST_F(ClusterTest, AYearForwardThatIsConfirmedDestroysEverything) {
  SimCluster cluster(testing::test_seed());
  auto& clock = cluster.clock();
  auto& engine = *cluster.mount()->engine;
  {
    const auto created = engine.create(core::kRootInode, "file", 0644, O_RDWR, {});
    ASSERT_TRUE(created) << created.error();
    const Descriptor descriptor(cluster.mount(), created->second);
    ASSERT_TRUE(engine.try_write(*descriptor.file(), 0, core::Bytes(10'000)));
    ASSERT_TRUE(*clock.run(engine.fsync(descriptor.file()), 1min));
  }
  clock.run_for(2s);
  constexpr core::Milliseconds kYear = std::chrono::hours(24 * 365);
  cluster.set_mount_clock(kYear);
  for (std::size_t i = 0; i < SimCluster::kNodes; ++i) cluster.set_node_clock(i, kYear);
  clock.run_for(2s);
  // The owner speaks for the nodes; the mount is confirmed by what they then say.
  for (std::size_t i = 0; i < SimCluster::kNodes; ++i) ASSERT_TRUE(cluster.node_clock(i).accept());
  clock.run_for(2min);
  EXPECT_FALSE(cluster.mount_clock().is_held());
  EXPECT_EQ(engine.statistics()->inodes, 1U) << "the root alone";
  for (std::size_t i = 0; i < SimCluster::kNodes; ++i)
    EXPECT_EQ(cluster.node(i)->store().usage().shards, 0U) << "node " << i;
}

class SetClocks : public ClusterTest, public ::testing::WithParamInterface<std::uint64_t> {};

TEST_P(SetClocks, NothingDiesEarlyOrLateOrIsLost) {
  ScenarioOptions options;
  options.seed = testing::test_seed() + 200 + GetParam();
  options.duration = 30min;
  options.set_clocks = true;
  run(options);
}

INSTANTIATE_TEST_SUITE_P(Seeds, SetClocks, ::testing::Values(0U, 1U));

TEST_F(ClusterTest, Healthy) {
  ScenarioOptions options;
  options.seed = testing::test_seed();
  options.duration = 40min;
  run(options);
}

TEST_F(ClusterTest, SameSeedSameTrace) {
  ScenarioOptions options;
  options.seed = testing::test_seed();
  options.duration = 12min;
  options.faults = true;
  const auto first = run(options);
  EXPECT_EQ(run(options), first);
  ++options.seed;
  EXPECT_NE(run(options), first);
}

class CrashesAndPartitions : public ClusterTest, public ::testing::WithParamInterface<std::uint64_t> {};

TEST_P(CrashesAndPartitions, NothingIsLostAndNothingHangs) {
  ScenarioOptions options;
  options.seed = testing::test_seed() + GetParam();
  options.duration = 40min;
  options.faults = true;
  run(options);
}

INSTANTIATE_TEST_SUITE_P(Seeds, CrashesAndPartitions, ::testing::Values(0U, 1U, 2U));

class EngineCrash : public ClusterTest, public ::testing::WithParamInterface<std::uint64_t> {};

TEST_P(EngineCrash, WhatWasFlushedIsThere) {
  ScenarioOptions options;
  options.seed = testing::test_seed() + 100 + GetParam();
  options.duration = 20min;
  options.mount_crashes = 3;
  options.faults = GetParam() % 2 == 1;
  run(options);
}

INSTANTIATE_TEST_SUITE_P(Seeds, EngineCrash, ::testing::Values(0U, 1U));

}  // namespace
}  // namespace ephfs::sim
