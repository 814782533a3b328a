// SPDX-License-Identifier: Apache-2.0
// Extents move to where their file dies on time, and out of mostly dead stripes.
#include <algorithm>

#include "tests/fs/file_volume.hpp"

namespace ephfs::fs::testing {
namespace {

class MaintenanceTest : public FileVolumeTest {
 protected:
  MaintenanceTest() { volume.start(); }

  File write(const std::string& name, std::size_t size, int value) {
    File file = volume.create(name);
    EXPECT_TRUE(volume.write(file, 0, filled(size, value)));
    EXPECT_TRUE(volume.flush(file));
    return file;
  }
  std::vector<StripeNumber> stripes_of(const File& file) {
    std::vector<StripeNumber> stripes;
    for (const auto& extent : volume.catalog->extents(file->inode->number).value()) stripes.push_back(extent.stripe);
    return stripes;
  }
  /// As the placer does.
  void place(StripeNumber number) {
    auto record = volume.catalog->stripe(number).value().value();
    record.state = meta::StripeState::placed;
    record.length = volume.disk->stripes.at(number).record.length;
    meta::Changes changes;
    changes.emplace_back(meta::PutStripe{record});
    ASSERT_TRUE(volume.catalog->commit(changes));
    std::erase_if(volume.disk->open, [&](const auto& open) { return open.second == number; });
  }
  void expect_content(const File& file, std::size_t size, int value) {
    const auto content = volume.content(file);
    ASSERT_TRUE(content) << content.error();
    EXPECT_EQ(*content, filled(size, value));
  }
};

TEST_F(MaintenanceTest, AShorterTtlMovesBytesOutOfASharedStripe) {
  const File doomed = write("doomed", 5000, 1);
  const File other = write("other", 5000, 2);
  ASSERT_EQ(stripes_of(doomed), stripes_of(other));
  const auto shared = stripes_of(other);
  ASSERT_TRUE(volume.set_ttl(doomed->inode->number, "1h"));
  volume.clock.run_for(1s);
  EXPECT_NE(stripes_of(doomed), shared);
  EXPECT_EQ(stripes_of(other), shared);
  expect_content(doomed, 5000, 1);
  expect_content(other, 5000, 2);
  const auto moved_to = volume.catalog->stripe(stripes_of(doomed)[0]).value().value();
  EXPECT_LE(moved_to.deadline.instant(), volume.clock.now() + 1h + 1min);
  EXPECT_FALSE(volume.disk->synced.empty()) << "before the old place was given up";
  EXPECT_TRUE(volume.disk->deadlines.empty());
}

TEST_F(MaintenanceTest, AStripeOfOneFileGetsItsDeadline) {
  const File file = write("file", kStripeBytes, 1);
  const auto stripes = stripes_of(file);
  ASSERT_EQ(stripes.size(), 1U);
  place(stripes[0]);
  ASSERT_TRUE(volume.set_ttl(file->inode->number, "1h"));
  volume.clock.run_for(1s);
  EXPECT_EQ(stripes_of(file), stripes);
  ASSERT_EQ(volume.disk->deadlines.size(), 1U);
  EXPECT_EQ(volume.disk->deadlines[0].first, stripes[0]);
  EXPECT_EQ(volume.disk->deadlines[0].second, file->inode->deadline());
}

TEST_F(MaintenanceTest, ALaterDeadlineIsTheWholeStripes) {
  const File file = write("file", 5000, 1);
  const File other = write("other", 5000, 2);
  const auto shared = stripes_of(file);
  ASSERT_TRUE(volume.set_ttl(file->inode->number, "30d"));
  volume.clock.run_for(1s);
  EXPECT_EQ(stripes_of(file), shared);
  ASSERT_EQ(volume.disk->deadlines.size(), 1U);
  EXPECT_EQ(volume.disk->deadlines[0], std::pair(shared[0], file->inode->deadline()));
}

TEST_F(MaintenanceTest, WhatIsWrittenMeanwhileWins) {
  const File file = write("file", 5000, 1);
  const File other = write("other", 5000, 2);
  volume.disk->remote = true;
  volume.disk->read_delay = 1s;
  ASSERT_TRUE(volume.set_ttl(file->inode->number, "1h"));
  volume.clock.run_for(500ms);
  ASSERT_TRUE(volume.write(file, 0, filled(5000, 3)));
  ASSERT_TRUE(volume.flush(file));
  volume.clock.run_for(10s);
  volume.disk->remote = false;
  expect_content(file, 5000, 3);
}

TEST_F(MaintenanceTest, AMoveThatFailsIsTriedAgain) {
  const File file = write("file", 5000, 1);
  const File other = write("other", 5000, 2);
  const auto shared = stripes_of(file);
  volume.disk->remote = true;
  volume.disk->read_delay = 1min;
  ASSERT_TRUE(volume.set_ttl(file->inode->number, "1h"));
  volume.clock.run_for(30s);
  EXPECT_EQ(stripes_of(file), shared);
  EXPECT_EQ(volume.log.size(), 1U);
  volume.disk->remote = false;
  volume.clock.run_for(2min);
  EXPECT_NE(stripes_of(file), shared);
  EXPECT_EQ(volume.log.size(), 1U);
  expect_content(file, 5000, 1);
}

TEST_F(MaintenanceTest, AMoveWaitsForRoom) {
  const File file = write("file", 5000, 1);
  const File other = write("other", 5000, 2);
  const auto shared = stripes_of(file);
  volume.disk->room = 0;
  ASSERT_TRUE(volume.set_ttl(file->inode->number, "1h"));
  volume.clock.run_for(2s);
  EXPECT_EQ(stripes_of(file), shared);
  volume.disk->room = 100'000;
  volume.clock.run_for(2s);
  EXPECT_NE(stripes_of(file), shared);
}

TEST_F(MaintenanceTest, StoppingEndsAMoveAtOnce) {
  const File file = write("file", 5000, 1);
  const File other = write("other", 5000, 2);
  volume.disk->room = 0;
  ASSERT_TRUE(volume.set_ttl(file->inode->number, "1h"));
  volume.clock.run_for(1s);
  const auto begin = volume.clock.boot_now();
  volume.close();
  EXPECT_LE(volume.clock.boot_now() - begin, 5s);
}

TEST_F(MaintenanceTest, AMostlyDeadStripeIsEmptied) {
  const File small = write("small", 5000, 1);
  const File large = write("large", 50'000, 2);
  ASSERT_EQ(stripes_of(small), stripes_of(large));
  const auto shared = stripes_of(small)[0];
  place(shared);
  volume.clock.run_for(10min);
  EXPECT_EQ(stripes_of(small)[0], shared) << "it is not sparse";
  ASSERT_TRUE(volume.truncate(large, 0));
  volume.clock.run_for(10min);
  EXPECT_NE(stripes_of(small)[0], shared);
  EXPECT_EQ(volume.catalog->stripe(shared).value()->live, 0U);
  expect_content(small, 5000, 1);
  EXPECT_TRUE(volume.catalog->check().value().empty());
}

TEST_F(MaintenanceTest, WhatDiesSoonIsNotCompacted) {
  const File small = write("small", 5000, 1);
  const File large = write("large", 50'000, 2);
  const auto shared = stripes_of(small)[0];
  place(shared);
  volume.clock.run_for(7 * 24h - 30min);
  ASSERT_TRUE(volume.truncate(large, 0));
  volume.clock.run_for(10min);
  EXPECT_EQ(stripes_of(small)[0], shared);
}

}  // namespace
}  // namespace ephfs::fs::testing
