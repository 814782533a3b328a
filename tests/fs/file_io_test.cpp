// SPDX-License-Identifier: Apache-2.0
// Reading, writing, flush and fsync where stripes are slow, full, far away or gone.
#include <algorithm>

#include "tests/fs/file_volume.hpp"

namespace ephfs::fs::testing {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;

using FileIoTest = FileVolumeTest;

TEST_F(FileIoTest, AStreamOfSmallWritesIsStagedInWholeStripes) {
  const File file = volume.create("stream");
  constexpr std::uint64_t kWrite = kMiB / 8;
  for (std::uint64_t at = 0; at < 10 * kMiB; at += kWrite) ASSERT_TRUE(volume.write(file, at, filled(kWrite, 1)));
  EXPECT_EQ(volume.disk->staged_bytes, 2 * kStripeBytes) << "the rest has still to fill a stripe";
  ASSERT_TRUE(volume.flush(file));
  EXPECT_EQ(volume.disk->staged_bytes, 10 * kMiB);
  EXPECT_EQ(volume.disk->stripes.size(), 3U);
}

TEST_F(FileIoTest, MemoryForDirtyBytesIsBounded) {
  FileVolume small;
  small.options.dirty_bytes = kMiB;
  small.open();
  std::vector<File> files;
  constexpr std::uint64_t kWrite = 100'000;
  for (std::uint64_t i = 1; i <= 50; ++i) {
    files.push_back(small.create("file" + std::to_string(i)));
    ASSERT_TRUE(small.write(files.back(), 0, filled(kWrite, 1)));
    EXPECT_LE(i * kWrite - small.disk->staged_bytes, kMiB);
  }
}

TEST_F(FileIoTest, AWriteLargerThanTheBoundPasses) {
  FileVolume small;
  small.options.dirty_bytes = 1000;
  small.open();
  const File file = small.create("file");
  EXPECT_TRUE(small.write(file, 0, filled(5000, 1)));
  EXPECT_TRUE(small.write(file, 5000, filled(5000, 1)));
  EXPECT_EQ(small.disk->staged_bytes, 5000U);
}

TEST_F(FileIoTest, AWriterWaitsForRoomInStaging) {
  FileVolume small;
  small.options.dirty_bytes = 1000;
  small.open();
  const File file = small.create("file");
  ASSERT_TRUE(small.write(file, 0, filled(1000, 1)));
  small.disk->room = 0;
  EXPECT_EQ(small.engine().try_write(*file, 1000, filled(1000, 2)).error().code, core::Error::would_block);
  const auto begin = small.clock.boot_now();
  const auto timer = small.clock.call_at(small.io.get_executor(), begin + 2s, [&] { small.disk->room = 10'000; });
  EXPECT_TRUE(small.write(file, 1000, filled(1000, 2)));
  EXPECT_GE(small.clock.boot_now() - begin, 2s);
  EXPECT_LE(small.clock.boot_now() - begin, 3s);
  const auto content = small.content(file);
  ASSERT_TRUE(content);
  EXPECT_EQ(content->size(), 2000U);
}

TEST_F(FileIoTest, WhereStagingStaysFullTheWriterIsToldInTimeAndNothingIsLost) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  volume.disk->room = 0;
  const auto begin = volume.clock.boot_now();
  EXPECT_EQ(volume.engine().try_flush(*file).error().code, core::Error::would_block);
  EXPECT_EQ(volume.flush(file).error().code, core::Error::timed_out);
  EXPECT_LE(volume.clock.boot_now() - begin, volume.options.peer_timeout + 1s);
  volume.disk->room = 1000;
  EXPECT_TRUE(volume.engine().try_flush(*file));
  const auto content = volume.content(file);
  ASSERT_TRUE(content);
  EXPECT_EQ(*content, filled(1000, 1));
}

TEST_F(FileIoTest, AnInterruptedWriterStopsWaiting) {
  FileVolume small;
  small.options.dirty_bytes = 1000;
  small.open();
  const File file = small.create("file");
  ASSERT_TRUE(small.write(file, 0, filled(1000, 1)));
  small.disk->room = 0;
  std::stop_source stop;
  const auto begin = small.clock.boot_now();
  const auto timer = small.clock.call_at(small.io.get_executor(), begin + 1s, [&] { stop.request_stop(); });
  EXPECT_EQ(small.run(small.engine().write(file, 1000, filled(1000, 2), stop.get_token())).error().code,
            core::Error::interrupted);
  EXPECT_LE(small.clock.boot_now() - begin, 1500ms);
}

TEST_F(FileIoTest, FarBytesAreFetchedSeveralPartsAtOnce) {
  const File file = volume.create("file");
  constexpr std::uint64_t kParts = 20;
  core::Bytes expected;
  for (std::uint64_t i = 0; i < kParts; ++i) {
    ASSERT_TRUE(volume.write(file, i * 1000, filled(1000, static_cast<int>(i))));
    ASSERT_TRUE(volume.flush(file));
    expected.insert(expected.end(), 1000, static_cast<std::byte>(i));
  }
  volume.disk->remote = true;
  volume.disk->read_delay = 100ms;
  auto out = filled(kParts * 1000, 0);
  EXPECT_EQ(volume.engine().try_read(*file, 0, out).error().code, core::Error::would_block);
  const auto begin = volume.clock.boot_now();
  const auto content = volume.content(file);
  ASSERT_TRUE(content) << content.error();
  EXPECT_EQ(*content, expected);
  EXPECT_EQ(volume.disk->remote_reads, kParts);
  EXPECT_GT(volume.disk->remote_reads_most, 1U);
  EXPECT_LT(volume.clock.boot_now() - begin, 1s);
}

TEST_F(FileIoTest, AReadThatWaitsOverTheDeadlineIsStale) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  ASSERT_TRUE(volume.flush(file));
  ASSERT_TRUE(volume.set_ttl(file->inode->number, "3s"));
  volume.disk->remote = true;
  volume.disk->read_delay = 1s;
  EXPECT_TRUE(volume.content(file)) << "two seconds are left";
  volume.disk->read_delay = 2500ms;
  auto out = filled(1000, 0);
  const core::MutableByteView view(out);
  EXPECT_EQ(volume.run(volume.engine().read(file, 0, view, {})).error().code, core::Error::stale);
  EXPECT_EQ(volume.engine().try_write(*file, 0, filled(1, 1)).error().code, core::Error::stale);
  EXPECT_TRUE(volume.engine().try_flush(*file)) << "closing it is no failure";
  EXPECT_TRUE(volume.flush(file));
  EXPECT_EQ(volume.run(volume.engine().fsync(file)).error().code, core::Error::stale);
}

TEST_F(FileIoTest, AReadOutlivesStripesThatVanish) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  ASSERT_TRUE(volume.flush(file));
  for (const bool remote : {false, true}) {
    volume.disk->remote = remote;
    volume.disk->vanished_reads = 3;
    const auto content = volume.content(file);
    ASSERT_TRUE(content) << content.error();
    EXPECT_EQ(*content, filled(1000, 1));
    volume.disk->vanished_reads = 4;
    EXPECT_EQ(errno_of(volume.content(file)), EIO);
  }
}

