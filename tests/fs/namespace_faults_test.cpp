// SPDX-License-Identifier: Apache-2.0
// Names and attributes when the catalog's disk fails, and when many threads change them at once.
#include <cerrno>
#include <thread>

#include <sys/stat.h>

#include "tests/fs/file_volume.hpp"

namespace ephfs::fs::testing {
namespace {

constexpr InodeNumber kRoot = core::kRootInode;

/// Everything that can be seen of a tree, one line each.
void describe(Engine& engine, InodeNumber directory, const std::string& path, std::vector<std::string>& lines) {
  const auto opened = engine.open_directory(directory);
  ASSERT_TRUE(opened);
  ASSERT_TRUE(engine.rewind(**opened));
  for (const auto& name : (*opened)->names) {
    const auto found = engine.lookup(directory, name.name);
    ASSERT_TRUE(found) << name.name << ": " << found.error();
    const auto ttl = engine.xattr(found->number, "user.ephfs.expires");
    lines.push_back(path + name.name + " inode " + std::to_string(found->number.value) + " mode " +
                    std::to_string(found->mode) + " links " + std::to_string(found->links) + " size " +
                    std::to_string(found->size) + " changed " + std::to_string(found->changed.ns) + " expires " +
                    (ttl ? std::string(core::as_text(*ttl)) : ttl.error().message()));
    if (S_ISDIR(found->mode)) describe(engine, found->number, path + name.name + "/", lines);
  }
}

void make_tree(FileVolume& volume) {
  volume.open();
  auto& engine = volume.engine();
  const auto file = engine.make_node(kRoot, "file", S_IFREG | 0644, 0, {});
  ASSERT_TRUE(file);
  ASSERT_TRUE(engine.make_link(file->number, kRoot, "hard"));
  ASSERT_TRUE(engine.make_node(kRoot, "other", S_IFREG | 0644, 0, {}));
  ASSERT_TRUE(engine.make_node(kRoot, "empty", S_IFDIR | 0755, 0, {}));
  const auto full = engine.make_node(kRoot, "full", S_IFDIR | 0755, 0, {});
  ASSERT_TRUE(full);
  ASSERT_TRUE(engine.make_node(full->number, "child", S_IFREG | 0644, 0, {}));
}

class NamespaceFaultTest : public ::testing::Test {
 protected:
  NamespaceFaultTest() { make_tree(volume); }
  std::vector<std::string> describe_all() {
    std::vector<std::string> lines;
    describe(volume.engine(), kRoot, "/", lines);
    const auto root = volume.engine().attributes(kRoot, false);
    lines.push_back("root links " + std::to_string(root->links) + " changed " + std::to_string(root->changed.ns));
    return lines;
  }
  /// Of the root, by an engine that has read nothing else.
  std::vector<meta::NameRecord> names_read_anew() {
    volume.close();
    volume.open();
    const auto opened = volume.engine().open_directory(kRoot).value();
    EXPECT_TRUE(volume.engine().rewind(*opened));
    return opened->names;
  }
  InodeNumber number_of(const std::string& name) { return volume.engine().lookup(kRoot, name)->number; }

