// SPDX-License-Identifier: Apache-2.0
// Deadlines that slide on reading: what the kernel's watcher is told, so that no reading stays unseen in the
// kernel's cache.
#include <fcntl.h>
#include <sys/stat.h>

#include "fs/reread_plan.hpp"
#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SlidingTest : public EngineTest {
 protected:
  SlidingTest() { volume.start(); }
  ~SlidingTest() override { release_all(); }
  void release_all() {
    for (auto& file : open_) volume.engine().release(file);
    open_.clear();
  }
  InodeNumber make_file(const std::string& name, const std::string& ttl, const std::string& mode) {
    const auto number = volume.write_file(kRoot, name, "content").number;
    EXPECT_TRUE(volume.set_xattr(number, kMode, mode));
    EXPECT_TRUE(volume.set_xattr(number, kTtl, ttl));
    return number;
  }
  const OpenFile& open(InodeNumber number, int flags = O_RDONLY) {
    const auto file = volume.engine().open_file(number, flags);
    EPHFS_CHECK(file, "a file is opened");
    return *open_.emplace_back(*file);
  }
  Milliseconds reread(InodeNumber number) { return volume.kernel.watched[number].reread; }

 private:
  std::vector<std::shared_ptr<OpenFile>> open_;
};

TEST_F(SlidingTest, OnlyWhatSlidesOnReadingIsAskedForAgain) {
  struct Row {
    const char* mode;
    const char* ttl;
    Milliseconds reread;
  };
  for (const auto& row : {Row{"fixed", "64m", 0min}, Row{"modified", "64m", 0min}, Row{"accessed", "64m", 1min},
                          Row{"accessed", "3s", 46ms}}) {
    const std::string name = std::string(row.mode) + row.ttl;
    SCOPED_TRACE(name);
    const auto number = make_file(name, row.ttl, row.mode);
    EXPECT_EQ(open(number).keeps_pages, row.reread == 0ms) << "what was cached before would be read unseen";
    EXPECT_EQ(reread(number), row.reread);
  }
}

TEST_F(SlidingTest, OpeningToTruncateIsWriting) {
  for (const char* const mode : {"fixed", "modified", "accessed"}) {
    SCOPED_TRACE(mode);
    const auto number = make_file(mode, "1h", mode);
    const core::Instant before = volume.expires(number);
    volume.clock.run_for(30min);
    open(number, O_WRONLY | O_TRUNC);
    const core::Instant expected = mode == std::string("fixed") ? before : volume.clock.now() + 1h;
    EXPECT_EQ(volume.expires(number), expected);
    EXPECT_EQ(volume.kernel.watched[number].deadline, Deadline(expected));
    release_all();
    volume.reopen();
    EXPECT_EQ(volume.expires(number), expected) << "kept";
    volume.start();
  }
}

TEST_F(SlidingTest, ALongestTtlThatIsLessThanTheFilesCountsForItToo) {
  const auto number = make_file("file", "64h", "accessed");
  volume.options.ttl.longest = 1h;
  volume.reopen();
  volume.start();
  volume.clock.run_for(volume.expires(number) - volume.clock.now() - 50min);
  open(number);
  EXPECT_EQ(reread(number), Milliseconds(1h) / kSlideSteps);
  EXPECT_EQ(volume.read_file(number), "content");
  EXPECT_EQ(volume.expires(number), volume.clock.now() + 1h);
}

TEST_F(SlidingTest, PagesAreNotDroppedAllTheTimeHoweverShortTheTtl) {
  volume.close();
  volume.options.ttl.shortest = 100ms;
  volume.open();
  volume.start();
  const auto number = make_file("file", "100ms", "accessed");
  (void)open(number);
  EXPECT_EQ(reread(number), 10ms);
}

TEST_F(SlidingTest, WhatNeverDiesIsNotAskedForAgain) {
  volume.close();
  volume.options.directory = volume.directory / "eternal";
  std::filesystem::create_directory(volume.options.directory);
  volume.options.ttl.allow_permanent = true;
  volume.open();
  volume.start();
  const auto number = make_file("file", "never", "accessed");
  EXPECT_TRUE(open(number).keeps_pages);
  EXPECT_FALSE(volume.kernel.watched.contains(number));
  ASSERT_TRUE(volume.set_xattr(number, kTtl, "64m"));
  EXPECT_EQ(reread(number), 1min);
  ASSERT_TRUE(volume.set_xattr(number, kTtl, "never"));
  EXPECT_FALSE(volume.kernel.watched.contains(number));
}