TEST_F(FileIoTest, SequentialReadersAreReadAheadOf) {
  const File file = volume.create("file");
  for (std::uint64_t at = 0; at < 16 * kMiB; at += kMiB) ASSERT_TRUE(volume.write(file, at, filled(kMiB, 1)));
  ASSERT_TRUE(volume.flush(file));
  auto out = filled(128U << 10U, 0);
  Random random;
  for (int i = 0; i < 50; ++i) {
    const File other = volume.open_file(file->inode->number);
    ASSERT_TRUE(volume.engine().try_read(*other, (4 + random.below(8)) * kMiB, out));
    volume.engine().release(other);
  }
  EXPECT_TRUE(volume.disk->prefetched.empty()) << "nobody reads on";
  for (std::uint64_t at = 0; at < 5 * kMiB; at += out.size()) ASSERT_TRUE(volume.engine().try_read(*file, at, out));
  const auto& ahead = volume.disk->prefetched;
  for (const std::int64_t stripe : {2, 3, 4}) {
    EXPECT_NE(std::ranges::find(ahead, StripeNumber{stripe}), ahead.end()) << "stripe " << stripe;
  }
  EXPECT_LT(ahead.size(), 30U) << "a step at a time";
}

TEST_F(FileIoTest, FsyncSyncsWhatIsNotYetSafe) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  ASSERT_TRUE(volume.run(volume.engine().fsync(file)));
  ASSERT_EQ(volume.disk->synced.size(), 1U);
  EXPECT_EQ(volume.disk->synced[0], std::vector{StripeNumber{1}});
  EXPECT_EQ(volume.catalog->syncs, 1U);
  ASSERT_TRUE(volume.run(volume.engine().fsync(file)));
  EXPECT_EQ(volume.disk->synced.size(), 1U) << "nothing new";
  ASSERT_TRUE(volume.write(file, 1000, filled(1000, 1)));
  ASSERT_TRUE(volume.run(volume.engine().fsync(file)));
  EXPECT_EQ(volume.disk->synced.size(), 2U) << "the same stripe got more bytes";
}

