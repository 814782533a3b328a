// SPDX-License-Identifier: Apache-2.0
// The rules of rename(2), one row a case, and what happens to deadlines.
#include <cerrno>

#include <sys/stat.h>

#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

// The tree of every case: file and other are files, hard a second name of file, link a symbolic link; empty/
// has nothing in it, full/ has the file child and the directory sub/.
struct RenameRow {
  const char* from;
  const char* to;
  RenameMode mode;
  int error;
};

constexpr std::array kModeNames{"Replace", "NoReplace", "Exchange"};

void PrintTo(const RenameRow& row, std::ostream* out) {
  *out << row.from << " to " << row.to << ", " << kModeNames.at(static_cast<std::size_t>(row.mode));
}

constexpr auto kReplace = RenameMode::replace;
constexpr auto kNoReplace = RenameMode::no_replace;
constexpr auto kExchange = RenameMode::exchange;

const RenameRow kRows[] = {
    {"file", "new", kReplace, 0},
    {"file", "other", kReplace, 0},
    {"file", "hard", kReplace, 0},
    {"file", "file", kReplace, 0},
    {"file", "link", kReplace, 0},
    {"link", "file", kReplace, 0},
    {"file", "empty", kReplace, EISDIR},
    {"file", "full", kReplace, EISDIR},
    {"empty", "file", kReplace, ENOTDIR},
    {"empty", "new", kReplace, 0},
    {"empty", "full", kReplace, ENOTEMPTY},
    {"full", "empty", kReplace, 0},
    {"full", "full/sub/new", kReplace, EINVAL},
    {"full", "full/new", kReplace, EINVAL},
    {"full", "full/sub", kReplace, EINVAL},
    {"full/sub", "full", kReplace, ENOTEMPTY},
    {"full/child", "full", kReplace, ENOTEMPTY},
    {"full/sub", "empty", kReplace, 0},
    {"full/sub", "new", kReplace, 0},
    {"full/child", "empty/new", kReplace, 0},
    {"absent", "new", kReplace, ENOENT},
    {"absent", "file", kNoReplace, ENOENT},
    {"file", "new", kNoReplace, 0},
    {"file", "other", kNoReplace, EEXIST},
    {"file", "hard", kNoReplace, EEXIST},
    {"file", "empty", kNoReplace, EEXIST},
    {"file", "new", kExchange, ENOENT},
    {"file", "other", kExchange, 0},
    {"file", "empty", kExchange, 0},
    {"file", "full/sub", kExchange, 0},
    {"full/child", "full/sub", kExchange, 0},
    {"full/sub", "empty", kExchange, 0},
    {"full", "empty", kExchange, 0},
    {"full", "full/sub", kExchange, EINVAL},
    {"full/sub", "full", kExchange, EINVAL},
    {"full/child", "full", kExchange, EINVAL},
};

class RenameTest : public EngineTest {
 protected:
  RenameTest() {
    auto& engine = volume.engine();
    EXPECT_TRUE(engine.make_node(kRoot, "file", S_IFREG | 0644, 0, kUser));
    EXPECT_TRUE(engine.make_node(kRoot, "other", S_IFREG | 0644, 0, kUser));
    EXPECT_TRUE(engine.make_link(number_of("file"), kRoot, "hard"));
    EXPECT_TRUE(engine.make_symlink(kRoot, "link", "file", kUser));
    EXPECT_TRUE(engine.make_node(kRoot, "empty", S_IFDIR | 0755, 0, kUser));
    EXPECT_TRUE(engine.make_node(kRoot, "full", S_IFDIR | 0755, 0, kUser));
    EXPECT_TRUE(engine.make_node(number_of("full"), "child", S_IFREG | 0644, 0, kUser));
    EXPECT_TRUE(engine.make_node(number_of("full"), "sub", S_IFDIR | 0755, 0, kUser));
  }
  struct Place {
    InodeNumber parent;
    std::string name;
  };
  Place place_of(const std::string& path) {
    Place place{kRoot, path};
    for (auto slash = place.name.find('/'); slash != std::string::npos; slash = place.name.find('/')) {
      place.parent = volume.engine().lookup(place.parent, place.name.substr(0, slash))->number;
      place.name.erase(0, slash + 1);
    }
    return place;
  }
  InodeNumber number_of(const std::string& path) {
    const Place place = place_of(path);
    const auto found = volume.engine().lookup(place.parent, place.name);
    return found ? found->number : InodeNumber{};
  }
  int rename(const std::string& from, const std::string& to, RenameMode mode = kReplace) {
    const Place source = place_of(from);
    const Place target = place_of(to);
    return errno_of(volume.engine().rename(source.parent, source.name, target.parent, target.name, mode));
  }
  /// Links of a directory as its listing would have them.
  void check_links(InodeNumber directory) {
    auto& engine = volume.engine();
    std::uint32_t links = 2;
    for (const auto& name : *volume.list(directory)) {
      const auto child = engine.lookup(directory, name);
      ASSERT_TRUE(child) << name;
      if (!S_ISDIR(child->mode)) continue;
      ++links;
      check_links(child->number);
    }
    EXPECT_EQ(engine.attributes(directory, false)->links, links);
  }
};

class RenameRules : public RenameTest, public ::testing::WithParamInterface<RenameRow> {};

