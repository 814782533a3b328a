// SPDX-License-Identifier: Apache-2.0
// Appending, sealing, and what a crash leaves.
#include <algorithm>
#include <fstream>

#include <sys/stat.h>

#include "fs/extent_codec.hpp"
#include "node/file_shard_store.hpp"
#include "tests/fs/stripes_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

using core::Error;

TEST(StagingTest, WhatIsStagedReadsBackAtOnce) {
  StripesVolume volume(1);
  EPHFS_TRACE_SEED(volume.random);
  volume.open();
  const auto one = volume.make_file();
  const auto other = volume.make_file();
  for (int round = 0; round < 40; ++round) {
    ASSERT_TRUE(volume.append(*one, volume.random.between(1, 200'000)));
    ASSERT_TRUE(volume.append(*other, volume.random.between(1, 40'000)));
  }
  EXPECT_TRUE(volume.check_local(*one));
  EXPECT_TRUE(volume.check_local(*other));
  for (int round = 0; round < 40; ++round) {
    const auto from = volume.random.below(one->content.size());
    const auto length = volume.random.between(1, std::min<std::uint64_t>(one->content.size() - from, 600'000));
    EXPECT_TRUE(volume.check(*one, from, length));
  }
}

TEST(StagingTest, SmallFilesShareAStripeAndLargeOnesHaveTheirOwn) {
  StripesVolume volume(1);
  volume.open();
  const auto small = volume.make_file();
  const auto other = volume.make_file();
  const auto large = volume.make_file();
  ASSERT_TRUE(volume.append(*small, 100));
  ASSERT_TRUE(volume.append(*large, 3 * kStripeBytes + 10));
  ASSERT_TRUE(volume.append(*other, 100));
  EXPECT_EQ(volume.stripes_of(*small), volume.stripes_of(*other));
  ASSERT_EQ(large->extents.size(), 4U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(large->extents[i].length, kStripeBytes);
    const auto in_stripe = volume.catalog->extents_in(large->extents[i].stripe);
    ASSERT_TRUE(in_stripe);
    EXPECT_EQ(in_stripe->size(), 1U);
  }
  EXPECT_TRUE(volume.check_all(*large));
}

TEST(StagingTest, ManySmallRunsAtOnceLieOneBehindTheOther) {
  StripesVolume volume(1);
  volume.open();
  const auto file = volume.make_file();
  const core::Bytes bytes = volume.random.bytes(kStripeBytes + 100'000);
  StageRequest request;
  request.inode = file->inode;
  request.cipher = {file->id, &file->key};
  request.deadline = file->deadline;
  request.ttl = file->ttl;
  for (std::uint64_t at = 0; at < bytes.size();) {
    const std::uint64_t length = std::min<std::uint64_t>(volume.random.between(1, 20'000), bytes.size() - at);
    request.runs.push_back({at, core::ByteView(bytes).subspan(at, length)});
    at += length;
  }
  {
    const auto staged = volume.stripes->stage(request);
    ASSERT_TRUE(staged) << staged.error();
    EXPECT_GE(staged->extents.size(), request.runs.size());
    EXPECT_EQ(staged->changes.size(), 2U) << "the records of two stripes";
    ASSERT_TRUE(volume.commit(*file, *staged, bytes));
  }
  EXPECT_TRUE(volume.check_all(*file));
  volume.crash_and_open();
  EXPECT_TRUE(volume.check_all(*file));
}

TEST(StagingTest, StreamsDoNotShareStripes) {
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20U;
  StripesVolume volume;
  volume.open();
  volume.start();
  const auto one = volume.make_file();
  const auto other = volume.make_file();
  const auto small = volume.make_file();
  for (std::uint64_t at = 0; at < 4 * kStripeBytes; at += kPiece) {
    ASSERT_TRUE(volume.append(*one, kPiece));
    ASSERT_TRUE(volume.append(*other, kPiece));
    ASSERT_TRUE(volume.append(*small, 1000));
  }
  for (const auto* const file : {one.get(), other.get()}) {
    std::map<StripeNumber, std::uint64_t> past_the_first;
    for (const auto& extent : file->extents) {
      if (extent.offset >= kStripeBytes) past_the_first[extent.stripe] += extent.length;
    }
    EXPECT_EQ(past_the_first.size(), 3U);
    for (const auto& [stripe, bytes] : past_the_first) EXPECT_EQ(bytes, kStripeBytes);
  }
  // What was kept in memory for coding is what the files hold.
  for (const auto* const file : {one.get(), other.get(), small.get()}) {
    ASSERT_TRUE(volume.settle(*file, Durability::full));
    EXPECT_TRUE(volume.check_local(*file));
  }
  std::filesystem::remove_all(volume.options.directory / "cache");
  volume.close();
  volume.open();
  for (const auto* const file : {one.get(), other.get(), small.get()}) EXPECT_TRUE(volume.check_all(*file));
}

TEST(StagingTest, AnotherBucketIsAnotherStripe) {
  StripesVolume volume(1);
  volume.open();
  const auto hour = volume.make_file(1h);
  const auto day = volume.make_file(24h);
  ASSERT_TRUE(volume.append(*hour, 100));
  ASSERT_TRUE(volume.append(*day, 100));
  EXPECT_NE(volume.stripes_of(*hour), volume.stripes_of(*day));
}

TEST(StagingTest, ManyBucketsKeepFewStripesOpen) {
  StripesVolume volume(1);
  volume.open();
  std::vector<std::unique_ptr<TestFile>> files;
  for (int i = 0; i < 200; ++i) {
    files.push_back(volume.make_file(1h + 5min * i));
    ASSERT_TRUE(volume.append(*files.back(), 100));
  }
  // The rest are closed: once the sealing task runs they are sealed, long before their age.
  volume.start();
  EXPECT_LE(volume.stripes->counters().open_stripes, 64U);
  for (const auto& file : files) EXPECT_TRUE(volume.check_all(*file));
}

TEST(StagingTest, AStripeIsNotSealedWhilePinned) {
  StripesVolume volume(1);
  volume.open();
  volume.start();
  const auto file = volume.make_file();
  const core::Bytes bytes = volume.random.bytes(1000);
  {
    const auto staged = volume.stage(*file, 0, bytes);
    ASSERT_TRUE(staged);
    volume.clock.run_for(1min);
    EXPECT_EQ(volume.stripes->counters().open_stripes, 1U);
    ASSERT_TRUE(volume.commit(*file, *staged, bytes));
  }
  volume.clock.run_for(1s);
  EXPECT_EQ(volume.stripes->counters().open_stripes, 0U);
  EXPECT_EQ(volume.shards_held(), 1U);
  EXPECT_TRUE(volume.check_all(*file));
}

TEST(StagingTest, WhatWasNeverCommittedLeavesNothing) {
  StripesVolume volume(1);
  volume.open();
  volume.start();
  const auto file = volume.make_file();
  { ASSERT_TRUE(volume.stage(*file, 0, volume.random.bytes(1000))); }
  EXPECT_EQ(volume.files_in("staging"), 1U);
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.files_in("staging"), 0U);
  EXPECT_EQ(volume.stripes->counters().staged_bytes, 0U);
  EXPECT_EQ(volume.shards_held(), 0U);
}

TEST(StagingTest, AStripeIsSealedByAgeAndSoonerWhenItDiesSoon) {
  StripesVolume volume(1);
  volume.open();
  volume.start();
  const auto day = volume.make_file(24h);
  const auto brief = volume.make_file(3s);
  ASSERT_TRUE(volume.append(*day, 100));
  ASSERT_TRUE(volume.append(*brief, 100));
  volume.clock.run_for(500ms);
  EXPECT_EQ(volume.shards_held(), 1U);
  volume.clock.run_for(4400ms);
  EXPECT_EQ(volume.stripes->counters().open_stripes, 1U);
  volume.clock.run_for(200ms);
  EXPECT_EQ(volume.stripes->counters().open_stripes, 0U);
}

TEST(StagingTest, CommitsInAnyOrderSurviveACrash) {
  StripesVolume volume(1);
  EPHFS_TRACE_SEED(volume.random);
  volume.open();
  const auto first = volume.make_file();
  const auto second = volume.make_file();
  const core::Bytes bytes = volume.random.bytes(50'000);
  const core::Bytes more = volume.random.bytes(70'000);
  {
    const auto earlier = volume.stage(*first, 0, bytes);
    const auto later = volume.stage(*second, 0, more);
    ASSERT_TRUE(earlier && later);
    ASSERT_TRUE(volume.commit(*second, *later, more));
    ASSERT_TRUE(volume.commit(*first, *earlier, bytes));
  }
  volume.crash_and_open();
  EXPECT_TRUE(volume.check_local(*first));
  EXPECT_TRUE(volume.check_local(*second));
  volume.start();
  volume.clock.run_for(1s);
  EXPECT_EQ(volume.shards_held(), 1U);
  EXPECT_TRUE(volume.check_all(*first));
}

TEST(StagingTest, ACrashSealsOpenStripesAtTheirLastExtent) {
  StripesVolume volume(1);
  volume.open();
  const auto file = volume.make_file();
  ASSERT_TRUE(volume.append(*file, 30'000));
  const auto lost = volume.make_file();
  std::filesystem::path disk;
  {
    // Staged, and the daemon is killed before the commit.
    const auto staged = volume.stage(*lost, 0, volume.random.bytes(90'000));
    ASSERT_TRUE(staged);
    disk = volume.copy_disk();
  }
  volume.open_copy(disk);
  const auto record = volume.catalog->stripe(volume.stripes_of(*file).front());
  ASSERT_TRUE(record && *record);
  EXPECT_EQ((*record)->state, meta::StripeState::sealed);
  EXPECT_EQ((*record)->length, sealed_length(30'000));
  EXPECT_EQ((*record)->deadline, file->deadline);
  EXPECT_TRUE(volume.check_local(*file));
  // Nothing is appended to it any more.
  const auto next = volume.make_file();
  ASSERT_TRUE(volume.append(*next, 10));
  EXPECT_NE(volume.stripes_of(*next), volume.stripes_of(*file));
}

TEST(StagingTest, ADamagedStagedFileIsNamedAndTheRestWorks) {
  StripesVolume volume(1);
  volume.open();
  const auto hurt = volume.make_file(1h);
  const auto well = volume.make_file(24h);
  ASSERT_TRUE(volume.append(*hurt, 30'000));
  ASSERT_TRUE(volume.append(*well, 30'000));
  const StripeNumber number = volume.stripes_of(*hurt).front();
  const auto record = volume.catalog->stripe(number);
  ASSERT_TRUE(record && *record);
  const std::string name = std::to_string(number.value) + "-" + (*record)->id.hex() + ".stripe";
  std::filesystem::resize_file(volume.options.directory / "staging" / name, 1000);
  volume.crash_and_open();
  ASSERT_EQ(volume.log.size(), 1U);
  EXPECT_NE(volume.log.front().find(name), std::string::npos) << volume.log.front();
  const auto read = volume.check_local(*hurt);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Error::damaged);
  EXPECT_TRUE(volume.check_local(*well));
  volume.start();
  const auto settled = volume.settle(*hurt, Durability::quorum);
  ASSERT_FALSE(settled);
  EXPECT_EQ(settled.error().code, Error::damaged);
  EXPECT_TRUE(volume.settle(*well, Durability::quorum));
}

TEST(StagingTest, FilesOfNoKnownStripeAreDeleted) {
  StripesVolume volume(1);
  volume.open();
  volume.close();
  const std::string unknown = "7-00112233445566778899aabbccddeeff.stripe";
  for (const std::string folder : {"staging", "cache"}) {
    for (const std::string& name : {unknown, std::string("junk"), std::string("3-00.part")}) {
      std::ofstream(volume.options.directory / folder / name) << "x";
    }
  }
  volume.open();
  EXPECT_EQ(volume.files_in("staging"), 0U);
  EXPECT_EQ(volume.files_in("cache"), 0U);
}

TEST(StagingTest, AFullStagingRefusesUntilThereIsRoom) {
  StripesVolume volume(6);
  volume.options.staging_bytes = 16 << 20;
  volume.open();
  volume.start();
  for (auto& machine : volume.machines) machine->peer.mood = Mood::down;
  const auto file = volume.make_file();
  Result<> appended;
  while (appended && file->content.size() < (64U << 20U)) appended = volume.append(*file, 1 << 20);
  ASSERT_FALSE(appended);
  EXPECT_EQ(appended.error().code, Error::would_block);
  EXPECT_LE(volume.stripes->counters().staged_bytes, volume.options.staging_bytes);
  EXPECT_GE(file->content.size(), 15U << 20U);

  const core::Boottime began = volume.clock.boot_now();
  const auto room = volume.run(volume.stripes->room(volume.in(3s)));
  ASSERT_FALSE(room);
  EXPECT_EQ(room.error().code, Error::timed_out);
  EXPECT_NE(room.error().detail.find("refused"), std::string::npos) << room.error();
  EXPECT_EQ(volume.clock.boot_now() - began, core::Nanoseconds(3s));

  for (auto& machine : volume.machines) machine->peer.mood = Mood::fine;
  EXPECT_TRUE(volume.run(volume.stripes->room(volume.in(60s))));
  EXPECT_TRUE(volume.append(*file, 1 << 20));
  EXPECT_TRUE(volume.check_all(*file));
}

TEST(StagingTest, AloneTheStagedFileBecomesTheShard) {
  const TempDir node_directory;
  auto store = node::open_file_shard_store(node_directory.path(), std::uint64_t{1} << 30U, VirtualClock::kDefaultWall);
  ASSERT_TRUE(store) << store.error();
  StripesVolume volume(1, store->get());
  volume.machines.front()->peer.local = true;
  volume.open();
  volume.start();
  const auto small = volume.make_file();
  const auto large = volume.make_file();
  ASSERT_TRUE(volume.append(*small, 12'345));
  ASSERT_TRUE(volume.append(*large, kStripeBytes));
  ASSERT_TRUE(volume.settle(*small, Durability::quorum));
  ASSERT_TRUE(volume.settle(*large, Durability::full));
  EXPECT_EQ((*store)->usage().shards, 2U);
  EXPECT_EQ(volume.files_in("staging"), 0U);
  ASSERT_EQ(volume.files_in("cache"), 2U);
  for (const auto& one : std::filesystem::directory_iterator(volume.options.directory / "cache")) {
    EXPECT_EQ(std::filesystem::hard_link_count(one), 2U) << one.path();
  }
  EXPECT_EQ(volume.stripes->counters().cached_bytes, 0U) << "it costs no space of its own";
  EXPECT_EQ(volume.stripes->counters().staged_bytes, 0U);
  EXPECT_TRUE(volume.check_local(*small));
  EXPECT_TRUE(volume.check_local(*large));
  volume.close();
  volume.open();
  EXPECT_EQ(volume.stripes->counters().cached_bytes, 0U);
  EXPECT_TRUE(volume.check_local(*small));
}

}  // namespace
}  // namespace ephfs::fs::testing
