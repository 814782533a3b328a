// SPDX-License-Identifier: Apache-2.0
// Large writes go to staging from where they are; what happens to the file meanwhile must not make them wrong.
#include <gtest/gtest.h>

#include "tests/fs/file_volume.hpp"

namespace ephfs::fs::testing {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;

class LargeWriteTest : public FileVolumeTest {
 protected:
  /// Does something to the file once, while bytes of it are being staged.
  void meanwhile(std::function<void()> act) {
    volume.disk->fail_stage = [act = std::move(act), done = false]() mutable -> std::optional<core::Error> {
      if (!std::exchange(done, true)) act();
      return std::nullopt;
    };
  }
  core::Bytes content(const File& file) {
    auto bytes = volume.content(file);
    EXPECT_TRUE(bytes) << bytes.error();
    return bytes ? *std::move(bytes) : core::Bytes();
  }
};

core::Bytes joined(std::initializer_list<core::Bytes> parts) {
  core::Bytes all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST_F(LargeWriteTest, IsStagedAtOnceAndCommitted) {
  const File file = volume.create("file");
  const InodeNumber number = file->inode->number;
  ASSERT_TRUE(volume.write(file, 0, filled(kMiB, 1)));
  EXPECT_EQ(volume.disk->staged_bytes, kMiB);
  EXPECT_EQ(content(file), filled(kMiB, 1));
  volume.crash();
  EXPECT_EQ(content(volume.open_file(number)), filled(kMiB, 1)) << "without a flush";
}

TEST_F(LargeWriteTest, ReplacesWhatWasWrittenBeforeAndIsReplacedByWhatComesAfter) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  ASSERT_TRUE(volume.write(file, 2 * kMiB, filled(1000, 2)));
  ASSERT_TRUE(volume.write(file, 500, filled(kMiB, 3)));
  ASSERT_TRUE(volume.write(file, 600, filled(100, 4)));
  const auto expected = joined(
      {filled(500, 1), filled(100, 3), filled(100, 4), filled(kMiB - 200, 3), filled(kMiB - 500, 0), filled(1000, 2)});
  EXPECT_EQ(content(file), expected);
  ASSERT_TRUE(volume.flush(file));
  EXPECT_EQ(content(file), expected);
}

TEST_F(LargeWriteTest, StaysInMemoryWhileStagingIsFull) {
  const File file = volume.create("file");
  volume.disk->room = 0;
  ASSERT_TRUE(volume.write(file, 0, filled(kMiB, 1)));
  EXPECT_EQ(volume.disk->staged_bytes, 0U);
  EXPECT_EQ(content(file), filled(kMiB, 1));
  volume.disk->room = 2 * kMiB;
  ASSERT_TRUE(volume.flush(file));
  EXPECT_EQ(volume.disk->staged_bytes, kMiB);
}

TEST_F(LargeWriteTest, ThatFailsLeavesTheFileAsItWas) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  ASSERT_TRUE(volume.flush(file));
  volume.disk->fail_stage = [] { return std::optional(core::Error::no_space); };
  EXPECT_EQ(volume.write(file, 0, filled(kMiB, 2)).error().code, core::Error::no_space);
  EXPECT_EQ(content(file), filled(1000, 1));
  volume.disk->fail_stage = nullptr;
  volume.fail_commit = [] { return true; };
  EXPECT_FALSE(volume.write(file, 0, filled(kMiB, 2)));
  volume.fail_commit = nullptr;
  EXPECT_EQ(content(file), filled(1000, 1));
}

TEST_F(LargeWriteTest, IsEncryptedAnewWhenTheFileIsEmptiedMeanwhile) {
  const File file = volume.create("file");
  const InodeNumber number = file->inode->number;
  ASSERT_TRUE(volume.write(file, 0, filled(1000, 1)));
  ASSERT_TRUE(volume.flush(file));
  meanwhile([&] { ASSERT_TRUE(volume.truncate(file, 0)); });
  ASSERT_TRUE(volume.write(file, 2000, filled(kMiB, 2)));
  const auto expected = joined({filled(2000, 0), filled(kMiB, 2)});
  EXPECT_EQ(content(file), expected);
  ASSERT_TRUE(volume.flush(file));
  volume.crash();
  EXPECT_EQ(content(volume.open_file(number)), expected) << "the key it had is no more";
}

TEST_F(LargeWriteTest, LiesInAStripeThatLivesAsLongAsTheFileWhoseTtlIsChangedMeanwhile) {
  const File file = volume.create("file");
  const InodeNumber number = file->inode->number;
  ASSERT_TRUE(volume.set_ttl(number, "1h"));
  meanwhile([&] { ASSERT_TRUE(volume.set_ttl(number, "30d")); });
  ASSERT_TRUE(volume.write(file, 0, filled(kMiB, 1)));
  ASSERT_TRUE(volume.flush(file));
  const auto extents = volume.catalog->extents(number);
  ASSERT_TRUE(extents);
  ASSERT_FALSE(extents->empty());
  const auto inode = volume.catalog->inode(number);
  ASSERT_TRUE(inode && inode->has_value());
  for (const auto& extent : *extents) {
    EXPECT_GE(volume.disk->stripes.at(extent.stripe).record.deadline, (*inode)->deadline);
  }
}

TEST_F(LargeWriteTest, IsRefusedWhenTheFileDiesMeanwhile) {
  const File file = volume.create("file");
  ASSERT_TRUE(volume.set_ttl(file->inode->number, "1h"));
  meanwhile([&] { volume.clock.run_for(1h); });
  const auto written = volume.engine().try_write(*file, 0, filled(kMiB, 1));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, core::Error::stale);
}

TEST_F(LargeWriteTest, AppendsBehindWhatSomebodyElseHasAppendedMeanwhile) {
  const File file = volume.create("file", O_RDWR | O_APPEND);
  meanwhile([&] { ASSERT_TRUE(volume.engine().try_write(*file, 0, filled(1000, 1))); });
  ASSERT_TRUE(volume.engine().try_write(*file, 0, filled(kMiB, 2)));
  EXPECT_EQ(content(file), joined({filled(1000, 1), filled(kMiB, 2)}));
}

}  // namespace
}  // namespace ephfs::fs::testing