  FileVolume volume;
};

struct Operation {
  const char* name;
  std::function<int(Engine&, const std::function<InodeNumber(const std::string&)>&)> run;
};

TEST_F(NamespaceFaultTest, FailedCommitChangesNothing) {
  const auto text = [](std::string_view value) { return core::as_bytes(value); };
  const std::vector<Operation> operations{
      {"make", [](auto& e, auto&) { return errno_of(e.make_node(kRoot, "new", S_IFREG | 0644, 0, {})); }},
      {"mkdir", [](auto& e, auto&) { return errno_of(e.make_node(kRoot, "new", S_IFDIR | 0755, 0, {})); }},
      {"symlink", [](auto& e, auto&) { return errno_of(e.make_symlink(kRoot, "new", "target", {})); }},
      {"link", [](auto& e, auto& n) { return errno_of(e.make_link(n("file"), kRoot, "new")); }},
      {"unlink", [](auto& e, auto&) { return errno_of(e.unlink(kRoot, "other")); }},
      {"unlink of a link", [](auto& e, auto&) { return errno_of(e.unlink(kRoot, "hard")); }},
      {"rmdir", [](auto& e, auto&) { return errno_of(e.remove_directory(kRoot, "empty")); }},
      {"rename",
       [](auto& e, auto& n) { return errno_of(e.rename(kRoot, "file", n("full"), "new", RenameMode::replace)); }},
      {"rename over",
       [](auto& e, auto&) { return errno_of(e.rename(kRoot, "file", kRoot, "other", RenameMode::replace)); }},
      {"rename of a directory",
       [](auto& e, auto&) { return errno_of(e.rename(kRoot, "full", kRoot, "empty", RenameMode::replace)); }},
      {"exchange",
       [](auto& e, auto& n) { return errno_of(e.rename(kRoot, "empty", n("full"), "child", RenameMode::exchange)); }},
      {"chmod", [](auto& e, auto& n) { return errno_of(e.set_attributes(n("file"), with_mode(0600), false)); }},
      {"truncate", [](auto& e, auto& n) { return errno_of(e.set_attributes(n("file"), with_size(10), false)); }},
      {"ttl", [&](auto& e,
                  auto& n) { return errno_of(e.set_xattr(n("file"), "user.ephfs.ttl", text("1h"), XattrMode::any)); }},
      {"xattr",
       [&](auto& e, auto& n) { return errno_of(e.set_xattr(n("file"), "user.a", text("1"), XattrMode::any)); }},
  };
  const auto number = [this](const std::string& name) { return number_of(name); };
  for (const auto& operation : operations) {
    SCOPED_TRACE(operation.name);
    volume.clock.run_for(std::chrono::seconds(1));
    const auto before = describe_all();
    volume.fail_commit = [] { return true; };
    EXPECT_EQ(operation.run(volume.engine(), number), EIO);
    volume.fail_commit = nullptr;
    EXPECT_EQ(describe_all(), before) << "in memory";
    volume.crash();
    EXPECT_EQ(describe_all(), before) << "in the catalog";
  }
  // The same operations, each on a tree of its own, succeed when nothing fails.
  for (const auto& operation : operations) {
    SCOPED_TRACE(operation.name);
    FileVolume whole;
    make_tree(whole);
    const auto in_whole = [&](const std::string& name) { return whole.engine().lookup(kRoot, name)->number; };
    EXPECT_EQ(operation.run(whole.engine(), in_whole), 0);
  }
}

TEST_F(NamespaceFaultTest, ReaperTriesAgain) {
  volume.start();
  ASSERT_TRUE(volume.engine().set_xattr(number_of("other"), "user.ephfs.ttl", core::as_bytes("10s"), XattrMode::any));
  volume.clock.run_for(std::chrono::seconds(9));
  volume.fail_commit = [] { return true; };
  volume.clock.run_for(std::chrono::seconds(5));
  EXPECT_EQ(volume.engine().statistics()->inodes, 6U);
  EXPECT_EQ(errno_of(volume.engine().lookup(kRoot, "other")), ENOENT);
  volume.fail_commit = nullptr;
  volume.clock.run_for(std::chrono::seconds(2));
  EXPECT_EQ(volume.engine().statistics()->inodes, 5U);
}

TEST_F(NamespaceFaultTest, WhatIsExpectedIsReadAtOnce) {
  const auto names = names_read_anew();
  auto& engine = volume.engine();
  engine.expect_lookups(names);
  volume.catalog->single_reads = 0;
  for (const auto& name : names) EXPECT_TRUE(engine.lookup(kRoot, name.name)) << name.name;
  EXPECT_EQ(names.size(), 5U);
  EXPECT_EQ(volume.catalog->single_reads, 0U);
}

TEST_F(NamespaceFaultTest, WhatTheKernelForgotIsNotReadAgain) {
  const auto names = names_read_anew();
  auto& engine = volume.engine();
  for (const auto& name : names) engine.forget(engine.lookup(kRoot, name.name)->number, 1);
  volume.catalog->single_reads = 0;
  volume.catalog->inodes_read = [] { FAIL() << "they are all here"; };
  engine.expect_lookups(names);
  for (const auto& name : names) EXPECT_TRUE(engine.lookup(kRoot, name.name)) << name.name;
  volume.catalog->inodes_read = nullptr;
  EXPECT_EQ(volume.catalog->single_reads, 0U);
}

TEST_F(NamespaceFaultTest, WhatDiesWhileItIsReadIsNotKept) {
  ASSERT_TRUE(volume.engine().set_xattr(number_of("other"), "user.ephfs.ttl", core::as_bytes("10s"), XattrMode::any));
  const auto names = names_read_anew();
  auto& engine = volume.engine();
  volume.start();
  volume.catalog->inodes_read = [&] { volume.clock.run_for(std::chrono::seconds(12)); };
  engine.expect_lookups(names);
  volume.catalog->inodes_read = nullptr;
  EXPECT_EQ(engine.statistics()->inodes, names.size());
  // Of what was read nothing is kept: it may not be so any more.
  EXPECT_EQ(objects_of(engine), 1U);
}

TEST_F(NamespaceFaultTest, WhatIsAskedForWhileItIsDestroyedIsNotKept) {
  ASSERT_TRUE(volume.engine().set_xattr(number_of("other"), "user.ephfs.ttl", core::as_bytes("10s"), XattrMode::any));
  volume.crash();
  volume.start();
  unsigned asked = 0;
  volume.fail_commit = [&] {
    asked += errno_of(volume.engine().lookup(kRoot, "other")) == ENOENT ? 1 : 0;
    return false;
  };
  volume.clock.run_for(std::chrono::seconds(12));
  volume.fail_commit = nullptr;
  EXPECT_GT(asked, 0U);
  EXPECT_EQ(objects_of(volume.engine()), 1U);
}

TEST_F(NamespaceFaultTest, WhatChangesWhileItIsReadIsNotKeptAsItWas) {
  const InodeNumber file = number_of("other");
  volume.options.inodes_kept = 1;
  const auto names = names_read_anew();
  auto& engine = volume.engine();
  volume.catalog->inodes_read = [&] {
    // Looked up, changed, and let go of, all before what was read has arrived.
    ASSERT_TRUE(engine.lookup(kRoot, "other"));
    SetAttributes changed;
    changed.mode = 0600;
    ASSERT_TRUE(engine.set_attributes(file, changed, false));
    engine.forget(file, 1);
    for (int round = 0; round < 4; ++round) {
      for (const auto* name : {"file", "empty", "full"}) engine.forget(engine.lookup(kRoot, name)->number, 1);
    }
    ASSERT_LE(objects_of(engine), 3U) << "the root and the last";
  };
  engine.expect_lookups(names);
  volume.catalog->inodes_read = nullptr;
  const auto found = engine.lookup(kRoot, "other");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->mode, S_IFREG | 0600U);
}

TEST(NamespaceThreads, ChangeTheTreeTogether) {
  constexpr int kThreads = 4;
  constexpr int kSteps = 400;
  TestVolume volume;
  volume.open();
  auto& engine = volume.engine();
  std::vector<InodeNumber> directories{kRoot};
  for (const auto* name : {"a", "b"}) {
    const auto made = engine.make_node(kRoot, name, S_IFDIR | 0755, 0, {});
    ASSERT_TRUE(made);
    directories.push_back(made->number);
  }
  const std::uint64_t seed = ephfs::testing::test_seed();
  SCOPED_TRACE(ephfs::testing::describe_seed(seed));
  const auto work = [&](std::uint64_t thread) {
    Random random(seed + thread);
    const auto directory = [&] { return directories[random.below(directories.size())]; };
    const auto name = [&] { return std::string(1, static_cast<char>('p' + random.below(4))); };
    for (int step = 0; step < kSteps; ++step) {
      switch (random.below(8)) {
        case 0:
          (void)engine.make_node(directory(), name(), S_IFREG | 0644, 0, {});
          break;
        case 1:
          (void)engine.make_node(directory(), name(), S_IFDIR | 0755, 0, {});
          break;
        case 2:
          (void)engine.unlink(directory(), name());
          break;
        case 3:
          (void)engine.remove_directory(directory(), name());
          break;
        case 4:
        case 5:
          (void)engine.rename(directory(), name(), directory(), name(), static_cast<RenameMode>(random.below(3)));
          break;
        case 6:
          if (const auto found = engine.lookup(directory(), name())) {
            (void)engine.set_attributes(found->number, with_mode(0700), false);
            (void)engine.set_xattr(found->number, "user.ephfs.ttl", core::as_bytes("1h"), XattrMode::any);
            engine.forget(found->number, 1);
          }
          break;
        default:
          (void)volume.list(directory());
          break;
      }
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < kThreads; ++thread) threads.emplace_back(work, thread);
  for (auto& thread : threads) thread.join();

  std::vector<std::string> before;
  describe(engine, kRoot, "/", before);
  volume.reopen();  // and what the catalog promises holds
  std::vector<std::string> after;
  describe(volume.engine(), kRoot, "/", after);
  EXPECT_EQ(after, before) << "memory and catalog are the same";
  for (const InodeNumber directory : directories) {
    std::uint32_t links = 2;
    for (const auto& name : *volume.list(directory)) {
      if (S_ISDIR(volume.engine().lookup(directory, name)->mode)) ++links;
    }
    EXPECT_EQ(volume.engine().attributes(directory, false)->links, links);
  }
}

}  // namespace
}  // namespace ephfs::fs::testing
