// SPDX-License-Identifier: Apache-2.0
// What the owner gathers of his dead: receipts of their deletion, now or when the node is back, for as long as he may
// have to prove it.
#include "tests/fs/stripes_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

class ReceiptsTest : public ::testing::Test {
 protected:
  ReceiptsTest() {
    volume.open();
    volume.start();
  }
  /// Lets time pass, on the machines as well: these delete and sign each second.
  void pass(Milliseconds span) {
    for (Milliseconds passed{0}; passed < span; passed += 1s) {
      volume.clock.run_for(1s);
      for (auto& machine : volume.machines) {
        EXPECT_TRUE(machine->node.remove_expired(1000).outcome);
        EXPECT_TRUE(machine->node.settle_removals(1000));
      }
    }
  }
  StripeNumber placed(TestFile& file) {
    EXPECT_TRUE(volume.append(file, 100'000));
    const auto settled = volume.settle(file, Durability::full);
    EXPECT_TRUE(settled) << settled.error();
    return volume.stripes_of(file).front();
  }
  std::size_t proven(StripeNumber stripe) {
    const auto shards = volume.catalog->dead_shards(stripe);
    EXPECT_TRUE(shards) << shards.error();
    std::size_t count = 0;
    for (const auto& shard : *shards) {
      EXPECT_FALSE(shard.receipt.empty());
      EXPECT_EQ(shard.ask_at.has_value(), shard.deletion.empty());
      if (shard.deletion.empty()) continue;
      const auto receipt = core::open_receipt(core::Envelope::parse(shard.deletion).value());
      EXPECT_TRUE(receipt) << receipt.error();
      EXPECT_EQ(receipt->kind, core::ReceiptKind::deleted);
      EXPECT_EQ(receipt->shard, shard.shard);
      EXPECT_EQ(receipt->node, shard.node);
      ++count;
    }
    return count;
  }

  StripesVolume volume{6};
};

TEST_F(ReceiptsTest, OfWhatTheOwnerHadDeleted) {
  const auto file = volume.make_file(24h);
  const auto stripe = placed(*file);
  volume.drop(*file);
  volume.stripes->collect_soon();
  pass(1s);
  const auto dead = volume.catalog->dead_stripe(stripe);
  ASSERT_TRUE(dead && *dead);
  EXPECT_EQ(volume.catalog->dead_shards(stripe)->size(), 6U);
  pass(40s);
  EXPECT_EQ(proven(stripe), 6U);
}

TEST_F(ReceiptsTest, OfWhatTheNodesDeletedByThemselves) {
  const auto file = volume.make_file(10min);
  const auto stripe = placed(*file);
  pass(11min);
  volume.drop(*file);
  volume.stripes->collect_soon();
  pass(1min);
  EXPECT_EQ(proven(stripe), 6U);
}

TEST_F(ReceiptsTest, OfANodeThatWasAway) {
  const auto file = volume.make_file(24h);
  const auto stripe = placed(*file);
  volume.machines[2]->peer.mood = Mood::down;
  volume.machines[4]->peer.mood = Mood::silent;
  volume.drop(*file);
  volume.stripes->collect_soon();
  pass(2min);
  EXPECT_EQ(proven(stripe), 4U);
  volume.machines[2]->peer.mood = Mood::fine;
  volume.machines[4]->peer.mood = Mood::fine;
  pass(2min);
  EXPECT_EQ(proven(stripe), 6U);
}

TEST_F(ReceiptsTest, AreAskedForAgainAfterARestart) {
  const auto file = volume.make_file(24h);
  const auto stripe = placed(*file);
  volume.drop(*file);
  volume.stripes->collect_soon();
  volume.clock.run_for(1s);
  volume.close();
  volume.open();
  EXPECT_EQ(proven(stripe), 0U);
  volume.start();
  pass(1min);
  EXPECT_EQ(proven(stripe), 6U);
}

TEST_F(ReceiptsTest, AreForgottenWhenTheirTimeIsOver) {
  const auto file = volume.make_file(24h);
  const auto stripe = placed(*file);
  volume.drop(*file);
  volume.stripes->collect_soon();
  pass(1min);
  volume.clock.run_for(29 * 24h);
  EXPECT_EQ(proven(stripe), 6U);
  volume.clock.run_for(2 * 24h);
  EXPECT_FALSE(volume.catalog->dead_stripe(stripe).value());
  EXPECT_TRUE(volume.catalog->dead_shards(stripe)->empty());
}

}  // namespace
}  // namespace ephfs::fs::testing