TEST_P(RenameRules, AreFollowed) {
  const auto& row = GetParam();
  const auto source = number_of(row.from);
  const auto target = number_of(row.to);
  const Place from = place_of(row.from);
  const Place to = place_of(row.to);
  ASSERT_EQ(rename(row.from, row.to, row.mode), row.error);
  // Twice: as memory has it, and as the catalog does. The directories that held the names are looked at by
  // number, because a rename may have moved them.
  for (int round = 0; round < 2; ++round) {
    const auto now_at = [&](const Place& place) {
      const auto found = volume.engine().lookup(place.parent, place.name);
      return found ? found->number : InodeNumber{};
    };
    const bool unchanged = row.error != 0 || source == target;
    EXPECT_EQ(now_at(to), unchanged ? target : source);
    EXPECT_EQ(now_at(from), unchanged ? source : row.mode == kExchange ? target : InodeNumber{});
    check_links(kRoot);
    volume.reopen();
  }
}

std::string name_of_row(const ::testing::TestParamInfo<RenameRow>& info) {
  std::string name =
      std::string(info.param.from) + "To" + info.param.to + kModeNames.at(static_cast<std::size_t>(info.param.mode));
  std::erase(name, '/');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Table, RenameRules, ::testing::ValuesIn(kRows), name_of_row);

TEST_F(RenameTest, LinkCountOfAReplacedHardLinkFalls) {
  EXPECT_EQ(rename("other", "hard"), 0);
  EXPECT_EQ(volume.engine().lookup(kRoot, "file")->links, 1U);
}

TEST_F(RenameTest, ReplacedOpenFileStaysReadable) {
  const auto old = volume.write_file(kRoot, "old", "before").number;
  (void)volume.write_file(kRoot, "fresh", "after");
  const auto open = volume.engine().open_file(old, 0);
  ASSERT_TRUE(open);
  ASSERT_EQ(rename("fresh", "old"), 0);
  std::string content(6, '\0');
  EXPECT_EQ(*volume.run(volume.engine().read(*open, 0, std::as_writable_bytes(std::span(content)), {})), 6U);
  EXPECT_EQ(content, "before");
  EXPECT_EQ(volume.read_file(number_of("old")), "after");
  volume.engine().release(*open);
  EXPECT_EQ(errno_of(volume.engine().open_file(old, 0)), ENOENT);
}

TEST_F(RenameTest, NamesAreChecked) {
  EXPECT_EQ(rename("file", std::string(256, 'x')), ENAMETOOLONG);
  EXPECT_EQ(rename("file", std::string(255, 'x')), 0);
  EXPECT_EQ(rename("other", ".."), EINVAL);
}

struct CarryRow {
  const char* what;
  bool source_explicit, target_explicit;
  bool carried;
};

TEST_F(RenameTest, DeadlineOfWhatIsReplacedIsCarriedUnlessTheSourceHasItsOwn) {
  for (const auto& row :
       {CarryRow{"inherited over inherited", false, false, true},
        CarryRow{"inherited over explicit", false, true, true}, CarryRow{"explicit over inherited", true, false, false},
        CarryRow{"explicit over explicit", true, true, false}}) {
    SCOPED_TRACE(row.what);
    const auto target = volume.write_file(kRoot, "target", "old").number;
    if (row.target_explicit) {
      ASSERT_TRUE(volume.set_xattr(target, kTtl, "5h"));
    }
    volume.clock.run_for(1h);
    const auto source = volume.write_file(kRoot, "source", "new").number;
    if (row.source_explicit) {
      ASSERT_TRUE(volume.set_xattr(source, kTtl, "2h"));
    }
    const core::Instant expected = volume.expires(row.carried ? target : source);
    ASSERT_EQ(rename("source", "target"), 0);
    EXPECT_EQ(volume.expires(source), expected);
    EXPECT_EQ(volume.engine().list_xattrs(source)->empty(), !row.source_explicit && !row.target_explicit);
    volume.reopen();
    EXPECT_EQ(volume.expires(source), expected);
    EXPECT_EQ(volume.read_file(source), "new") << "its key is wrapped for the deadline it now has";
    ASSERT_TRUE(volume.engine().unlink(kRoot, "target"));
  }
}

TEST_F(RenameTest, ADeadlineIsNotCarriedToAnothersFile) {
  const auto target = volume.engine().make_node(kRoot, "target", S_IFREG | 0644, 0, kUser);
  ASSERT_TRUE(target) << target.error();
  ASSERT_TRUE(volume.set_xattr(target->number, "user.ephfs.ttl", "2s"));
  const auto source = volume.write_file(kRoot, "source", "new").number;
  const core::Instant expected = volume.expires(source);
  ASSERT_EQ(rename("source", "target"), 0);
  EXPECT_EQ(volume.expires(source), expected);
  EXPECT_TRUE(volume.engine().list_xattrs(source)->empty());
}

TEST_F(RenameTest, SaveOverASlidingFileCountsAsAWrite) {
  const auto target = volume.write_file(kRoot, "target", "old").number;
  ASSERT_TRUE(volume.set_xattr(target, "user.ephfs.ttl", "2h"));
  ASSERT_TRUE(volume.set_xattr(target, "user.ephfs.ttl_mode", "modified"));
  volume.clock.run_for(1h);
  const auto source = volume.write_file(kRoot, "source", "new").number;
  ASSERT_EQ(rename("source", "target"), 0);
  EXPECT_EQ(volume.expires(source), volume.clock.now() + 2h);
  EXPECT_EQ(*volume.xattr(source, "user.ephfs.ttl_mode"), "modified");
}

TEST_F(RenameTest, DeadTargetLeavesNoDeadline) {
  const auto target = volume.write_file(kRoot, "target", "old").number;
  ASSERT_TRUE(volume.set_xattr(target, "user.ephfs.ttl", "1h"));
  volume.clock.run_for(1h);
  const auto source = volume.write_file(kRoot, "source", "new").number;
  const core::Instant own = volume.expires(source);
  ASSERT_EQ(rename("source", "target", kNoReplace), 0);
  EXPECT_EQ(volume.expires(source), own);
}

}  // namespace
}  // namespace ephfs::fs::testing
