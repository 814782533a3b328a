// SPDX-License-Identifier: Apache-2.0
// Names, first by a long random run against a model (with deaths and remounts on the way), then what a model
// does not say.
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>

#include "tests/fs/engine_fixture.hpp"
#include "tests/fs/namespace_model.hpp"

namespace ephfs::fs::testing {
namespace {

constexpr Milliseconds kDefaultTtl{std::chrono::hours(1)};

/// Does the same to the engine and to the model, and compares.
class NamespaceRun {
 public:
  NamespaceRun(Random& random, std::size_t inodes_kept) : random_(random), model_(kDefaultTtl) {
    volume_.options.ttl.initial = kDefaultTtl;
    volume_.options.inodes_kept = inodes_kept;
    volume_.open();
  }

  void step() {
    const auto choice = random_.below(100);
    if (choice < 30) {
      make();
    } else if (choice < 38) {
      link();
    } else if (choice < 50) {
      unlink();
    } else if (choice < 56) {
      remove_directory();
    } else if (choice < 82) {
      rename();
    } else if (choice < 90) {
      lookup();
    } else if (choice < 94) {
      list();
    } else if (choice < 97) {
      set_ttl();
    } else {
      volume_.clock.run_for(Milliseconds(random_.below(20'000)));
    }
  }

  void reopen() {
    volume_.reopen();
    for (const auto& inode : model_.inodes) {
      if (NamespaceModel::is_dead(*inode, now())) inode->removed = true;
    }
    std::erase_if(model_.inodes, [](const auto& inode) { return inode->removed; });
  }

  /// How often each operation went well, and how many inodes died: a run that does nothing compares well too.
  [[nodiscard]] const std::map<std::string, int>& successes() const { return successes_; }
  [[nodiscard]] std::size_t buried() const { return model_.buried; }

  void compare_all() {
    std::vector<ModelPointer> directories{model_.root};
    while (!directories.empty()) {
      const ModelPointer directory = directories.back();
      directories.pop_back();
      compare_listing(directory);
      for (const auto& [name, child] : NamespaceModel::list(*directory, now())) {
        const auto found = engine().lookup(directory->number, name);
        ASSERT_TRUE(found) << name << ": " << found.error();
        compare(*child, *found);
        if (S_ISDIR(child->mode)) directories.push_back(child);
        if (S_ISLNK(child->mode)) {
          EXPECT_EQ(*engine().read_link(child->number), child->target);
        }
        if (S_ISREG(child->mode)) {
          EXPECT_EQ(volume_.expires(child->number), child->deadline);
        }
      }
    }
  }

 private:
  Engine& engine() { return volume_.engine(); }
  core::Instant now() { return volume_.clock.now(); }

  std::string pick_name() {
    if (random_.chance(200)) return std::string(random_.between(250, 260), 'x');
    if (random_.chance(200)) return random_.chance(2) ? ".." : "";
    return std::string(1, static_cast<char>('a' + random_.below(6)));
  }
  template <class Wanted>
  ModelPointer pick(Wanted wanted) {
    for (int attempt = 0; attempt < 50; ++attempt) {
      const auto& inode = model_.inodes[random_.below(model_.inodes.size())];
      if (wanted(*inode)) return inode;
    }
    return model_.root;
  }
  /// Mostly a directory that is there; now and then one that was removed, or a file.
  ModelPointer pick_parent() {
    if (random_.chance(20)) return pick([](const auto& inode) { return inode.removed && S_ISDIR(inode.mode); });
    if (random_.chance(20)) return pick([](const auto& inode) { return !inode.removed; });
    return pick([](const auto& inode) { return !inode.removed && S_ISDIR(inode.mode); });
  }

  void compare(const ModelInode& expected, const Attributes& attributes) {
    EXPECT_EQ(attributes.number, expected.number);
    EXPECT_EQ(attributes.mode, expected.mode);
    EXPECT_EQ(attributes.links, expected.links) << "of inode " << expected.number.value;
  }
  void compare_number(const ModelInode& expected) {
    if (expected.removed || NamespaceModel::is_dead(expected, now())) return;
    const auto attributes = engine().attributes(expected.number, false);
    ASSERT_TRUE(attributes) << attributes.error();
    compare(expected, *attributes);
  }
  void compare_listing(const ModelPointer& directory) {
    std::vector<std::string> expected;
    for (const auto& [name, inode] : NamespaceModel::list(*directory, now())) expected.push_back(name);
    const auto listed = volume_.list(directory->number);
    ASSERT_TRUE(listed) << listed.error();
    EXPECT_EQ(*listed, expected);
    look_all_up(directory);
  }
  /// As the kernel does that wants attributes with its listing.
  void look_all_up(const ModelPointer& directory) {
    const auto opened = engine().open_directory(directory->number);
    ASSERT_TRUE(opened) << opened.error();
    ASSERT_TRUE(engine().rewind(**opened));
    engine().expect_lookups((*opened)->names);
    for (const auto& [name, inode] : NamespaceModel::list(*directory, now())) {
      const auto found = engine().lookup(directory->number, name);
      ASSERT_TRUE(found) << name << ": " << found.error();
      compare(*inode, *found);
      engine().forget(found->number, 1);
    }
  }

  void make() {
    const auto parent = pick_parent();
    const auto name = pick_name();
    constexpr std::array kModes{S_IFREG | 0644U, S_IFREG | 0600U, S_IFDIR | 0755U, S_IFLNK | 0777U, S_IFIFO | 0640U};
    const std::uint32_t mode = kModes.at(random_.below(kModes.size()));
    const std::string target = S_ISLNK(mode) ? "to " + name : "";
    ModelPointer made;
    const int expected = model_.make(parent, name, mode, target, now(), made);
    const auto result = S_ISLNK(mode) ? engine().make_symlink(parent->number, name, target, {})
                                      : engine().make_node(parent->number, name, mode, 0, {});
    ASSERT_EQ(outcome("make", result), expected) << "make " << name;
    if (!result) return;
    made->number = result->number;
    compare(*made, *result);
    compare_number(*parent);
  }
  void link() {
    const auto inode = pick([](const auto& each) { return !each.removed; });
    const auto parent = pick_parent();
    const auto name = pick_name();
    const int expected = model_.link(inode, parent, name, now());
    const auto result = engine().make_link(inode->number, parent->number, name);
    ASSERT_EQ(outcome("link", result), expected) << "link " << name;
    if (result) compare(*inode, *result);
  }
  void unlink() {
    const auto parent = pick_parent();
    const auto name = pick_name();
    const int expected = model_.unlink(parent, name, now());
    ASSERT_EQ(outcome("unlink", engine().unlink(parent->number, name)), expected) << "unlink " << name;
  }
  void remove_directory() {
    const auto parent = pick_parent();
    const auto name = pick_name();
    const int expected = model_.remove_directory(parent, name, now());
    ASSERT_EQ(outcome("rmdir", engine().remove_directory(parent->number, name)), expected) << "rmdir " << name;
    compare_number(*parent);
  }
  void rename() {
    const auto parent = pick_parent();
    const auto new_parent = random_.chance(3) ? parent : pick_parent();
    const auto name = pick_name();
    const auto new_name = pick_name();
    const auto mode = static_cast<RenameMode>(random_.below(3));
    const int expected = model_.rename(parent, name, new_parent, new_name, mode, now());
    const auto result = engine().rename(parent->number, name, new_parent->number, new_name, mode);
    ASSERT_EQ(outcome("rename", result), expected)
        << "rename " << name << " to " << new_name << " mode " << static_cast<int>(mode);
    compare_number(*parent);
    compare_number(*new_parent);
  }
  void lookup() {
    const auto parent = pick_parent();
    const auto name = pick_name();
    ModelPointer found;
    const int expected = model_.lookup(parent, name, now(), found);
    const auto result = engine().lookup(parent->number, name);
    ASSERT_EQ(outcome("lookup", result), expected) << "lookup " << name;
    if (result) compare(*found, *result);
  }
  void list() {
    compare_listing(pick([](const auto& inode) { return !inode.removed && S_ISDIR(inode.mode); }));
  }
  void set_ttl() {
    const auto inode =
        pick([this](const auto& each) { return !each.removed && !NamespaceModel::is_dead(each, now()); });
    const Milliseconds ttl(random_.between(1000, 60'000));
    ASSERT_TRUE(volume_.set_xattr(inode->number, "user.ephfs.ttl", core::format_span(ttl)));
    if (S_ISDIR(inode->mode)) {
      inode->ttl = ttl;
    } else {
      inode->deadline = now() + ttl;
      inode->is_explicit = true;
    }
  }

  template <class T>
  int outcome(const char* operation, const Result<T>& result) {
    if (result) ++successes_[operation];
    return errno_of(result);
  }

  Random& random_;
  TestVolume volume_;
  NamespaceModel model_;
  std::map<std::string, int> successes_;
};

void follow_the_model(int steps, std::size_t inodes_kept) {
  constexpr int kStepsBetweenReopenings = 300;
  Random random;
  EPHFS_TRACE_SEED(random);
  NamespaceRun run(random, inodes_kept);
  for (int step = 1; step <= steps; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    run.step();
    if (step % kStepsBetweenReopenings == 0) {
      run.reopen();
      run.compare_all();
    }
    if (::testing::Test::HasFailure()) return;
  }
  for (const auto* operation : {"make", "link", "unlink", "rmdir", "rename", "lookup"}) {
    EXPECT_GE(run.successes().count(operation) == 0 ? 0 : run.successes().at(operation), 50) << operation;
  }
  EXPECT_GE(run.buried(), 50U);
}

TEST(NamespaceModelTest, EngineDoesWhatTheModelDoes) {
  follow_the_model(20'000, EngineOptions{}.inodes_kept);
}

TEST(NamespaceModelTest, EngineDoesSoWithNearlyNoInodeInMemory) {
  follow_the_model(20'000, 2);
}

using NamespaceTest = EngineTest;

TEST_F(NamespaceTest, RootIsMadeOnceAndStays) {
  const auto root = volume.engine().attributes(kRoot, false);
  ASSERT_TRUE(root);
  EXPECT_EQ(root->mode, S_IFDIR | 0755U);
  EXPECT_EQ(root->links, 2U);
  SetAttributes given = with_mode(0700);
  given.uid = 5;
  ASSERT_TRUE(volume.engine().set_attributes(kRoot, given, false));
  volume.reopen();
  EXPECT_EQ(volume.engine().attributes(kRoot, false)->mode, S_IFDIR | 0700U);
  EXPECT_EQ(volume.engine().attributes(kRoot, false)->uid, 5U);
}

TEST_F(NamespaceTest, NumbersAreNeverUsedAgain) {
  const auto first = volume.engine().make_node(kRoot, "file", S_IFREG | 0644, 0, kUser);
  ASSERT_TRUE(first);
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  volume.reopen();
  const auto second = volume.engine().make_node(kRoot, "file", S_IFREG | 0644, 0, kUser);
  ASSERT_TRUE(second);
  EXPECT_GT(second->number, first->number);
}

TEST_F(NamespaceTest, OwnerIsTheCallerAndSetgidDirectoriesGiveTheirGroup) {
  auto& engine = volume.engine();
  const auto plain = engine.make_node(kRoot, "plain", S_IFREG | 0644, 0, kUser);
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->uid, kUser.uid);
  EXPECT_EQ(plain->gid, kUser.gid);
  const auto shared = engine.make_node(kRoot, "shared", S_IFDIR | 0775, 0, {0, 42});
  ASSERT_TRUE(shared);
  ASSERT_TRUE(engine.set_attributes(shared->number, with_mode(02775), false));
  const auto file = engine.make_node(shared->number, "file", S_IFREG | 0644, 0, kUser);
  const auto directory = engine.make_node(shared->number, "directory", S_IFDIR | 0755, 0, kUser);
  ASSERT_TRUE(file);
  ASSERT_TRUE(directory);
  EXPECT_EQ(file->gid, 42U);
  EXPECT_EQ(file->mode, S_IFREG | 0644U);
  EXPECT_EQ(directory->gid, 42U);
  EXPECT_EQ(directory->mode, S_IFDIR | 02755U);
}

TEST_F(NamespaceTest, ParentsTimesFollowTheirNames) {
  auto& engine = volume.engine();
  const auto changes_root = [&](auto change) {
    const auto before = engine.attributes(kRoot, false);
    volume.clock.run_for(1s);
    change();
    const auto after = engine.attributes(kRoot, false);
    return after->modified != before->modified && after->changed != before->changed &&
           after->accessed == before->accessed;
  };
  InodeNumber file;
  EXPECT_TRUE(changes_root([&] { file = engine.make_node(kRoot, "file", S_IFREG | 0644, 0, kUser)->number; }));
  EXPECT_TRUE(changes_root([&] { EXPECT_TRUE(engine.make_link(file, kRoot, "link")); }));
  EXPECT_TRUE(changes_root([&] { EXPECT_TRUE(engine.rename(kRoot, "link", kRoot, "moved", RenameMode::replace)); }));
  EXPECT_TRUE(changes_root([&] { EXPECT_TRUE(engine.unlink(kRoot, "moved")); }));
  EXPECT_FALSE(changes_root([&] { EXPECT_TRUE(engine.set_attributes(file, with_mode(0600), false)); }));
  EXPECT_FALSE(changes_root([&] { EXPECT_FALSE(engine.unlink(kRoot, "absent")); }));
}

TEST_F(NamespaceTest, DevicesKeepTheirNumber) {
  const auto device = volume.engine().make_node(kRoot, "null", S_IFCHR | 0666, 0x103, kUser);
  ASSERT_TRUE(device);
  volume.reopen();
  const auto found = volume.engine().lookup(kRoot, "null");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->rdev, 0x103U);
  EXPECT_EQ(found->mode, S_IFCHR | 0666U);
}

TEST_F(NamespaceTest, SymbolicLinksAreBounded) {
  auto& engine = volume.engine();
  EXPECT_EQ(errno_of(engine.make_symlink(kRoot, "empty", "", kUser)), ENOENT);
  EXPECT_EQ(errno_of(engine.make_symlink(kRoot, "long", std::string(4096, 'x'), kUser)), ENAMETOOLONG);
  const auto link = engine.make_symlink(kRoot, "link", std::string(4095, 'x'), kUser);
  ASSERT_TRUE(link);
  EXPECT_EQ(link->size, 4095U);
  EXPECT_EQ(errno_of(engine.read_link(kRoot)), EINVAL);
}

TEST_F(NamespaceTest, CreateOpensWhatIsThereUnlessExclusive) {
  auto& engine = volume.engine();
  const auto number = volume.write_file(kRoot, "file", "content").number;
  EXPECT_EQ(errno_of(engine.create(kRoot, "file", 0644, O_RDWR | O_EXCL, kUser)), EEXIST);
  const auto opened = engine.create(kRoot, "file", 0644, O_RDWR, kUser);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->first.number, number);
  EXPECT_EQ(opened->first.size, 7U);
  engine.release(opened->second);
  ASSERT_TRUE(engine.make_node(kRoot, "directory", S_IFDIR | 0755, 0, kUser));
  EXPECT_EQ(errno_of(engine.create(kRoot, "directory", 0644, O_RDWR, kUser)), EISDIR);
}

TEST_F(NamespaceTest, DroppingSetId) {
  auto& engine = volume.engine();
  const auto number = volume.write_file(kRoot, "file", "content").number;
  const std::array<std::pair<std::uint32_t, std::uint32_t>, 4> modes{
      {{06755, 0755}, {04644, 0644}, {02644, 02644}, {06766, 02766}}};
  for (const auto& [before, after] : modes) {
    ASSERT_TRUE(engine.set_attributes(number, with_mode(before), false));
    ASSERT_TRUE(engine.drop_set_id(number));
    EXPECT_EQ(engine.attributes(number, false)->mode, S_IFREG | after);
    ASSERT_TRUE(engine.set_attributes(number, with_mode(before), false));
    SetAttributes owner;
    owner.uid = 7;
    owner.drop_set_id = true;
    EXPECT_EQ(engine.set_attributes(number, owner, false)->mode, S_IFREG | after);
  }
  volume.clock.run_for(1s);
  const auto changed = engine.attributes(number, false)->changed;
  ASSERT_TRUE(engine.drop_set_id(number));
  EXPECT_EQ(engine.attributes(number, false)->changed, changed) << "there was nothing to drop";
  ASSERT_TRUE(engine.set_attributes(kRoot, with_mode(02755), false));
  ASSERT_TRUE(engine.drop_set_id(kRoot));
  EXPECT_EQ(engine.attributes(kRoot, false)->mode, S_IFDIR | 02755U) << "a directory's means something else";
  volume.reopen();
  EXPECT_EQ(volume.engine().attributes(number, false)->mode, S_IFREG | 02766U);
}

TEST_F(NamespaceTest, SetAttributes) {
  auto& engine = volume.engine();
  const auto number = volume.write_file(kRoot, "file", "content").number;
  volume.clock.run_for(1s);
  const meta::FileTime now{volume.clock.now().ms * 1'000'000};
  const auto chmod = engine.set_attributes(number, with_mode(04755), false);
  ASSERT_TRUE(chmod);
  EXPECT_EQ(chmod->mode, S_IFREG | 04755U);
  EXPECT_EQ(chmod->changed, now);
  EXPECT_LT(chmod->modified, now);
  SetAttributes given;
  given.accessed = meta::FileTime{123};
  given.modified = meta::FileTime{-456};
  const auto times = engine.set_attributes(number, given, false);
  ASSERT_TRUE(times);
  EXPECT_EQ(times->accessed.ns, 123);
  EXPECT_EQ(times->modified.ns, -456);
  const auto grown = engine.set_attributes(number, with_size(10), false);
  ASSERT_TRUE(grown);
  EXPECT_EQ(grown->size, 10U);
  EXPECT_EQ(grown->modified, now);
  EXPECT_EQ(volume.read_file(number), std::string("content\0\0\0", 10));
  ASSERT_TRUE(engine.set_attributes(number, with_size(3), false));
  volume.reopen();
  EXPECT_EQ(volume.read_file(number), "con");
  EXPECT_EQ(errno_of(volume.engine().set_attributes(kRoot, with_size(0), false)), EISDIR);
  EXPECT_EQ(errno_of(volume.engine().set_attributes(number, with_size(kFileBytesMax + 1), false)), EFBIG);
  EXPECT_EQ(errno_of(volume.engine().set_attributes({12345}, with_mode(0600), false)), ENOENT);
}

TEST_F(NamespaceTest, StatisticsCountInodesAndCapacity) {
  (void)volume.write_file(kRoot, "file", std::string(100'000, 'x'));
  EXPECT_EQ(volume.engine().statistics()->inodes, 2U);
  volume.close();
  volume.options.capacity = 1'000'000;
  volume.open();
  const auto statistics = volume.engine().statistics();
  ASSERT_TRUE(statistics);
  EXPECT_EQ(statistics->bytes_total, 1'000'000U);
  EXPECT_LE(statistics->bytes_free, 900'000U);
  EXPECT_GT(statistics->bytes_free, 800'000U);
}

TEST_F(NamespaceTest, AFileWithoutANameLivesUntilItsLastCloseOrUntilItIsLinked) {
  const auto create = [&] { return volume.engine().create_unnamed(kRoot, 0600, O_RDWR, kUser).value(); };
  const auto [closed, closed_file] = create();
  EXPECT_EQ(closed.links, 0U);
  ASSERT_TRUE(volume.engine().try_write(*closed_file, 0, core::as_bytes("closed")));
  const auto [linked, linked_file] = create();
  ASSERT_TRUE(volume.engine().try_write(*linked_file, 0, core::as_bytes("linked")));
  const auto [open, open_file] = create();
  EXPECT_THAT(*volume.list(kRoot), ::testing::IsEmpty());
  EXPECT_EQ(volume.engine().make_link(linked.number, kRoot, "name")->links, 1U);
  for (const auto& file : {closed_file, linked_file}) {
    ASSERT_TRUE(volume.run(volume.engine().flush(file)));
    volume.engine().release(file);
  }
  volume.engine().forget(closed.number, 1);
  EXPECT_EQ(volume.engine().attributes(closed.number, false).error().code, core::Error::not_found);
  EXPECT_EQ(volume.engine().make_link(closed.number, kRoot, "late").error().code, core::Error::not_found);
  ASSERT_TRUE(volume.run(volume.engine().flush(open_file)));
  volume.reopen();
  EXPECT_EQ(volume.read_file(linked.number), "linked");
  EXPECT_EQ(volume.engine().attributes(open.number, false).error().code, core::Error::not_found);
  EXPECT_EQ(volume.engine().statistics()->inodes, 2U) << "the root and the file that was linked";
}

// cp and tar look for holes in what takes up less than its size.
TEST_F(NamespaceTest, ASparseFileTakesUpItsExtentsAlsoAfterARemount) {
  constexpr std::uint64_t kFar = std::uint64_t{200} << 20U;
  const auto number = volume.write_file(kRoot, "sparse", std::string(5000, 'a')).number;
  {
    const auto file = *volume.engine().open_file(number, O_WRONLY);
    ASSERT_TRUE(volume.engine().try_write(*file, kFar, core::as_bytes("far")));
    ASSERT_TRUE(volume.run(volume.engine().flush(file)));
    volume.engine().release(file);
  }
  EXPECT_EQ(volume.engine().attributes(number, false)->allocated, 5003U) << "closed";
  volume.reopen();
  EXPECT_EQ(volume.engine().lookup(kRoot, "sparse")->allocated, 5003U) << "never opened";
  EXPECT_EQ(volume.engine().attributes(number, false)->size, kFar + 3);
  SetAttributes shorter;
  shorter.size = kFar;
  EXPECT_EQ(volume.engine().set_attributes(number, shorter, false)->allocated, 5000U);
}

}  // namespace
}  // namespace ephfs::fs::testing
