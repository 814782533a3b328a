// SPDX-License-Identifier: Apache-2.0
// Files die on time: refused from the last moment before the deadline, destroyed at the deadline, and never
// served after it, however the daemon spent the time.
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>

#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

class DeathTest : public EngineTest {
 protected:
  InodeNumber make_dying(const std::string& name, const std::string& ttl = "1h") {
    const auto number = volume.write_file(kRoot, name, "content of " + name).number;
    EXPECT_TRUE(volume.set_xattr(number, "user.ephfs.ttl", ttl));
    return number;
  }
  /// To `before` ahead of the deadline of a file.
  void run_until_before(InodeNumber number, Milliseconds before) {
    volume.clock.run_for(volume.expires(number) - before - volume.clock.now());
  }
  std::uint64_t inode_count() { return volume.engine().statistics()->inodes; }
};

TEST_F(DeathTest, EverythingIsRefusedFromTheLastMomentOn) {
  const auto file = make_dying("file");
  auto& engine = volume.engine();
  ASSERT_TRUE(engine.make_link(file, kRoot, "link"));
  const auto open = engine.open_file(file, O_RDWR);
  ASSERT_TRUE(open);
  std::array<std::byte, 4> buffer{};

  run_until_before(file, kLastMoment + 1ms);
  EXPECT_TRUE(engine.lookup(kRoot, "file"));
  EXPECT_TRUE(engine.attributes(file, false));
  EXPECT_TRUE(engine.try_read(**open, 0, buffer));
  EXPECT_THAT(*volume.list(kRoot), ElementsAre("file", "link"));

  volume.clock.run_for(1ms);
  EXPECT_EQ(errno_of(engine.lookup(kRoot, "file")), ENOENT);
  EXPECT_EQ(errno_of(engine.lookup(kRoot, "link")), ENOENT);
  EXPECT_EQ(errno_of(engine.attributes(file, false)), ENOENT);
  EXPECT_EQ(errno_of(engine.attributes(file, true)), ESTALE);
  EXPECT_EQ(errno_of(engine.set_attributes(file, with_mode(0600), false)), ENOENT);
  EXPECT_EQ(errno_of(engine.set_attributes(file, with_size(0), true)), ESTALE);
  EXPECT_EQ(errno_of(engine.open_file(file, O_RDONLY)), ENOENT);
  EXPECT_EQ(errno_of(engine.try_read(**open, 0, buffer)), ESTALE);
  EXPECT_EQ(errno_of(engine.try_write(**open, 0, buffer)), ESTALE);
  EXPECT_EQ(errno_of(engine.xattr(file, "user.ephfs.ttl")), ENOENT);
  EXPECT_EQ(errno_of(volume.set_xattr(file, "user.ephfs.ttl", "1h")), ENOENT);
  EXPECT_EQ(errno_of(engine.list_xattrs(file)), ENOENT);
  EXPECT_EQ(errno_of(engine.make_link(file, kRoot, "another")), ENOENT);
  EXPECT_EQ(errno_of(engine.unlink(kRoot, "file")), ENOENT);
  EXPECT_EQ(errno_of(engine.rename(kRoot, "file", kRoot, "new", RenameMode::replace)), ENOENT);
  EXPECT_THAT(*volume.list(kRoot), IsEmpty());
  engine.release(*open);
}

TEST_F(DeathTest, KernelBelievesNothingPastTheLastMoment) {
  const auto file = make_dying("file", "10s");
  EXPECT_LE(volume.engine().attributes(file, false)->valid_for, 10s - kLastMoment);
  EXPECT_GT(volume.engine().attributes(file, false)->valid_for, 9s);
  run_until_before(file, kLastMoment + 1ms);
  EXPECT_EQ(volume.engine().attributes(file, false)->valid_for, 0ms);
  EXPECT_EQ(volume.engine().attributes(kRoot, false)->valid_for, 24h);
}

TEST_F(DeathTest, ReaperDestroysAtTheDeadline) {
  volume.start();
  const auto file = make_dying("file", "90s");
  ASSERT_TRUE(volume.engine().make_link(file, kRoot, "link"));
  ASSERT_EQ(inode_count(), 2U);
  run_until_before(file, 1ms);
  EXPECT_EQ(inode_count(), 2U);
  volume.clock.run_for(1ms);
  EXPECT_EQ(inode_count(), 1U);
  EXPECT_THAT(volume.kernel.entries, Contains(Pair(kRoot, "file")));
  EXPECT_THAT(volume.kernel.entries, Contains(Pair(kRoot, "link")));
  EXPECT_THAT(volume.kernel.pages, Contains(file));
}

