// SPDX-License-Identifier: Apache-2.0
// Reading back from nodes: with some dead, slow or lying; through the cache; never past the time given.
#include <algorithm>
#include <fstream>

#include "fs/extent_codec.hpp"
#include "tests/fs/stripes_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

using core::Error;

/// A volume with a file on six nodes and nothing of it here.
class ReadingTest : public ::testing::Test {
 protected:
  ReadingTest() {
    volume.open();
    volume.start();
    file = volume.make_file();
  }
  void place(std::size_t bytes) {
    ASSERT_TRUE(volume.append(*file, bytes));
    const auto settled = volume.settle(*file, Durability::full);
    ASSERT_TRUE(settled) << settled.error();
    forget();
  }
  /// Deletes the cached copies, as if they had been evicted.
  void forget() {
    volume.close();
    std::filesystem::remove_all(volume.options.directory / "cache");
    volume.open();
    volume.start();
  }
  [[nodiscard]] MoodyPeer& peer_of_shard(std::uint8_t index) {
    const auto rows = volume.catalog->placements(volume.stripes_of(*file).front());
    EXPECT_TRUE(rows) << rows.error();
    const auto found =
        std::ranges::find(volume.machines, (*rows)[index].node, [](const auto& machine) { return machine->peer.id(); });
    return (*found)->peer;
  }
  [[nodiscard]] std::size_t fetches() const {
    std::size_t count = 0;
    for (const auto& machine : volume.machines) count += machine->peer.fetches;
    return count;
  }

  StripesVolume volume{6};
  std::unique_ptr<TestFile> file;
};

TEST_F(ReadingTest, EveryPairOfNodesMayBeDead) {
  volume.options.cache_bytes = 0;
  place(5'000'000);
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = i + 1; j < 6; ++j) {
      volume.machines[i]->peer.mood = volume.machines[j]->peer.mood = Mood::down;
      const auto all = volume.check_all(*file);
      EXPECT_TRUE(all) << i << " and " << j << ": " << all.error();
      volume.machines[i]->peer.mood = volume.machines[j]->peer.mood = Mood::fine;
      volume.clock.run_for(1min);
    }
  }
}