TEST_F(FileIoTest, FsyncOnTheCallersThread) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  const unsigned before = volume.catalog->syncs;
  ASSERT_TRUE(volume.engine().try_fsync(*file));
  ASSERT_EQ(volume.disk->synced.size(), 1U);
  EXPECT_EQ(volume.disk->synced[0], std::vector{StripeNumber{1}});
  EXPECT_EQ(volume.catalog->syncs, before + 1);
  ASSERT_TRUE(volume.engine().try_fsync(*file));
  EXPECT_EQ(volume.disk->synced.size(), 1U) << "nothing new";
  ASSERT_TRUE(volume.write(file, 1000, filled(1000, 1)));
  volume.disk->room = 0;
  EXPECT_EQ(volume.engine().try_fsync(*file).error().code, core::Error::would_block) << "staging is full";
  volume.disk->room = ~std::uint64_t{0};
  ASSERT_TRUE(volume.engine().try_fsync(*file));
  EXPECT_EQ(volume.disk->synced.size(), 2U);
  ASSERT_TRUE(volume.set_ttl(file->inode->number, "3s"));
  volume.clock.run_for(3s);
  EXPECT_EQ(volume.engine().try_fsync(*file).error().code, core::Error::stale);
}

TEST_F(FileIoTest, FsyncUnderQuorumWaitsForNodesAndTellsTheirFailure) {
  FileVolume quorum;
  quorum.options.durability = Durability::quorum;
  quorum.open();
  const File file = quorum.create("file");
  ASSERT_TRUE(quorum.write(file, 0, filled(1000, 1)));
  quorum.disk->settle_failure = core::Error::quota_exceeded;
  const auto begin = quorum.clock.boot_now();
  EXPECT_EQ(errno_of(quorum.run(quorum.engine().fsync(file))), EDQUOT);
  EXPECT_EQ(quorum.clock.boot_now() - begin, quorum.options.peer_timeout);
  quorum.disk->settle_failure.reset();
  EXPECT_TRUE(quorum.run(quorum.engine().fsync(file)));
  EXPECT_EQ(quorum.disk->settled.size(), 2U);
  EXPECT_TRUE(quorum.run(quorum.engine().fsync(file)));
  EXPECT_EQ(quorum.disk->settled.size(), 2U) << "it is known to be safe";
  EXPECT_EQ(quorum.engine().try_fsync(*file).error().code, core::Error::would_block) << "nodes are waited for";
}

TEST_F(FileIoTest, FsyncAfterARemountLooksAtTheWholeFile) {
  const File file = volume.create("file");
  const InodeNumber number = file->inode->number;
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  ASSERT_TRUE(volume.flush(file));
  volume.crash();
  const File again = volume.open_file(number);
  ASSERT_TRUE(volume.run(volume.engine().fsync(again)));
  EXPECT_EQ(volume.disk->synced.size(), 1U);
}

TEST_F(FileIoTest, AnUnlinkedFileLivesUntilItsLastClose) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  ASSERT_TRUE(volume.engine().unlink(core::kRootInode, "file"));
  ASSERT_TRUE(volume.write(file, 500, filled(1000, 2)));
  ASSERT_TRUE(volume.flush(file));
  const auto content = volume.content(file);
  ASSERT_TRUE(content) << content.error();
  EXPECT_EQ(content->size(), 1500U);
  const InodeNumber number = file->inode->number;
  volume.engine().release(file);
  volume.engine().forget(number, 1);
  EXPECT_FALSE(volume.catalog->inode(number).value()) << "its row is gone";
  EXPECT_EQ(volume.catalog->totals().value().bytes, 0U);
}

TEST_F(FileIoTest, DirtyBytesOfARemovedFileAreForgotten) {
  FileVolume small;
  small.options.dirty_bytes = 2000;
  small.open();
  const File file = small.create("file");
  ASSERT_TRUE(small.write(file, 0, filled(2000, 1)));
  ASSERT_TRUE(small.engine().unlink(core::kRootInode, "file"));
  small.engine().release(file);
  const File other = small.create("other");
  ASSERT_TRUE(small.write(other, 0, filled(2000, 1)));
  EXPECT_EQ(small.disk->staged_bytes, 0U);
}

