// SPDX-License-Identifier: Apache-2.0
// Shards on their way to nodes: which, when it counts as placed, what is owed afterwards.
#include <algorithm>
#include <set>

#include "core/records.hpp"
#include "fs/extent_codec.hpp"
#include "tests/fs/stripes_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

using core::Error;

std::vector<meta::PlacementRecord> placements_of(StripesVolume& volume, const TestFile& file) {
  const auto rows = volume.catalog->placements(volume.stripes_of(file).front());
  EXPECT_TRUE(rows) << rows.error();
  return rows ? *rows : std::vector<meta::PlacementRecord>();
}

TEST(PlacingTest, AShardOnEachOfSixNodesWithTheirReceipts) {
  StripesVolume volume(6);
  volume.open();
  volume.start();
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, 3'000'000));
  const auto settled = volume.settle(*file, Durability::full);
  ASSERT_TRUE(settled) << settled.error();
  for (const auto& machine : volume.machines) EXPECT_EQ(machine->shards(), 1U);
  std::set<core::NodeId> nodes;
  for (const auto& row : placements_of(volume, *file)) {
    EXPECT_TRUE(row.stored);
    EXPECT_EQ(row.lease_deadline, file->deadline);
    nodes.insert(row.node);
    const auto envelope = core::Envelope::parse(row.receipt);
    ASSERT_TRUE(envelope) << envelope.error();
    const auto receipt = core::open_receipt(*envelope);
    ASSERT_TRUE(receipt) << receipt.error();
    EXPECT_EQ(receipt->shard, row.shard);
  }
  EXPECT_EQ(nodes.size(), 6U);
  const auto health = volume.stripes->health(volume.stripes_of(*file).front());
  ASSERT_TRUE(health);
  EXPECT_EQ(health->reachable, 6U);
  EXPECT_TRUE(health->local);
  EXPECT_EQ(volume.stripes->counters().staged_bytes, 0U);
  EXPECT_TRUE(volume.check_local(*file)) << "the staged ciphertext stays as a cached copy";
}

TEST(PlacingTest, WhatNobodyWaitsForIsCodedInNobodysWay) {
  core::asio::io_context idle;
  StripesVolume volume(6);
  volume.unhurried = idle.get_executor();
  volume.open();
  volume.start();
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, kStripeBytes));
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.shards_held(), 0U);
  EXPECT_TRUE(volume.check_all(*file));
  idle.run();
  volume.clock.settle();
  EXPECT_EQ(volume.shards_held(), 6U);
}

TEST(PlacingTest, WhatAWriterOrAnFsyncMayWaitForIsCodedAtOnce) {
  core::asio::io_context never;
  for (const bool fsync : {true, false}) {
    StripesVolume volume(6);
    volume.unhurried = never.get_executor();
    if (fsync) {
      volume.options.durability = Durability::quorum;
    } else {
      volume.options.staging_bytes = kStripeCapacity;
    }
    volume.open();
    if (!fsync) {
      const auto first = volume.make_file();
      ASSERT_TRUE(volume.append(*first, kStripeBytes));
      EXPECT_EQ(volume.append(*first, 1).error().code, Error::would_block);
    }
    volume.start();
    const auto file = volume.make_file();
    if (fsync) {
      ASSERT_TRUE(volume.append(*file, kStripeBytes));
    }
    volume.clock.run_for(1s);
    EXPECT_EQ(volume.shards_held(), 6U) << (fsync ? "an fsync" : "a writer");
  }
}

TEST(PlacingTest, WithinAPoolThatIsLargerShardsSpread) {
  StripesVolume volume(10);
  volume.options.profile = core::Profile{4, 2};
  volume.open();
  volume.start();
  for (int i = 0; i < 40; ++i) {
    const auto file = volume.make_file();
    ASSERT_TRUE(volume.append(*file, 1000));
    ASSERT_TRUE(volume.settle(*file, Durability::full));
  }
  for (const auto& machine : volume.machines) {
    EXPECT_GT(machine->shards(), 10U);
    EXPECT_LT(machine->shards(), 40U);
  }
}