TEST_F(DeathTest, WhenTheClockIsSetEverythingLooksAgain) {
  volume.start();
  const auto file = make_dying("file", "1h");
  volume.clock.run_for(1s);
  volume.clock.set_wall(volume.clock.now() + 2h);
  volume.engine().clock_changed();
  EXPECT_EQ(volume.kernel.clock_changes, 1);
  EXPECT_THAT(volume.kernel.pages, Contains(file)) << "the kernel was told to believe it for an hour";
  volume.clock.run_for(1ms);
  EXPECT_EQ(inode_count(), 1U) << "the reaper slept towards the old time";
}

TEST_F(DeathTest, ReaperWakesForAnEarlierDeadline) {
  volume.start();
  (void)make_dying("late", "1h");
  volume.clock.run_for(1s);
  const auto early = make_dying("early", "2s");
  volume.clock.run_for(2s);
  EXPECT_EQ(inode_count(), 2U);
  EXPECT_EQ(errno_of(volume.engine().attributes(early, false)), ENOENT);
}

TEST_F(DeathTest, ManyDieAtOnce) {
  volume.start();
  ASSERT_TRUE(volume.set_xattr(kRoot, "user.ephfs.expires", core::format_instant(volume.clock.now() + 1h)));
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(volume.engine().make_node(kRoot, "file" + std::to_string(i), S_IFREG | 0644, 0, kUser));
  }
  volume.clock.run_for(1h);
  EXPECT_EQ(inode_count(), 1U);
  EXPECT_THAT(*volume.list(kRoot), IsEmpty());
}

TEST_F(DeathTest, ShorteningTellsTheKernel) {
  volume.start();
  const auto file = make_dying("file");
  const auto open = volume.engine().open_file(file, O_RDONLY);
  ASSERT_TRUE(open);
  volume.kernel.entries.clear();
  ASSERT_TRUE(volume.set_xattr(file, "user.ephfs.ttl", "5s"));
  EXPECT_EQ(volume.kernel.watched[file].deadline, Deadline(volume.expires(file)));
  EXPECT_THAT(volume.kernel.entries, ElementsAre(Pair(kRoot, "file")));
  volume.engine().release(*open);
}

TEST_F(DeathTest, SavingOverAFileThatDiesSoonerTellsTheKernel) {
  volume.start();
  const auto dying = make_dying("file", "10s");
  const core::Instant deadline = volume.expires(dying);
  const auto saved = volume.write_file(kRoot, "file.new", "new").number;
  volume.kernel.entries.clear();
  ASSERT_TRUE(volume.engine().rename(kRoot, "file.new", kRoot, "file", RenameMode::replace));
  EXPECT_EQ(volume.expires(saved), deadline);
  EXPECT_THAT(volume.kernel.entries, Contains(Pair(kRoot, "file"))) << "it was told of the inherited deadline";
  EXPECT_THAT(volume.kernel.pages, Contains(saved));
}

TEST_F(DeathTest, ReadingASymbolicLinkHasItsPageDropped) {
  volume.start();
  const auto link = volume.engine().make_symlink(kRoot, "link", "target", kUser);
  ASSERT_TRUE(link);
  ASSERT_TRUE(volume.engine().read_link(link->number));
  EXPECT_EQ(volume.kernel.watched[link->number].deadline, Deadline(volume.expires(link->number)));
  volume.engine().forget(link->number, 1);
  EXPECT_FALSE(volume.kernel.watched.contains(link->number));
}

TEST_F(DeathTest, ReadsInTheLastSecondAreTold) {
  volume.start();
  const auto file = make_dying("file", "10s");
  ASSERT_EQ(volume.read_file(file), "content of file");
  EXPECT_TRUE(volume.kernel.read.empty());
  run_until_before(file, kDropsBegin);
  ASSERT_EQ(volume.read_file(file), "content of file");
  EXPECT_THAT(volume.kernel.read, Contains(file));
}

TEST_F(DeathTest, NothingMayKeepAReaderOrWriterInTheLastSecond) {
  volume.start();
  const auto file = make_dying("file", "10s");
  const auto open = volume.engine().open_file(file, O_RDWR);
  ASSERT_TRUE(open);
  std::array<std::byte, 4> bytes{};
  ASSERT_TRUE(volume.engine().try_read(**open, 0, bytes));
  ASSERT_TRUE(volume.engine().try_write(**open, 0, bytes));
  EXPECT_EQ(volume.kernel.hurries, 0);
  run_until_before(file, kDropsBegin);
  ASSERT_TRUE(volume.engine().try_read(**open, 0, bytes));
  EXPECT_EQ(volume.kernel.hurries, 1);
  ASSERT_TRUE(volume.engine().try_write(**open, 0, bytes));
  EXPECT_EQ(volume.kernel.hurries, 2);
  volume.engine().release(*open);
}