TEST_F(FileIoTest, CapacityIsEnforcedAndComesBack) {
  FileVolume small;
  small.options.capacity = 10'000;
  small.open();
  const File file = small.create("file");
  ASSERT_TRUE(small.write(file, 0, filled(6000, 1)));
  EXPECT_EQ(errno_of(small.write(file, 6000, filled(6000, 1))), ENOSPC);
  EXPECT_EQ(errno_of(small.engine().allocate(*file, Allocation::extend, 6000, 6000)), ENOSPC);
  EXPECT_EQ(small.size_of(file), 6000U);
  EXPECT_TRUE(small.write(file, 0, filled(6000, 2))) << "in place";
  ASSERT_TRUE(small.flush(file));
  ASSERT_TRUE(small.truncate(file, 0));
  EXPECT_TRUE(small.write(file, 0, filled(9000, 3)));
}

TEST_F(FileIoTest, FilesHaveALargestSize) {
  const File file = volume.create("file");
  EXPECT_EQ(errno_of(volume.engine().try_write(*file, kFileBytesMax, filled(1, 1))), EFBIG);
  EXPECT_TRUE(volume.engine().try_write(*file, kFileBytesMax - 1, filled(1, 1)));
  EXPECT_EQ(errno_of(volume.engine().try_write(*file, ~std::uint64_t{0} - 1, filled(5, 1))), EFBIG);
  EXPECT_EQ(errno_of(volume.engine().allocate(*file, Allocation::extend, kFileBytesMax, 1)), EFBIG);
  auto out = filled(10, 9);
  const auto got = volume.engine().try_read(*file, kFileBytesMax - 2, out);
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, 2U);
  EXPECT_EQ(out[0], std::byte{0});
  EXPECT_EQ(out[1], std::byte{1});
}

TEST_F(FileIoTest, OpeningWithTruncEmptiesTheFileAtOnce) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  ASSERT_TRUE(volume.flush(file));
  const InodeNumber number = file->inode->number;
  volume.engine().release(file);
  const File again = volume.open_file(number, O_RDWR | O_TRUNC);
  EXPECT_EQ(volume.size_of(again), 0U);
  volume.crash();
  EXPECT_EQ(volume.engine().attributes(number, false).value().size, 0U);
  EXPECT_EQ(volume.catalog->totals().value().bytes, 0U);
}

TEST_F(FileIoTest, AccessTimeFollowsRelatime) {
  const File file = volume.create("file");
  const InodeNumber number = file->inode->number;
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  const auto accessed = [&] { return volume.engine().attributes(number, false).value().accessed; };
  const auto read_later = [&](core::Nanoseconds later) {
    volume.clock.run_for(later);
    const auto before = accessed();
    EXPECT_TRUE(volume.content(file));
    return accessed() != before;
  };
  EXPECT_TRUE(read_later(1s)) << "written since it was read";
  EXPECT_FALSE(read_later(1s));
  EXPECT_TRUE(read_later(25h));
  volume.start();
  const auto last = accessed();
  volume.engine().release(file);
  volume.close();
  volume.open();
  EXPECT_EQ(accessed(), last) << "it went to the catalog when the file was closed";
}

TEST_F(FileIoTest, TheKernelWatchesOpenFiles) {
  volume.start();
  const File file = volume.create("file");
  const InodeNumber number = file->inode->number;
  const File second = volume.open_file(number);
  EXPECT_TRUE(volume.kernel.watched.contains(number));
  volume.engine().release(file);
  EXPECT_TRUE(volume.kernel.watched.contains(number));
  volume.engine().release(second);
  EXPECT_FALSE(volume.kernel.watched.contains(number));
}

TEST_F(FileIoTest, DirtyBytesAreFlushedByAge) {
  volume.start();
  const File file = volume.create("file");
  ASSERT_TRUE(volume.engine().try_write(*file, 0, filled(1000, 1)));
  volume.clock.run_for(volume.options.flush_age - 1ms);
  EXPECT_EQ(volume.disk->staged_bytes, 0U);
  volume.clock.run_for(2ms);
  EXPECT_EQ(volume.disk->staged_bytes, 1000U);
}

