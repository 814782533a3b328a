// SPDX-License-Identifier: Apache-2.0
// What makes death certain: epoch keys destroyed when their minutes end, file keys when a file is unlinked or
// emptied, and what the catalog dropped overwritten.
#include <algorithm>
#include <functional>

#include <fcntl.h>

#include "meta/proof.hpp"
#include "tests/fs/file_volume.hpp"

namespace ephfs::fs::testing {
namespace {

constexpr auto kMinute = core::EpochKeys::kEpoch;

class EarlyDeathTest : public ::testing::Test {
 protected:
  void open(std::size_t nodes = 0) {
    volume = std::make_unique<FileVolume>(nodes);
    volume->open();
  }
  meta::InodeRecord row(InodeNumber number) { return volume->catalog->inode(number).value().value(); }
  InodeNumber make(const std::string& name, const std::string& content) {
    const auto file = volume->create(name);
    const auto number = file->inode->number;
    EXPECT_TRUE(volume->write(file, 0, core::to_bytes(core::as_bytes(content))));
    EXPECT_TRUE(volume->flush(file));
    volume->engine().release(file);
    return number;
  }

  std::unique_ptr<FileVolume> volume;
};

TEST_F(EarlyDeathTest, EpochKeysGoWhenTheirMinuteEnds) {
  open();
  volume->start();
  ASSERT_EQ(volume->epoch_keys->punctured().until, volume->clock.now()) << "a whole minute";
  volume->clock.run_for(kMinute - 1ms);
  EXPECT_EQ(volume->epoch_keys->punctured().until, VirtualClock::kDefaultWall);
  volume->clock.run_for(1ms);
  EXPECT_EQ(volume->epoch_keys->punctured().until, VirtualClock::kDefaultWall + kMinute);
  volume->clock.run_for(std::chrono::hours(5) + 7s);
  EXPECT_EQ(volume->epoch_keys->punctured().until, VirtualClock::kDefaultWall + kMinute + std::chrono::hours(5));
}

TEST_F(EarlyDeathTest, EpochKeysOfThePastGoBeforeAnythingIsServed) {
  open();
  (void)make("dies", "content");
  volume->close();
  volume->clock.run_for(std::chrono::hours(24 * 30));
  volume->open();
  EXPECT_EQ(volume->epoch_keys->punctured().until, volume->clock.now());
}

TEST_F(EarlyDeathTest, AProofSaysThatTheKeyIsDestroyedOnceItsMinuteHasEnded) {
  open();
  volume->start();
  const auto number = make("file", "content");
  const auto file = row(number).file;
  ASSERT_TRUE(volume->set_ttl(number, "90s"));
  const auto report = [&] {
    const auto proof = volume->engine().proof_of_dead(file);
    EXPECT_TRUE(proof) << proof.error();
    const auto checked = meta::check_proof(proof.value());
    EXPECT_THAT(checked.faults, ::testing::IsEmpty());
    EXPECT_EQ(checked.cause, meta::DeathCause::expired);
    return checked;
  };
  volume->clock.run_for(kMinute * 2 - 1ms);
  EXPECT_FALSE(report().key_destroyed);
  EXPECT_THAT(report().missing(), ::testing::Contains(::testing::HasSubstr("the key")));
  volume->clock.run_for(1ms);
  EXPECT_TRUE(report().key_destroyed);
  EXPECT_THAT(report().missing(), ::testing::IsEmpty());
}

TEST_F(EarlyDeathTest, AFileIsReadableThroughEveryMinuteUntilItsDeadline) {
  open();
  volume->start();
  const auto number = make("file", "content");
  ASSERT_TRUE(volume->set_ttl(number, "10m"));
  for (int minute = 0; minute < 10; ++minute) {
    volume->clock.run_for(minute == 9 ? kMinute - 2 * kLastMoment : kMinute);
    const auto file = volume->engine().open_file(number, O_RDONLY);
    ASSERT_TRUE(file) << minute << ": " << file.error();
    EXPECT_TRUE(volume->content(*file));
    volume->engine().release(*file);
  }
}

TEST_F(EarlyDeathTest, AWheelThatCannotBeWrittenIsSaidOnceAndTriedAgain) {
  open();
  volume->start();
  volume->epoch_keys->fails = true;
  volume->clock.run_for(5 * kMinute);
  EXPECT_EQ(std::ranges::count_if(volume->log,
                                  [](const auto& line) { return line.find("the keys' disk") != std::string::npos; }),
            1);
  volume->epoch_keys->fails = false;
  volume->clock.run_for(5s);
  EXPECT_EQ(volume->epoch_keys->punctured().until, VirtualClock::kDefaultWall + 5 * kMinute);
}

TEST_F(EarlyDeathTest, DroppedKeysAreScrubbedSoonAndTogether) {
  open();
  volume->start();
  for (int i = 0; i < 20; ++i) (void)make("file" + std::to_string(i), "content");
  const unsigned before = volume->catalog->scrubs;
  volume->clock.run_for(10s);
  EXPECT_EQ(volume->catalog->scrubs, before) << "nothing was dropped";
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(volume->engine().unlink(core::kRootInode, "file" + std::to_string(i)));
    volume->clock.run_for(50ms);
  }
  volume->clock.run_for(3s);
  EXPECT_GE(volume->catalog->scrubs, before + 1);
  EXPECT_LE(volume->catalog->scrubs, before + 2);
  volume->clock.run_for(10s);
  EXPECT_LE(volume->catalog->scrubs, before + 2);
}

TEST_F(EarlyDeathTest, EveryWayToDropOrReplaceAKeyIsScrubbed) {
  open();
  volume->start();
  const auto scrubs = [&](const char* what, const std::function<void()>& change) {
    volume->clock.run_for(10s);
    const unsigned before = volume->catalog->scrubs;
    change();
    volume->clock.run_for(3s);
    EXPECT_GT(volume->catalog->scrubs, before) << what;
  };
  auto number = make("file", "content");
  scrubs("a shorter deadline", [&] { ASSERT_TRUE(volume->set_ttl(number, "1h")); });
  scrubs("O_TRUNC", [&] { volume->engine().release(volume->open_file(number, O_WRONLY | O_TRUNC)); });
  number = make("other", "content");
  scrubs("truncate", [&] { ASSERT_TRUE(volume->engine().set_attributes(number, with_size(0), false)); });
  scrubs("rename over it", [&] {
    ASSERT_TRUE(volume->engine().rename(core::kRootInode, "file", core::kRootInode, "other", RenameMode::replace));
  });
  ASSERT_TRUE(volume->set_ttl(make("short", "content"), "15s"));
  scrubs("death", [&] { volume->clock.run_for(5s); });
  const auto open_file = volume->open_file(make("open", "content"));
  ASSERT_TRUE(volume->engine().unlink(core::kRootInode, "open"));
  scrubs("the last close", [&] { volume->engine().release(open_file); });
}

TEST_F(EarlyDeathTest, ScrubsAtTheEndAndAtTheBeginningOfARun) {
  open();
  EXPECT_EQ(volume->catalog->scrubs, 1U) << "what a killed run left";
  volume->start();
  (void)make("file", "content");
  ASSERT_TRUE(volume->engine().unlink(core::kRootInode, "file"));
  ASSERT_TRUE(volume->run(volume->engine().stop()));
  EXPECT_EQ(volume->catalog->scrubs, 2U);
}

TEST_F(EarlyDeathTest, AScrubThatFailsIsTriedAgain) {
  open();
  volume->start();
  (void)make("file", "content");
  bool fails = true;
  volume->catalog->scrub_fails = [&] { return fails; };
  ASSERT_TRUE(volume->engine().unlink(core::kRootInode, "file"));
  volume->clock.run_for(20s);
  EXPECT_EQ(std::ranges::count_if(volume->log,
                                  [](const auto& line) { return line.find("overwriting") != std::string::npos; }),
            1);
  fails = false;
  const unsigned before = volume->catalog->scrubs;
  volume->clock.run_for(3s);
  EXPECT_EQ(volume->catalog->scrubs, before + 1);
  volume->catalog->scrub_fails = nullptr;  // it would outlive what it asks
}

TEST_F(EarlyDeathTest, AnEmptiedFileHasANewKey) {
  open(1);
  const auto number = make("file", "the first content");
  const auto before = row(number);
  const auto file = volume->open_file(number, O_RDWR | O_TRUNC);
  const auto emptied = row(number);
  EXPECT_NE(emptied.wrapped_key, before.wrapped_key);
  EXPECT_EQ(emptied.size, 0U);
  ASSERT_TRUE(volume->write(file, 0, core::to_bytes(core::as_bytes("the second"))));
  ASSERT_TRUE(volume->flush(file));
  volume->engine().release(file);
  volume->crash();
  EXPECT_EQ(core::as_text(*volume->content(volume->open_file(number))), "the second");
  // A cut that leaves something keeps the key of what it leaves.
  ASSERT_TRUE(volume->engine().set_attributes(number, with_size(3), false));
  EXPECT_EQ(row(number).wrapped_key.size(), emptied.wrapped_key.size());
  volume->crash();
  EXPECT_EQ(core::as_text(*volume->content(volume->open_file(number))), "the");
  ASSERT_TRUE(volume->engine().set_attributes(number, with_size(0), false));
  EXPECT_NE(row(number).wrapped_key, emptied.wrapped_key);
}

TEST_F(EarlyDeathTest, AnEmptyingThatIsNotCommittedChangesNoKey) {
  open(1);
  const auto number = make("file", "content");
  const auto before = row(number);
  volume->fail_commit = [] { return true; };
  EXPECT_FALSE(volume->engine().open_file(number, O_RDWR | O_TRUNC));
  EXPECT_FALSE(volume->engine().set_attributes(number, with_size(0), false));
  volume->fail_commit = nullptr;
  EXPECT_EQ(row(number), before);
  const auto file = volume->open_file(number);
  EXPECT_EQ(core::as_text(*volume->content(file)), "content");
  ASSERT_TRUE(volume->write(file, 7, core::to_bytes(core::as_bytes(" and more"))));
  ASSERT_TRUE(volume->flush(file));
  volume->engine().release(file);
  volume->crash();
  EXPECT_EQ(core::as_text(*volume->content(volume->open_file(number))), "content and more");
}

}  // namespace
}  // namespace ephfs::fs::testing
