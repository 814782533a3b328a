// SPDX-License-Identifier: Apache-2.0
// What died goes: from this disk, from the catalog, from the nodes.
#include "tests/fs/faulty_catalog.hpp"
#include "tests/fs/stripes_fixture.hpp"
#include "tests/support/lost_power.hpp"

namespace ephfs::fs::testing {
namespace {

using core::Error;

class CollectingTest : public ::testing::Test {
 protected:
  CollectingTest() {
    volume.open();
    volume.start();
  }
  [[nodiscard]] std::unique_ptr<TestFile> placed_file(Milliseconds ttl = 24h) {
    auto file = volume.make_file(ttl);
    EXPECT_TRUE(volume.append(*file, 100'000));
    const auto settled = volume.settle(*file, Durability::full);
    EXPECT_TRUE(settled) << settled.error();
    return file;
  }

  StripesVolume volume{6};
};

TEST_F(CollectingTest, NothingLivesInItSoItGoesEverywhere) {
  const auto file = placed_file();
  const auto number = volume.stripes_of(*file).front();
  EXPECT_EQ(volume.shards_held(), 6U);
  volume.drop(*file);
  volume.stripes->collect_soon();
  volume.clock.run_for(1s);
  EXPECT_EQ(volume.shards_held(), 0U);
  EXPECT_EQ(volume.files_in("cache"), 0U);
  EXPECT_EQ(volume.stripes->counters().removals_owed, 0U);
  const auto record = volume.catalog->stripe(number);
  ASSERT_TRUE(record);
  EXPECT_FALSE(*record);
}

TEST(CollectingOrderTest, NothingGoesBeforeTheCommitThatGaveItUpIsSynced) {
  StripesVolume careful{6};
  bool disk_fails = true;
  careful.wrap_catalog = [&disk_fails](std::unique_ptr<meta::Catalog> real) -> std::unique_ptr<meta::Catalog> {
    return std::make_unique<FaultyCatalog>(std::move(real), nullptr, [&disk_fails] { return disk_fails; });
  };
  careful.open();
  careful.start();
  const auto file = careful.make_file(24h);
  ASSERT_TRUE(careful.append(*file, 100'000));
  ASSERT_TRUE(careful.settle(*file, Durability::full));
  careful.drop(*file);
  careful.stripes->collect_soon();
  careful.clock.run_for(1min);
  EXPECT_EQ(careful.shards_held(), 6U);
  disk_fails = false;
  careful.clock.run_for(1min);
  EXPECT_EQ(careful.shards_held(), 0U);
}

TEST_F(CollectingTest, NothingGoesBeforeWhatAnEarlierRunLeftInStagingIsSynced) {
  EPHFS_TRACE_SEED(volume.random);
  const ephfs::testing::LostPower power(volume.options.directory);
  const auto old = placed_file();
  const auto successor = volume.make_file();
  ASSERT_TRUE(volume.append(*successor, 100'000));
  for (auto& machine : volume.machines) machine->peer.mood = Mood::down;
  volume.close();
  volume.open();
  volume.start();
  volume.drop(*old);
  volume.stripes->collect_soon();
  volume.clock.run_for(1s);
  const auto bytes_in = [](const std::filesystem::path& staging) {
    std::uintmax_t bytes = 0;
    for (const auto& one : std::filesystem::directory_iterator(staging)) bytes += one.file_size();
    return bytes;
  };
  const auto expected = bytes_in(volume.options.directory / "staging");
  ASSERT_GT(expected, 100'000U);
  const ephfs::testing::TempDir images;
  for (int i = 0; i < 8; ++i) {
    const auto image = images / std::to_string(i);
    power.leave(image, volume.random);
    EXPECT_EQ(bytes_in(image / "staging"), expected);
  }
}

TEST_F(CollectingTest, AReaderOfWhatWasDeletedIsToldSo) {
  const auto file = placed_file();
  const auto extent = file->extents.front();
  volume.drop(*file);
  volume.stripes->collect_soon();
  volume.clock.run_for(1s);
  core::Bytes out(10);
  const auto read = volume.stripes->try_read(extent, {file->id, &file->key}, 0, out);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Error::not_found);
}

TEST_F(CollectingTest, WhatIsStagedGoesWithoutBeingPlaced) {
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, 100'000));
  volume.drop(*file);
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.files_in("staging"), 0U);
  EXPECT_EQ(volume.shards_held(), 0U);
  EXPECT_EQ(volume.stripes->counters().staged_bytes, 0U);
}

TEST_F(CollectingTest, ARemovalIsRepeatedUntilTheNodeIsBack) {
  const auto file = placed_file();
  volume.machines[4]->peer.mood = Mood::silent;
  volume.drop(*file);
  volume.stripes->collect_soon();
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.shards_held(), 1U);
  EXPECT_EQ(volume.stripes->counters().removals_owed, 1U);
  // Also over a restart.
  volume.close();
  volume.open();
  volume.start();
  volume.machines[4]->peer.mood = Mood::fine;
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.shards_held(), 0U);
  EXPECT_EQ(volume.stripes->counters().removals_owed, 0U);
}

TEST_F(CollectingTest, ARemovalIsForgottenWhenTheLeaseIsOver) {
  const auto file = placed_file(1h);
  volume.machines[4]->peer.mood = Mood::down;
  volume.drop(*file);
  volume.stripes->collect_soon();
  volume.clock.run_for(10min);
  EXPECT_EQ(volume.stripes->counters().removals_owed, 1U);
  volume.clock.run_for(1h);
  EXPECT_EQ(volume.stripes->counters().removals_owed, 0U);
  // Its receipt is hoped for until the dead are forgotten.
  volume.machines[4]->peer.mood = Mood::fine;
  volume.clock.run_for(31 * 24h);
  EXPECT_TRUE(volume.clock.run_until_idle(1h)) << "and nothing is left to wake for";
}

TEST_F(CollectingTest, AtTheDeadlineLocalBytesGoEvenWhenExtentsAreLeft) {
  const auto file = placed_file(1h);
  const auto extent = file->extents.front();
  volume.clock.run_for(file->deadline.instant() - volume.clock.now() - 1ms);
  core::Bytes out(10);
  EXPECT_TRUE(volume.stripes->try_read(extent, {file->id, &file->key}, 0, out));
  EXPECT_EQ(volume.files_in("cache"), 1U);
  volume.clock.run_for(1ms);
  EXPECT_EQ(volume.files_in("cache"), 0U);
  const auto read = volume.stripes->try_read(extent, {file->id, &file->key}, 0, out);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Error::not_found);
  const auto kept = volume.catalog->stripe(extent.stripe);
  ASSERT_TRUE(kept);
  EXPECT_TRUE(*kept) << "its record waits for the extents";
  volume.drop(*file);
  volume.clock.run_for(5s);
  const auto gone = volume.catalog->stripe(extent.stripe);
  ASSERT_TRUE(gone);
  EXPECT_FALSE(*gone);
}

TEST_F(CollectingTest, WhatIsReadFromNodesAtTheDeadlineIsNotGiven) {
  const auto file = placed_file(1h);
  volume.close();
  std::filesystem::remove_all(volume.options.directory / "cache");
  volume.open();
  volume.start();
  for (auto& machine : volume.machines) machine->peer.delay = 10ms;
  volume.clock.run_for(file->deadline.instant() - volume.clock.now() - 5ms);
  const auto read = volume.check_all(*file);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Error::not_found) << read.error();
}

TEST_F(CollectingTest, ADeadlineMovedIntoThePastEndsTheStripe) {
  const auto file = placed_file();
  const auto number = volume.stripes_of(*file).front();
  const auto extents = file->extents;
  ASSERT_TRUE(volume.stripes->set_deadline(number, Deadline(volume.clock.now())));
  volume.drop(*file);
  volume.clock.run_for(5s);
  EXPECT_EQ(volume.shards_held(), 0U);
  EXPECT_EQ(volume.files_in("cache"), 0U);
}

TEST_F(CollectingTest, AStripeThatDiesWhileItIsPlacedLeavesNothing) {
  for (auto& machine : volume.machines) machine->peer.delay = 100ms;
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, 100'000));
  volume.clock.run_for(5050ms);
  volume.drop(*file);
  volume.stripes->collect_soon();
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.shards_held(), 0U);
  EXPECT_EQ(volume.files_in("cache"), 0U);
  EXPECT_EQ(volume.files_in("staging"), 0U);
}

TEST_F(CollectingTest, SeededOperationsEndWithNothingLost) {
  EPHFS_TRACE_SEED(volume.random);
  auto& random = volume.random;
  volume.options.staging_bytes = 64U << 20U;
  volume.options.cache_bytes = 8U << 20U;
  std::vector<std::unique_ptr<TestFile>> files;
  std::size_t troubled = 0;
  for (int step = 0; step < 300; ++step) {
    switch (random.below(6)) {
      case 0:
        files.push_back(volume.make_file(random.chance(2) ? 24h : 2h));
        break;
      case 1:
      case 2:
        if (!files.empty()) (void)volume.append(*files[random.below(files.size())], random.between(1, 300'000));
        break;
      case 3:
        if (!files.empty()) {
          const auto& file = files[random.below(files.size())];
          const auto read = volume.check_all(*file, random.chance(2));
          ASSERT_TRUE(read) << "step " << step << ": " << read.error();
        }
        break;
      case 4:
        for (auto& machine : volume.machines) machine->peer.mood = Mood::fine;
        troubled = random.below(6);
        volume.machines[troubled]->peer.mood = random.chance(2) ? Mood::down : Mood::silent;
        volume.machines[(troubled + 1 + random.below(5)) % 6]->peer.mood = Mood::lying;
        volume.clock.run_for(Milliseconds(random.between(1, 20'000)));
        break;
      default:
        if (files.size() > 3) {
          const auto at = random.below(files.size());
          volume.drop(*files[at]);
          files.erase(files.begin() + static_cast<std::ptrdiff_t>(at));
          volume.stripes->collect_soon();
        }
        if (random.chance(10)) {
          volume.crash_and_open();
          volume.start();
        }
    }
  }
  for (auto& machine : volume.machines) machine->peer.mood = Mood::fine;
  volume.clock.run_for(5min);
  EXPECT_EQ(volume.stripes->counters().shards_owed, 0U);
  for (const auto& file : files) {
    const auto read = volume.check_all(*file);
    EXPECT_TRUE(read) << read.error();
  }
  for (const auto& file : files) volume.drop(*file);
  volume.stripes->collect_soon();
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.shards_held(), 0U);
  EXPECT_EQ(volume.files_in("cache"), 0U);
  EXPECT_EQ(volume.files_in("staging"), 0U);
}

}  // namespace
}  // namespace ephfs::fs::testing