TEST(PlacingTest, NothingWakesWhenAllIsDone) {
  StripesVolume volume(6);
  volume.open();
  volume.start();
  const auto file = volume.make_file(365 * 24h);
  ASSERT_TRUE(volume.append(*file, 100'000));
  ASSERT_TRUE(volume.settle(*file, Durability::full));
  volume.clock.run_for(1min);
  const core::Boottime before = volume.clock.boot_now();
  (void)volume.clock.run_until_idle(12h);
  EXPECT_LE(volume.clock.boot_now() - before, core::Nanoseconds(12h));
  // What is left is one timer for the far deadline of the cached copy.
  std::size_t operations = 0;
  for (const auto& machine : volume.machines) operations += machine->store.operations();
  volume.clock.run_for(12h);
  std::size_t later = 0;
  for (const auto& machine : volume.machines) later += machine->store.operations();
  EXPECT_EQ(operations, later);
}

TEST(PlacingTest, AnotherNodeTakesTheShardOfAFullOne) {
  StripesVolume volume(7);
  volume.options.profile = core::Profile{4, 2};
  volume.open();
  volume.start();
  volume.machines[2]->store.set_full(true);
  for (int i = 0; i < 5; ++i) {
    const auto file = volume.make_file();
    ASSERT_TRUE(volume.append(*file, 100'000));
    const auto settled = volume.settle(*file, Durability::full);
    ASSERT_TRUE(settled) << settled.error();
  }
  EXPECT_EQ(volume.machines[2]->shards(), 0U);
  EXPECT_EQ(volume.shards_held(), 30U);
}

TEST(PlacingTest, TooManyFullNodesAreNoSpaceAtOnce) {
  StripesVolume volume(6);
  volume.open();
  volume.start();
  volume.machines[2]->store.set_full(true);
  const auto quorum = volume.make_file();
  ASSERT_TRUE(volume.append(*quorum, 100'000));
  EXPECT_TRUE(volume.settle(*quorum, Durability::quorum)) << "five of six are enough";
  volume.machines[4]->store.set_full(true);
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, 100'000));
  const core::Boottime began = volume.clock.boot_now();
  const auto settled = volume.settle(*file, Durability::quorum);
  ASSERT_FALSE(settled);
  EXPECT_EQ(settled.error().code, Error::no_space) << settled.error();
  EXPECT_LT(volume.clock.boot_now() - began, core::Nanoseconds(1s));
  EXPECT_FALSE(volume.stripes->counters().last_error.empty());
  EXPECT_TRUE(volume.check_local(*file)) << "it stays staged";
  for (auto& machine : volume.machines) machine->store.set_full(false);
  EXPECT_TRUE(volume.settle(*file, Durability::full));
  EXPECT_TRUE(volume.stripes->counters().last_error.empty());
}

TEST(PlacingTest, AProfileWiderThanThePoolIsSaidAtOnce) {
  StripesVolume volume(3);
  volume.options.profile = core::Profile{4, 2};
  volume.open();
  volume.start();
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, 100));
  const core::Boottime began = volume.clock.boot_now();
  const auto settled = volume.settle(*file, Durability::quorum);
  ASSERT_FALSE(settled);
  EXPECT_EQ(settled.error().code, Error::io);
  EXPECT_NE(settled.error().detail.find("4+2"), std::string::npos) << settled.error();
  EXPECT_LT(volume.clock.boot_now() - began, core::Nanoseconds(1s));
  for (int i = 0; i < 3; ++i) volume.add_machine();
  EXPECT_TRUE(volume.settle(*file, Durability::quorum));
}

TEST(PlacingTest, ADeadNodeIsOwedItsShardUntilItReturns) {
  StripesVolume volume(6);
  volume.open();
  volume.start();
  for (const Mood mood : {Mood::down, Mood::silent}) {
    volume.machines[3]->peer.mood = mood;
    const auto file = volume.make_file();
    ASSERT_TRUE(volume.append(*file, 500'000));
    const auto quorum = volume.settle(*file, Durability::quorum);
    ASSERT_TRUE(quorum) << quorum.error();
    const auto full = volume.settle(*file, Durability::full, 2s);
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().code, Error::io);
    EXPECT_EQ(volume.stripes->counters().shards_owed, 1U);
    volume.machines[3]->peer.mood = Mood::fine;
    volume.clock.run_for(1min);
    EXPECT_EQ(volume.stripes->counters().shards_owed, 0U);
    EXPECT_TRUE(volume.settle(*file, Durability::full));
  }
  EXPECT_EQ(volume.machines[3]->shards(), 2U);
}

TEST(PlacingTest, AnOwedShardIsMadeFromTheOthersWhenNothingIsCached) {
  StripesVolume volume(6);
  volume.options.cache_bytes = 0;
  volume.open();
  volume.start();
  volume.machines[0]->peer.mood = Mood::down;
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, 500'000));
  ASSERT_TRUE(volume.settle(*file, Durability::quorum));
  EXPECT_EQ(volume.files_in("cache"), 0U);
  volume.machines[0]->peer.mood = Mood::fine;
  // While one of the others lies about its shard.
  volume.machines[1]->peer.mood = Mood::lying;
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.machines[0]->shards(), 1U);
  EXPECT_EQ(volume.stripes->counters().shards_owed, 0U);
}

TEST(PlacingTest, ANodeThatStaysAwayIsReplacedWhereThereIsAnother) {
  StripesVolume volume(6);
  volume.open();
  volume.start();
  volume.machines[5]->peer.mood = Mood::down;
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, 500'000));
  ASSERT_TRUE(volume.settle(*file, Durability::quorum));
  volume.clock.run_for(1min);
  volume.add_machine();
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.machines[6]->shards(), 1U);
  EXPECT_EQ(volume.stripes->counters().shards_owed, 0U);
}

TEST(PlacingTest, TooFewNodesIsIoWithinTheTimeGivenAndPassesWithThem) {
  StripesVolume volume(6);
  volume.open();
  volume.start();
  for (const Mood mood : {Mood::down, Mood::silent}) {
    for (std::size_t i = 0; i < 3; ++i) volume.machines[i]->peer.mood = mood;
    const auto file = volume.make_file();
    ASSERT_TRUE(volume.append(*file, 500'000));
    const core::Boottime began = volume.clock.boot_now();
    const auto settled = volume.settle(*file, Durability::quorum, 10s);
    ASSERT_FALSE(settled);
    EXPECT_EQ(settled.error().code, Error::io) << settled.error();
    EXPECT_LE(volume.clock.boot_now() - began, core::Nanoseconds(10s));
    EXPECT_TRUE(volume.check_all(*file));
    for (auto& machine : volume.machines) machine->peer.mood = Mood::fine;
    volume.clock.run_for(1min);
    EXPECT_EQ(volume.stripes->counters().staged_bytes, 0U);
    EXPECT_EQ(volume.stripes->counters().shards_owed, 0U);
  }
}

TEST(PlacingTest, AQuorumDoesNotCountOnThisMachine) {
  StripesVolume volume(6);
  volume.machines[0]->peer.local = true;
  volume.open();
  volume.start();
  volume.machines[5]->peer.mood = Mood::down;
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, 5000));
  // This machine and four others have it: with this machine lost, no node is to spare.
  EXPECT_FALSE(volume.settle(*file, Durability::quorum, 2s));
  volume.machines[5]->peer.mood = Mood::fine;
  EXPECT_TRUE(volume.settle(*file, Durability::quorum, 2s));
}

TEST(PlacingTest, WhatWasBeingPlacedAtACrashIsPlacedAfterIt) {
  StripesVolume volume(6);
  volume.open();
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, 500'000));
  volume.crash_and_open();
  volume.start();
  for (auto& machine : volume.machines) machine->peer.delay = 100ms;
  // Shards have reached their nodes, and the receipts are on their way.
  volume.clock.run_for(50ms);
  volume.crash_and_open();
  for (auto& machine : volume.machines) machine->peer.delay = 0ms;
  volume.start();
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.shards_held(), 6U) << "the same shards on the same nodes";
  EXPECT_TRUE(volume.check_all(*file));
}

TEST(PlacingTest, ALongerDeadlineIsAgreedWithEveryNode) {
  StripesVolume volume(6);
  volume.open();
  volume.start();
  const auto file = volume.make_file(1h);
  ASSERT_TRUE(volume.append(*file, 5000));
  ASSERT_TRUE(volume.settle(*file, Durability::full));
  const Deadline later(file->deadline.instant() + 24h);
  volume.machines[1]->peer.mood = Mood::down;
  ASSERT_TRUE(volume.stripes->set_deadline(volume.stripes_of(*file).front(), later));
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.stripes->counters().shards_owed, 1U);
  // What is still to be agreed is not forgotten by a restart.
  volume.close();
  volume.open();
  volume.start();
  volume.machines[1]->peer.mood = Mood::fine;
  volume.clock.run_for(1min);
  for (const auto& machine : volume.machines) {
    const auto held = machine->store.all();
    ASSERT_EQ(held.size(), 1U);
    EXPECT_EQ(held.front().lease.deadline, later);
  }
  EXPECT_EQ(volume.stripes->counters().shards_owed, 0U);
  EXPECT_TRUE(volume.check_all(*file));
}

TEST(PlacingTest, AShorterDeadlineWhilePlacingIsAgreedToo) {
  StripesVolume volume(6);
  volume.open();
  volume.start();
  for (auto& machine : volume.machines) machine->peer.delay = 100ms;
  const auto file = volume.make_file(24h);
  ASSERT_TRUE(volume.append(*file, 5000));
  volume.clock.run_for(5050ms);
  const Deadline sooner(volume.clock.now() + 1h);
  ASSERT_TRUE(volume.stripes->set_deadline(volume.stripes_of(*file).front(), sooner));
  volume.clock.run_for(10s);
  for (const auto& machine : volume.machines) {
    const auto held = machine->store.all();
    ASSERT_EQ(held.size(), 1U);
    EXPECT_EQ(held.front().lease.deadline, sooner);
  }
}

}  // namespace
}  // namespace ephfs::fs::testing
