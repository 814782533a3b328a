// SPDX-License-Identifier: Apache-2.0
// Programs that save by taking the old file away and making a new one under its name: an explicit deadline
// goes over.
#include <fcntl.h>
#include <sys/stat.h>

#include "fs/left_names.hpp"
#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

class SavingTest : public EngineTest {
 protected:
  SavingTest() {
    const auto made = volume.write_file(kRoot, "file", "old").number;
    EXPECT_TRUE(volume.set_xattr(made, kTtl, "5h"));
    deadline = volume.expires(made);
  }
  void save_anew(const std::string& name = "file") { saved = volume.write_file(kRoot, name, "new").number; }
  [[nodiscard]] bool has_own_deadline() { return !volume.engine().list_xattrs(saved)->empty(); }
  void expect_carried() {
    EXPECT_EQ(volume.expires(saved), deadline);
    EXPECT_TRUE(has_own_deadline());
    EXPECT_EQ(volume.read_file(saved), "new");
    volume.reopen();
    EXPECT_EQ(volume.read_file(saved), "new") << "its key is wrapped for the deadline it has";
  }
  void expect_inherited() {
    EXPECT_EQ(volume.expires(saved), volume.clock.now() + 7 * 24h);
    EXPECT_FALSE(has_own_deadline());
  }

  core::Instant deadline;
  InodeNumber saved;
};

TEST_F(SavingTest, RemovedAndMadeAnew) {
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  volume.clock.run_for(100ms);
  save_anew();
  expect_carried();
}

TEST_F(SavingTest, MovedAsideAndMadeAnew) {
  ASSERT_TRUE(volume.engine().rename(kRoot, "file", kRoot, "file~", RenameMode::replace));
  save_anew();
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file~"));
  expect_carried();
}

TEST_F(SavingTest, RemovedAndAnotherMovedThere) {
  save_anew("file.new");
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  ASSERT_TRUE(volume.engine().rename(kRoot, "file.new", kRoot, "file", RenameMode::replace));
  expect_carried();
}

TEST_F(SavingTest, AnExplicitDeadlineOfTheNewFileStays) {
  save_anew("file.new");
  ASSERT_TRUE(volume.set_xattr(saved, kTtl, "2h"));
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  ASSERT_TRUE(volume.engine().rename(kRoot, "file.new", kRoot, "file", RenameMode::replace));
  EXPECT_EQ(volume.expires(saved), volume.clock.now() + 2h);
}

TEST_F(SavingTest, OnceOnly) {
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  save_anew();
  ASSERT_TRUE(volume.engine().remove_xattr(saved, kExpires));
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  save_anew();
  expect_inherited();
}

// Where others may make files too, nobody's waits to kill another's.
TEST_F(SavingTest, NotByAnotherUser) {
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  const auto made = volume.engine().make_node(kRoot, "file", S_IFREG | 0644, 0, kUser);
  ASSERT_TRUE(made) << made.error();
  saved = made->number;
  expect_inherited();
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  save_anew();
  expect_inherited();
}

TEST_F(SavingTest, NotMuchLater) {
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  volume.clock.run_for(LeftNames::kKept);
  save_anew();
  expect_inherited();
}

TEST_F(SavingTest, NotUnderAnotherNameNorForADirectory) {
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  save_anew("other");
  expect_inherited();
  ASSERT_TRUE(volume.engine().make_node(kRoot, "file", S_IFDIR | 0755, 0, kUser));
  EXPECT_EQ(errno_of(volume.xattr(volume.engine().lookup(kRoot, "file")->number, kExpires)), ENODATA);
}

TEST_F(SavingTest, NotADeadlineThatHasPassed) {
  const auto file = volume.engine().lookup(kRoot, "file")->number;
  ASSERT_TRUE(volume.set_xattr(file, kTtl, "1s"));
  volume.clock.run_for(500ms);
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  volume.clock.run_for(500ms);
  save_anew();
  expect_inherited();
}

TEST_F(SavingTest, ASlidingDeadlineSlides) {
  const auto file = volume.engine().lookup(kRoot, "file")->number;
  ASSERT_TRUE(volume.set_xattr(file, "user.ephfs.ttl_mode", "modified"));
  volume.clock.run_for(3h);
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  save_anew();
  EXPECT_EQ(volume.expires(saved), volume.clock.now() + 5h);
  EXPECT_EQ(*volume.xattr(saved, "user.ephfs.ttl_mode"), "modified");
}

TEST(LeftNames, AreBounded) {
  LeftNames names;
  const CarriedDeadline left{0, Deadline(core::Instant{1}), Milliseconds{1}, meta::TtlMode::fixed, true};
  const core::Boottime now{1};
  for (std::size_t i = 0; i < 2 * LeftNames::kNamesMax; ++i) names.leave({1}, std::to_string(i), left, now);
  EXPECT_FALSE(names.take({1}, "0", 0, now));
  EXPECT_TRUE(names.take({1}, std::to_string(2 * LeftNames::kNamesMax - 1), 0, now));
}

TEST(LeftNames, LeavingAgainCountsAnew) {
  LeftNames names;
  const CarriedDeadline left{0, Deadline(core::Instant{1}), Milliseconds{1}, meta::TtlMode::fixed, true};
  names.leave({1}, "name", left, core::Boottime{0});
  const core::Boottime later = core::Boottime{0} + LeftNames::kKept / 2;
  names.leave({1}, "name", left, later);
  EXPECT_TRUE(names.take({1}, "name", 0, core::Boottime{0} + LeftNames::kKept));
}

}  // namespace
}  // namespace ephfs::fs::testing