TEST_F(DeathTest, DescriptorOfADestroyedFileStaysStale) {
  volume.start();
  const auto file = make_dying("file", "5s");
  const auto open = volume.engine().open_file(file, O_RDWR);
  ASSERT_TRUE(open);
  ASSERT_TRUE(volume.engine().try_write(**open, 0, core::as_bytes("never staged")));
  volume.clock.run_for(10s);
  std::array<std::byte, 4> buffer{};
  EXPECT_EQ(errno_of(volume.engine().try_read(**open, 0, buffer)), ESTALE);
  EXPECT_EQ(errno_of(volume.engine().attributes(file, true)), ESTALE);
  volume.engine().release(*open);
  EXPECT_EQ(inode_count(), 1U);
}

TEST_F(DeathTest, DeadNamesAreAsIfNotThere) {
  auto& engine = volume.engine();
  (void)make_dying("file");
  ASSERT_TRUE(engine.make_link(engine.lookup(kRoot, "file")->number, kRoot, "link"));
  const auto directory = engine.make_node(kRoot, "directory", S_IFDIR | 0755, 0, kUser);
  ASSERT_TRUE(directory);
  ASSERT_TRUE(volume.set_xattr(directory->number, "user.ephfs.ttl", "1h"));
  ASSERT_TRUE(engine.make_node(directory->number, "inside", S_IFREG | 0644, 0, kUser));
  EXPECT_EQ(errno_of(engine.remove_directory(kRoot, "directory")), ENOTEMPTY);
  volume.clock.run_for(2h);

  EXPECT_TRUE(engine.remove_directory(kRoot, "directory"));
  const auto made = engine.make_node(kRoot, "file", S_IFDIR | 0755, 0, kUser);
  ASSERT_TRUE(made) << made.error();
  EXPECT_EQ(engine.lookup(kRoot, "file")->number, made->number);
  EXPECT_EQ(errno_of(engine.lookup(kRoot, "link")), ENOENT) << "the other name of the dead inode";
  ASSERT_TRUE(engine.make_node(kRoot, "new", S_IFREG | 0644, 0, kUser));
  EXPECT_TRUE(engine.rename(kRoot, "new", kRoot, "link", RenameMode::no_replace));
  volume.reopen();
  EXPECT_THAT(*volume.list(kRoot), ElementsAre("file", "link"));
}

TEST_F(DeathTest, WhatDiedWhileNobodyLookedIsSweptBeforeServing) {
  (void)make_dying("dies", "1h");
  const auto lives = make_dying("lives", "3h");
  volume.close();
  volume.clock.run_for(2h);
  volume.open();
  EXPECT_EQ(inode_count(), 2U);
  EXPECT_THAT(*volume.list(kRoot), ElementsAre("lives"));
  EXPECT_EQ(volume.read_file(lives), "content of lives");
  EXPECT_THAT(volume.log, Contains(::testing::HasSubstr("1 files died")));
}

TEST_F(DeathTest, UnlinkedOpenFileIsReadableAndGoneAfterTheLastClose) {
  auto& engine = volume.engine();
  const auto number = volume.write_file(kRoot, "file", "content").number;
  const auto open = engine.open_file(number, O_RDONLY);
  ASSERT_TRUE(open);
  ASSERT_TRUE(engine.unlink(kRoot, "file"));
  std::array<std::byte, 7> buffer{};
  EXPECT_EQ(*volume.run(engine.read(*open, 0, buffer, {})), 7U);
  EXPECT_EQ(engine.attributes(number, true)->links, 0U);
  EXPECT_EQ(inode_count(), 2U);
  engine.release(*open);
  EXPECT_EQ(inode_count(), 1U);
}

TEST_F(DeathTest, UnlinkedOpenFileGoesWithTheNextMount) {
  const auto number = volume.write_file(kRoot, "file", "content").number;
  ASSERT_TRUE(volume.engine().open_file(number, O_RDONLY));
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  volume.reopen();
  EXPECT_EQ(inode_count(), 1U);
}

TEST_F(DeathTest, UnlinkedInodesLeaveMemoryWhenForgotten) {
  auto& engine = volume.engine();
  ASSERT_EQ(objects_of(engine), 1U);
  const auto made = engine.make_node(kRoot, "file", S_IFREG | 0644, 0, kUser);
  ASSERT_TRUE(made);
  ASSERT_TRUE(engine.lookup(kRoot, "file"));
  ASSERT_TRUE(engine.unlink(kRoot, "file"));
  engine.forget(made->number, 1);
  EXPECT_EQ(objects_of(engine), 2U);
  engine.forget(made->number, 1);
  EXPECT_EQ(objects_of(engine), 1U);
}