TEST_F(SlidingTest, ModeAndTtlMayChangeWhileItIsOpen) {
  const auto number = make_file("file", "64m", "fixed");
  (void)open(number, O_RDWR);
  EXPECT_EQ(reread(number), 0ms);
  ASSERT_TRUE(volume.set_xattr(number, kMode, "accessed"));
  EXPECT_EQ(reread(number), 1min);
  EXPECT_TRUE(volume.kernel.watched[number].is_written);
  ASSERT_TRUE(volume.set_xattr(number, kTtl, "128m"));
  EXPECT_EQ(reread(number), 2min);
  // The same deadline, counted from now.
  volume.clock.run_for(64min);
  ASSERT_TRUE(volume.set_xattr(number, kTtl, "64m"));
  EXPECT_EQ(reread(number), 1min);
  ASSERT_TRUE(volume.engine().remove_xattr(number, kMode));
  EXPECT_EQ(reread(number), 0ms) << "it inherits the volume's";
}

TEST_F(SlidingTest, TheModeThatARenameCarriesHoldsForWhoHasItOpen) {
  const auto replaced = make_file("file", "64m", "accessed");
  const auto saved = make_file("saved", "64m", "fixed");
  ASSERT_TRUE(volume.engine().remove_xattr(saved, kTtl)) << "only what is inherited gives way";
  (void)open(saved);
  ASSERT_EQ(reread(saved), 0ms);
  ASSERT_TRUE(volume.engine().rename(kRoot, "saved", kRoot, "file", RenameMode::replace));
  EXPECT_EQ(reread(saved), 1min);
  EXPECT_EQ(volume.kernel.watched[saved].deadline, Deadline(volume.expires(saved)));
  EXPECT_NE(saved, replaced);
}

TEST_F(SlidingTest, AModeThatARenameCarriesWithoutADeadlineHoldsToo) {
  ASSERT_TRUE(volume.set_xattr(kRoot, "user.ephfs.expires", core::format_instant(volume.clock.now() + 64min)));
  const auto saved = volume.write_file(kRoot, "saved", "content").number;
  const auto replaced = volume.write_file(kRoot, "file", "content").number;
  ASSERT_TRUE(volume.set_xattr(replaced, kMode, "accessed"));
  (void)open(saved);
  ASSERT_TRUE(volume.engine().rename(kRoot, "saved", kRoot, "file", RenameMode::replace));
  EXPECT_EQ(reread(saved), 1min);
}

TEST_F(SlidingTest, EachReadIsTold) {
  const auto fixed = make_file("fixed", "1h", "fixed");
  const auto accessed = make_file("accessed", "1h", "accessed");
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(volume.read_file(fixed), "content");
    ASSERT_EQ(volume.read_file(accessed), "content");
  }
  EXPECT_THAT(volume.kernel.read, ElementsAre(accessed, accessed));
}

TEST_F(SlidingTest, WhenTheClockIsSetItIsWatchedAnew) {
  const auto number = make_file("file", "64m", "accessed");
  (void)open(number);
  volume.kernel.watched.clear();
  volume.engine().clock_changed();
  EXPECT_EQ(reread(number), 1min);
}

TEST_F(SlidingTest, WithoutAccessTimesReadingMovesNoneAndTheDeadlineAllTheSame) {
  volume.close();
  volume.options.access_times = AccessTimes::none;
  volume.open();
  volume.start();
  const auto number = make_file("file", "1h", "accessed");
  const auto before = volume.engine().attributes(number, false);
  ASSERT_TRUE(before);
  for (const Milliseconds later : {Milliseconds(30min), Milliseconds(45min)}) {
    volume.clock.run_for(later);
    ASSERT_EQ(volume.read_file(number), "content");
    EXPECT_EQ(volume.expires(number), volume.clock.now() + 1h);
    EXPECT_EQ(volume.engine().attributes(number, false)->accessed, before->accessed);
  }
  SetAttributes set;
  set.accessed = meta::FileTime{before->accessed.ns + 1};
  ASSERT_TRUE(volume.engine().set_attributes(number, set, false));
  EXPECT_EQ(volume.engine().attributes(number, false)->accessed, *set.accessed) << "somebody set it";
}