TEST_F(FileIoTest, AWritersTimesAreCommittedWithHisBytes) {
  int commits = 0;
  volume.fail_commit = [&commits] { return ++commits < 0; };
  const File file = volume.create("file");
  const InodeNumber number = file->inode->number;
  commits = 0;
  ASSERT_TRUE(volume.engine().try_write(*file, 0, filled(1000, 1)));
  const meta::FileTime written{1'800'000'000'123'456'789};
  EXPECT_TRUE(volume.engine().note_kernel_times(number, written, written, true));
  EXPECT_EQ(commits, 0);
  ASSERT_TRUE(volume.engine().try_flush(*file));
  EXPECT_EQ(commits, 1);
  // Times alone: pages were written back before.
  const meta::FileTime later{written.ns + 1};
  EXPECT_TRUE(volume.engine().note_kernel_times(number, later, later, true));
  ASSERT_TRUE(volume.engine().try_flush(*file));
  EXPECT_EQ(commits, 2);
  volume.crash();
  const auto attributes = volume.engine().attributes(number, false);
  ASSERT_TRUE(attributes);
  EXPECT_EQ(attributes->modified, later);
  EXPECT_EQ(attributes->changed, later);
}

TEST_F(FileIoTest, AReadersCloseCommitsNothing) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.engine().try_write(*file, 0, filled(1000, 1)));
  ASSERT_TRUE(volume.engine().try_flush(*file));
  const File reader = volume.open_file(file->inode->number, O_RDONLY);
  volume.engine().release(file);
  ASSERT_TRUE(volume.content(reader)) << "which makes its access time newer";
  volume.fail_commit = [] { return true; };
  EXPECT_TRUE(volume.engine().try_flush(*reader));
}

TEST_F(FileIoTest, TimesThatSomebodySetsAreNotLeftForLater) {
  const File file = volume.create("file");
  const InodeNumber number = file->inode->number;
  const auto before = volume.engine().attributes(number, false);
  ASSERT_TRUE(before);
  const auto noted = [&](std::int64_t modified_by, std::int64_t changed_by) {
    return volume.engine().note_kernel_times(number, {before->modified.ns + modified_by},
                                             {before->changed.ns + changed_by}, false);
  };
  EXPECT_FALSE(noted(1, 0)) << "another time of modification";
  EXPECT_FALSE(noted(0, 1'000'000'000)) << "another change";
  EXPECT_TRUE(noted(0, 4'000'000)) << "the kernel's own stamp of a change that the engine has stamped";
  const auto after = volume.engine().attributes(number, false);
  ASSERT_TRUE(after);
  EXPECT_EQ(after->changed, before->changed);
}

TEST_F(FileIoTest, ADeadFilesExtentsAreThoseItHadLast) {
  const auto die = [this](const std::string& name, std::uint64_t written_again) {
    const File file = volume.create(name);
    const auto id = file->inode->record.file;
    const InodeNumber number = file->inode->number;
    EXPECT_TRUE(volume.engine().try_write(*file, 0, filled(1000, 1)));
    EXPECT_TRUE(volume.engine().try_flush(*file));
    volume.engine().release(file);
    if (written_again > 0) {
      const File again = volume.open_file(number);
      EXPECT_TRUE(volume.engine().try_write(*again, 500, filled(written_again, 2)));
      EXPECT_TRUE(volume.engine().try_flush(*again));
      volume.engine().release(again);
    }
    const auto extents = volume.catalog->extents(number);
    EXPECT_TRUE(extents && !extents->empty());
    EXPECT_TRUE(volume.engine().unlink(core::kRootInode, name));
    const auto dead = volume.catalog->dead_file(id);
    EXPECT_TRUE(dead && dead->has_value());
    if (!extents || !dead || !dead->has_value()) return;
    EXPECT_EQ((*dead)->extents, *extents) << name;
  };
  die("closed once", 0);
  die("opened again", 100);
  die("grown", 5000);
}

TEST_F(FileIoTest, AFlushThatFailsIsTriedAgainAndLoggedOnce) {
  volume.start();
  const File file = volume.create("file");
  volume.disk->fail_stage = [] { return std::optional(core::Error::no_space); };
  ASSERT_TRUE(volume.engine().try_write(*file, 0, filled(1000, 1)));
  volume.clock.run_for(1min);
  EXPECT_EQ(volume.log.size(), 1U);
  volume.disk->fail_stage = nullptr;
  volume.clock.run_for(2min);
  EXPECT_EQ(volume.disk->staged_bytes, 1000U);
}

}  // namespace
}  // namespace ephfs::fs::testing