TEST_F(ReadingTest, ASmallReadFetchesLittle) {
  place(4'000'000);
  EXPECT_TRUE(volume.check(*file, 100'000, 4096));
  std::uint64_t bytes = 0;
  for (const auto& machine : volume.machines) bytes += machine->peer.fetched_bytes;
  EXPECT_LE(bytes, 3 * 4096U);
  EXPECT_EQ(fetches(), 1U);
  EXPECT_TRUE(volume.check(*file, 100'000, 4096)) << "again";
  EXPECT_EQ(fetches(), 1U) << "from the cache";
}

TEST_F(ReadingTest, RandomReadsAreRightWhateverIsCached) {
  place(6'000'000);
  EPHFS_TRACE_SEED(volume.random);
  for (int round = 0; round < 200; ++round) {
    const auto from = volume.random.below(file->content.size());
    const auto length = volume.random.between(1, std::min<std::uint64_t>(file->content.size() - from, 300'000));
    if (round % 50 == 25) volume.machines[volume.random.below(6)]->peer.mood = Mood::down;
    const auto read = volume.check(*file, from, length, volume.random.chance(10));
    ASSERT_TRUE(read) << read.error();
    if (round % 50 == 49) {
      for (auto& machine : volume.machines) machine->peer.mood = Mood::fine;
    }
  }
}

TEST_F(ReadingTest, ASlowNodeIsHedged) {
  place(4'000'000);
  peer_of_shard(0).delay = 5s;
  const core::Boottime began = volume.clock.boot_now();
  EXPECT_TRUE(volume.check(*file, 1000, 4096));
  EXPECT_EQ(volume.clock.boot_now() - began, core::Nanoseconds(volume.options.hedge_delay));
  const core::Boottime then = volume.clock.boot_now();
  EXPECT_TRUE(volume.check(*file, 100'000, 4096, true));
  EXPECT_EQ(volume.clock.boot_now() - then, core::Nanoseconds(volume.options.hedge_delay)) << "a whole stripe";
}

TEST_F(ReadingTest, ANodeThatIsAlwaysLateIsNoLongerWaitedFor) {
  volume.options.cache_bytes = 0;
  place(4'000'000);
  peer_of_shard(0).mood = Mood::silent;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(volume.check(*file, 1000, 4096));
  const core::Boottime began = volume.clock.boot_now();
  EXPECT_TRUE(volume.check(*file, 1000, 4096));
  EXPECT_EQ(volume.clock.boot_now(), began);
}

TEST_F(ReadingTest, ALiarIsFoundOutAndNamedOnce) {
  volume.options.cache_bytes = 0;
  place(4'000'000);
  MoodyPeer& liar = peer_of_shard(1);
  liar.mood = Mood::lying;
  volume.log.clear();
  for (int i = 0; i < 3; ++i) {
    const auto all = volume.check_all(*file);
    EXPECT_TRUE(all) << all.error();
  }
  ASSERT_EQ(volume.log.size(), 1U);
  EXPECT_NE(volume.log.front().find(liar.id().hex()), std::string::npos) << volume.log.front();
}

TEST_F(ReadingTest, ALiarDoesNotPoisonTheCache) {
  place(4'000'000);
  peer_of_shard(1).mood = Mood::lying;
  EXPECT_TRUE(volume.check_all(*file, true));
  peer_of_shard(1).mood = Mood::fine;
  EXPECT_TRUE(volume.check_all(*file, true));
  EXPECT_TRUE(volume.check_all(*file));
}

TEST_F(ReadingTest, TwoLiarsAndOneDeadAreTooMany) {
  place(400'000);
  peer_of_shard(0).mood = peer_of_shard(1).mood = Mood::lying;
  EXPECT_TRUE(volume.check_all(*file));
  forget();
  peer_of_shard(4).mood = Mood::down;
  const auto read = volume.check_all(*file);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Error::io) << read.error();
}

TEST_F(ReadingTest, AThirdDeadNodeIsIoWithinTheTimeGivenAndPassesWithIt) {
  volume.options.cache_bytes = 0;
  place(4'000'000);
  for (const Mood mood : {Mood::down, Mood::silent}) {
    for (std::uint8_t index = 0; index < 3; ++index) peer_of_shard(index).mood = mood;
    const core::Boottime began = volume.clock.boot_now();
    const auto read = volume.check(*file, 0, 4096);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Error::io) << read.error();
    EXPECT_LE(volume.clock.boot_now() - began, core::Nanoseconds(volume.options.peer_timeout));
    peer_of_shard(2).mood = Mood::fine;
    EXPECT_TRUE(volume.check(*file, 0, 4096)) << "as soon as it is back";
    for (auto& machine : volume.machines) machine->peer.mood = Mood::fine;
    volume.clock.run_for(1min);
  }
}

TEST_F(ReadingTest, ANodeThatStartsAgainIsWaitedFor) {
  volume.options.cache_bytes = 0;
  place(4'000'000);
  for (std::uint8_t index = 0; index < 3; ++index) peer_of_shard(index).mood = Mood::down;
  std::function<void()> return_one = [this] { peer_of_shard(2).mood = Mood::fine; };
  const auto timer = volume.clock.call_at(volume.context.get_executor(), volume.in(3s), return_one);
  const auto read = volume.check(*file, 0, 4096);
  EXPECT_TRUE(read) << read.error();
  // Who has been away for longer than anybody would wait is not waited for.
  peer_of_shard(2).mood = Mood::down;
  EXPECT_FALSE(volume.check(*file, 0, 4096));
  const core::Boottime began = volume.clock.boot_now();
  EXPECT_FALSE(volume.check(*file, 0, 4096));
  EXPECT_LT(volume.clock.boot_now() - began, core::Nanoseconds(100ms));
}

TEST_F(ReadingTest, AReaderMayGiveUp) {
  place(400'000);
  for (auto& machine : volume.machines) machine->peer.mood = Mood::silent;
  for (const bool sequential : {false, true}) {
    std::stop_source stop;
    const auto timer =
        volume.clock.call_at(volume.context.get_executor(), volume.in(100ms), [&stop] { stop.request_stop(); });
    core::Bytes out(100);
    const net::CallLimits limits{volume.in(10s), stop.get_token()};
    const core::Boottime began = volume.clock.boot_now();
    const auto read =
        volume.run(volume.stripes->read(file->extents.front(), {file->id, &file->key}, 0, out, sequential, limits));
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Error::cancelled);
    EXPECT_EQ(volume.clock.boot_now() - began, core::Nanoseconds(100ms));
  }
}

TEST_F(ReadingTest, SequentialReadersFetchAStripeOnce) {
  place(4'000'000);
  for (auto& machine : volume.machines) machine->peer.delay = 10ms;
  const auto number = volume.stripes_of(*file).front();
  volume.stripes->prefetch(number);
  volume.stripes->prefetch(number);
  EXPECT_TRUE(volume.check(*file, 0, 100'000, true));
  EXPECT_TRUE(volume.check_all(*file, true));
  EXPECT_EQ(fetches(), 4U);
  EXPECT_TRUE(volume.check_local(*file));
}

TEST_F(ReadingTest, TheCacheKeepsWithinItsLimit) {
  volume.options.cache_bytes = 3 * kStripeBytes;
  place(8 * kStripeBytes);
  for (int round = 0; round < 2; ++round) {
    const auto all = volume.check_all(*file, round == 0);
    EXPECT_TRUE(all) << all.error();
    EXPECT_LE(volume.stripes->counters().cached_bytes, volume.options.cache_bytes);
    EXPECT_GT(volume.stripes->counters().cached_bytes, kStripeBytes);
  }
  // What was read last is here; what was read first is not.
  core::Bytes out(100);
  const auto& first = file->extents.front();
  const auto& last = file->extents.back();
  EXPECT_TRUE(volume.stripes->try_read(last, {file->id, &file->key}, last.offset, out));
  const auto gone = volume.stripes->try_read(first, {file->id, &file->key}, first.offset, out);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, Error::would_block);
}

TEST_F(ReadingTest, ADamagedCopyIsDroppedAndFetchedAgain) {
  place(400'000);
  ASSERT_TRUE(volume.check_all(*file, true));
  volume.clock.settle();
  ASSERT_TRUE(volume.check_local(*file));
  for (const auto& one : std::filesystem::directory_iterator(volume.options.directory / "cache")) {
    std::fstream content(one.path(), std::ios::in | std::ios::out | std::ios::binary);
    content.seekp(200'000);
    content.put('x');
    content.put('y');
  }
  EXPECT_TRUE(volume.check_all(*file));
  EXPECT_FALSE(volume.log.empty());
}

TEST_F(ReadingTest, AShardThatItsNodeLostIsStoredAgain) {
  place(400'000);
  const auto rows = volume.catalog->placements(volume.stripes_of(*file).front());
  ASSERT_TRUE(rows);
  auto& machine = **std::ranges::find(volume.machines, (*rows)[0].node, [](const auto& one) { return one->peer.id(); });
  ASSERT_TRUE(machine.store.remove((*rows)[0].shard, node::RemovalSync::synced));
  EXPECT_TRUE(volume.check_all(*file));
  volume.clock.run_for(1min);
  EXPECT_EQ(machine.shards(), 1U);
}

TEST_F(ReadingTest, AShardThatADiskDamagedIsFoundByReadingAndMadeAnewAndItsNodeIsNoLiar) {
  for (const bool sequential : {false, true}) {
    SCOPED_TRACE(sequential ? "a whole stripe at once" : "just the ranges");
    place(400'000);
    const auto row = volume.catalog->placements(volume.stripes_of(*file).front())->front();
    auto& machine = **std::ranges::find(volume.machines, row.node, [](const auto& one) { return one->peer.id(); });
    ASSERT_TRUE(machine.store.flip_byte(row.shard, 10'000));
    const net::FetchRequest whole{row.shard, 0, row.shard_bytes, true};
    ASSERT_FALSE(machine.store.get(whole));
    EXPECT_TRUE(volume.check_all(*file, sequential));
    volume.clock.run_for(1min);
    EXPECT_TRUE(machine.store.get(whole)) << "stored again where it was";
    EXPECT_TRUE(
        std::ranges::none_of(volume.log, [](const auto& line) { return line.find("gave what is not") != line.npos; }));
    volume.close();
    volume.open();
    volume.start();
    file = volume.make_file();
  }
}

TEST_F(ReadingTest, AnotherFilesKeyOpensNothing) {
  place(400'000);
  const core::Key other = core::random_key();
  core::Bytes out(100);
  const net::CallLimits limits{volume.in(10s), {}};
  const auto read = volume.run(volume.stripes->read(file->extents.front(), {file->id, &other}, 0, out, false, limits));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Error::damaged);
  EXPECT_TRUE(volume.check_all(*file)) << "and nobody is blamed for it";
}

TEST_F(ReadingTest, RowsThatCannotBeAreDamaged) {
  place(400'000);
  const auto number = volume.stripes_of(*file).front();
  const auto good = volume.catalog->stripe(number);
  ASSERT_TRUE(good && *good);
  meta::StripeRecord bad = **good;
  bad.length = std::uint64_t{1} << 40U;
  ASSERT_TRUE(volume.catalog->commit({meta::PutStripe{bad}}));
  const auto read = volume.check_all(*file);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Error::damaged) << read.error();
  forget();
  EXPECT_FALSE(volume.check_all(*file, true));
  ASSERT_TRUE(volume.catalog->commit({meta::PutStripe{**good}}));
  EXPECT_TRUE(volume.check_all(*file));
}

}  // namespace
}  // namespace ephfs::fs::testing