TEST_F(SlidingTest, OnAReadOnlyMountReadingChangesNoRecord) {
  const auto number = make_file("file", "64m", "accessed");
  const core::Instant deadline = volume.expires(number);
  const auto accessed = [&] { return volume.engine().attributes(number, false)->accessed; };
  const meta::FileTime before = accessed();
  volume.close();
  volume.options.read_only = true;
  volume.open();
  volume.start();
  volume.clock.run_for(30min);
  ASSERT_EQ(volume.read_file(number), "content");
  EXPECT_TRUE(open(number).keeps_pages);
  EXPECT_EQ(reread(number), 0ms) << "nothing hangs on its being read";
  EXPECT_THAT(volume.kernel.read, IsEmpty());
  EXPECT_EQ(volume.expires(number), deadline);
  EXPECT_EQ(accessed(), before);
  release_all();
  volume.close();
  volume.options.read_only = false;
  volume.open();
  EXPECT_EQ(volume.expires(number), deadline);
  EXPECT_EQ(accessed(), before);
}

class RereadPlanTest : public ::testing::Test {
 protected:
  /// All that is due at `at` milliseconds.
  std::vector<std::uint64_t> due(std::int64_t at) {
    std::vector<std::uint64_t> numbers;
    while (const auto number = plan.take_due({at})) numbers.push_back(number->value);
    return numbers;
  }
  void watch(std::uint64_t number, Milliseconds every, std::int64_t at, bool is_written = false) {
    plan.watch({number}, every, is_written, {at});
  }

  RereadPlan plan;
};

TEST_F(RereadPlanTest, DropsOnceAfterTheFirstReadSinceTheLastDrop) {
  watch(7, 100ms, 0);
  EXPECT_THAT(due(99), IsEmpty());
  EXPECT_THAT(due(100), ElementsAre(7)) << "pages may have been there";
  EXPECT_FALSE(plan.next()) << "nothing was read since";
  plan.pages_read({7}, {500});
  plan.pages_read({7}, {590});
  EXPECT_EQ(plan.next(), core::Instant{600});
  EXPECT_THAT(due(600), ElementsAre(7));
  EXPECT_THAT(due(10'000), IsEmpty());
}

TEST_F(RereadPlanTest, WhatIsWrittenIsDroppedAgainAndAgain) {
  watch(7, 100ms, 0);
  watch(7, 100ms, 50, true);
  EXPECT_THAT(due(100), ElementsAre(7));
  EXPECT_EQ(plan.next(), core::Instant{200});
  EXPECT_THAT(due(1000), ElementsAre(7)) << "once, however late";
  EXPECT_EQ(plan.next(), core::Instant{1100});
}

TEST_F(RereadPlanTest, WatchingAnewPutsNothingOff) {
  watch(7, 100ms, 0);
  watch(7, 100ms, 99);
  EXPECT_EQ(plan.next(), core::Instant{100});
  watch(7, 1000ms, 50);
  EXPECT_EQ(plan.next(), core::Instant{100});
  watch(7, 10ms, 20);
  EXPECT_EQ(plan.next(), core::Instant{30}) << "a shorter ttl";
  watch(7, 10ms, -3'600'000);
  EXPECT_EQ(plan.next(), core::Instant{-3'599'990}) << "the clock was set back";
}

TEST_F(RereadPlanTest, WhatMayKeepItsPagesIsForgotten) {
  watch(7, 100ms, 0, true);
  watch(8, 100ms, 0);
  watch(7, 0ms, 10);
  plan.pages_read({7}, {10});
  plan.forget({8});
  plan.forget({9});
  EXPECT_FALSE(plan.next());
  EXPECT_THAT(due(10'000), IsEmpty());
}

}  // namespace
}  // namespace ephfs::fs::testing