TEST_F(DeathTest, TheDeadLeaveMemoryThoughNobodyAsksForThem) {
  volume.start();
  const auto file = make_dying("file", "90s");
  volume.engine().forget(file, 1);
  EXPECT_EQ(objects_of(volume.engine()), 2U);
  volume.clock.run_for(92s);
  EXPECT_EQ(objects_of(volume.engine()), 1U);
}

TEST(ManyInodes, ForgottenOnesStayAsLongAsThereIsRoom) {
  constexpr std::size_t kFiles = 200;
  constexpr std::size_t kKept = 10;
  TestVolume volume;
  volume.options.inodes_kept = kKept;
  volume.open();
  auto& engine = volume.engine();
  for (std::size_t i = 0; i < kFiles; ++i) {
    const std::string name = "link" + std::to_string(i);
    const auto made = engine.make_symlink(core::kRootInode, name, "target", {});
    ASSERT_TRUE(made);
    EXPECT_EQ(objects_of(engine), 2 + i) << "the kernel may believe what it says";
  }
  for (std::size_t i = 0; i < kFiles; ++i) {
    engine.forget(engine.lookup(core::kRootInode, "link" + std::to_string(i))->number, 2);
  }
  EXPECT_EQ(objects_of(engine), 1 + kFiles);
  for (std::size_t i = 0; i < kFiles; ++i) {
    ASSERT_TRUE(engine.make_node(core::kRootInode, "file" + std::to_string(i), S_IFREG | 0644, 0, {}));
  }
  EXPECT_LE(objects_of(engine), kKept + 2);
  EXPECT_EQ(*engine.read_link(engine.lookup(core::kRootInode, "link7")->number), "target");
}

TEST(ManyInodes, WhatOnlyTheKernelRemembersTakesNoObject) {
  constexpr std::uint64_t kFiles = 200;
  constexpr std::size_t kKept = 10;
  TestVolume volume;
  volume.options.inodes_kept = kKept;
  volume.open();
  volume.start();
  auto& engine = volume.engine();
  std::vector<InodeNumber> files;
  for (std::uint64_t i = 0; i < kFiles; ++i) {
    const auto made = engine.make_node(core::kRootInode, "file" + std::to_string(i), S_IFREG | 0644, 0, {});
    ASSERT_TRUE(made);
    files.push_back(made->number);
    ASSERT_TRUE(volume.set_xattr(made->number, "user.ephfs.ttl", i % 2 == 0 ? "1h" : "3h"));
  }
  // Moving a file to another deadline holds its object for a moment.
  volume.clock.run_for(10s);
  ASSERT_TRUE(engine.make_node(core::kRootInode, "another", S_IFREG | 0644, 0, {}));
  EXPECT_LE(objects_of(engine), kFiles / 2);
  for (const InodeNumber file : files) ASSERT_EQ(engine.attributes(file, false)->number, file);
  EXPECT_LE(objects_of(engine), kKept + 2);

  volume.kernel.pages.clear();
  volume.clock.set_wall(volume.clock.now() + 2h);
  engine.clock_changed();
  for (std::uint64_t i = 0; i < kFiles; ++i) {
    EXPECT_EQ(std::ranges::count(volume.kernel.pages, files[i]) > 0, i % 2 == 0) << "of what the kernel believes";
  }
  volume.kernel.pages.clear();
  volume.clock.run_for(2s);
  for (std::uint64_t i = 0; i < kFiles; i += 2) {
    EXPECT_THAT(volume.kernel.pages, Contains(files[i])) << "destroyed, and the kernel knew it";
    EXPECT_THAT(volume.kernel.entries, Contains(Pair(core::kRootInode, "file" + std::to_string(i))));
  }

  // One lookup each is known, wherever the count is kept.
  for (const InodeNumber file : files) engine.forget(file, 1);
  volume.kernel.pages.clear();
  volume.clock.run_for(1h);
  for (std::uint64_t i = 1; i < kFiles; i += 2) {
    EXPECT_THAT(volume.kernel.entries, Contains(Pair(core::kRootInode, "file" + std::to_string(i))));
    EXPECT_EQ(std::ranges::count(volume.kernel.pages, files[i]), 0) << "the kernel had forgotten it";
  }
}

}  // namespace
}  // namespace ephfs::fs::testing
