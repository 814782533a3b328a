// SPDX-License-Identifier: Apache-2.0
// Extended attributes other than the ttl's: everybody's, which are kept as they are, and our own that tell of
// a file.
#include <cerrno>

#include <sys/stat.h>

#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

class XattrTest : public EngineTest {
 protected:
  XattrTest() : file(volume.write_file(kRoot, "file", "content").number) {}
  InodeNumber file;
};

TEST_F(XattrTest, KeepsValuesAsTheyAre) {
  const std::string binary("\0\xff\n", 3);
  ASSERT_TRUE(volume.set_xattr(file, "user.note", "first"));
  ASSERT_TRUE(volume.set_xattr(file, "user.note", binary));
  ASSERT_TRUE(volume.set_xattr(file, "user.empty", ""));
  ASSERT_TRUE(volume.set_xattr(file, "trusted.overlay.opaque", "y"));
  ASSERT_TRUE(volume.set_xattr(file, "security.selinux", "label"));
  volume.reopen();
  EXPECT_EQ(*volume.xattr(file, "user.note"), binary);
  EXPECT_EQ(*volume.xattr(file, "user.empty"), "");
  EXPECT_THAT(*volume.engine().list_xattrs(file),
              UnorderedElementsAre("user.note", "user.empty", "trusted.overlay.opaque", "security.selinux"));
  ASSERT_TRUE(volume.engine().remove_xattr(file, "user.note"));
  EXPECT_EQ(errno_of(volume.xattr(file, "user.note")), ENODATA);
  EXPECT_EQ(errno_of(volume.engine().remove_xattr(file, "user.note")), ENODATA);
}

TEST_F(XattrTest, CreateAndReplace) {
  EXPECT_EQ(errno_of(volume.set_xattr(file, "user.a", "1", XattrMode::replace)), ENODATA);
  EXPECT_EQ(errno_of(volume.set_xattr(file, "user.a", "1", XattrMode::create)), 0);
  EXPECT_EQ(errno_of(volume.set_xattr(file, "user.a", "2", XattrMode::create)), EEXIST);
  EXPECT_EQ(errno_of(volume.set_xattr(file, "user.a", "3", XattrMode::replace)), 0);
  EXPECT_EQ(*volume.xattr(file, "user.a"), "3");
}

TEST_F(XattrTest, CapabilityAppearsWhenItIsSet) {
  EXPECT_EQ(errno_of(volume.xattr(file, "security.capability")), ENODATA);
  EXPECT_EQ(errno_of(volume.xattr(file, "security.capability")), ENODATA);
  ASSERT_TRUE(volume.set_xattr(file, "security.capability", "cap"));
  EXPECT_EQ(*volume.xattr(file, "security.capability"), "cap");
  ASSERT_TRUE(volume.engine().remove_xattr(file, "security.capability"));
  EXPECT_EQ(errno_of(volume.xattr(file, "security.capability")), ENODATA);
}

struct NameRow {
  std::string name;
  int get_error, set_error;
};

TEST_F(XattrTest, NamesAreChecked) {
  const std::vector<NameRow> rows{
      {"system.posix_acl_access", EOPNOTSUPP, EOPNOTSUPP},
      {"system.posix_acl_default", EOPNOTSUPP, EOPNOTSUPP},
      {"other.name", EOPNOTSUPP, EOPNOTSUPP},
      {"user.", EOPNOTSUPP, EOPNOTSUPP},
      {"", EOPNOTSUPP, EOPNOTSUPP},
      {"user." + std::string(251, 'x'), ENAMETOOLONG, ENAMETOOLONG},
      {"user." + std::string(250, 'x'), ENODATA, 0},
      {"user.ephfs.unknown", EINVAL, EINVAL},
      {"user.ephfs.", EINVAL, EINVAL},
      {"user.ephfs.proofs", EINVAL, EINVAL},
      {"user.ephfs", ENODATA, 0},
      {"user.ephfs.state", 0, EPERM},
      {"user.ephfs.health", 0, EPERM},
      {"user.ephfs.placement", 0, EPERM},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(errno_of(volume.xattr(file, row.name)), row.get_error) << row.name;
    EXPECT_EQ(errno_of(volume.set_xattr(file, row.name, "value")), row.set_error) << row.name;
  }
}

TEST_F(XattrTest, ValuesAndListsAreBounded) {
  const std::string largest(std::size_t{64} << 10U, 'x');
  EXPECT_EQ(errno_of(volume.set_xattr(file, "user.large", largest)), 0);
  EXPECT_EQ(*volume.xattr(file, "user.large"), largest);
  EXPECT_EQ(errno_of(volume.set_xattr(file, "user.large", largest + "x")), ENOSPC);
  int error = 0;
  std::size_t count = 0;
  for (; error == 0 && count < 1000; ++count) {
    error = errno_of(volume.set_xattr(file, "user." + std::string(240, 'n') + std::to_string(count), ""));
  }
  EXPECT_EQ(error, ENOSPC);
  std::size_t listed = 0;
  const auto names = volume.engine().list_xattrs(file);
  ASSERT_TRUE(names);
  for (const auto& name : *names) listed += name.size() + 1;
  EXPECT_LE(listed, std::size_t{64} << 10U);
}

TEST_F(XattrTest, SettingChangesCtimeAndNothingElse) {
  const auto before = volume.engine().attributes(file, false);
  volume.clock.run_for(5s);
  ASSERT_TRUE(volume.set_xattr(file, "user.a", "1"));
  const auto after = volume.engine().attributes(file, false);
  EXPECT_EQ(after->changed.ns - before->changed.ns, 5'000'000'000);
  EXPECT_EQ(after->modified, before->modified);
}

TEST_F(XattrTest, LinksShareAttributesAndTheyGoWithTheLast) {
  ASSERT_TRUE(volume.engine().make_link(file, kRoot, "link"));
  ASSERT_TRUE(volume.set_xattr(file, "user.a", "1"));
  ASSERT_TRUE(volume.engine().unlink(kRoot, "file"));
  const auto link = volume.engine().lookup(kRoot, "link");
  ASSERT_TRUE(link);
  EXPECT_EQ(*volume.xattr(link->number, "user.a"), "1");
  ASSERT_TRUE(volume.engine().unlink(kRoot, "link"));
  volume.reopen();
  EXPECT_EQ(errno_of(volume.xattr(file, "user.a")), ENOENT);
}

TEST_F(XattrTest, ProfileIsCheckedAgainstThePool) {
  constexpr auto kProfile = "user.ephfs.profile";
  EXPECT_EQ(*volume.xattr(file, kProfile), "auto");
  EXPECT_EQ(errno_of(volume.set_xattr(file, kProfile, "4+2")), EINVAL) << "there is one node";
  EXPECT_EQ(errno_of(volume.set_xattr(file, kProfile, "many")), EINVAL);
  ASSERT_TRUE(volume.set_xattr(file, kProfile, "1+0"));
  EXPECT_EQ(*volume.xattr(file, kProfile), "1+0");
  ASSERT_TRUE(volume.engine().remove_xattr(file, kProfile));
  EXPECT_EQ(*volume.xattr(file, kProfile), "auto");
  ASSERT_TRUE(volume.set_xattr(kRoot, kProfile, "1+0"));
  const auto directory = volume.engine().make_node(kRoot, "directory", S_IFDIR | 0755, 0, kUser);
  ASSERT_TRUE(directory);
  EXPECT_EQ(*volume.xattr(volume.write_file(directory->number, "file", "x").number, kProfile), "1+0");
}

TEST_F(XattrTest, StateFollowsTheBytes) {
  volume.start();
  EXPECT_EQ(*volume.xattr(file, "user.ephfs.state"), "staged");
  const auto opened = volume.engine().open_file(file, 2);
  ASSERT_TRUE(opened);
  ASSERT_TRUE(volume.engine().try_write(**opened, 0, core::as_bytes("new")));
  EXPECT_EQ(*volume.xattr(file, "user.ephfs.state"), "dirty");
  EXPECT_EQ(errno_of(volume.xattr(file, "user.ephfs.manifest")), EBUSY);
  volume.engine().release(*opened);
  volume.clock.run_for(1min);
  EXPECT_EQ(*volume.xattr(file, "user.ephfs.state"), "placed");
  const auto placement = volume.xattr(file, "user.ephfs.placement");
  ASSERT_TRUE(placement);
  EXPECT_NE(placement->find(volume.nodes[0]->peer.id().hex()), std::string::npos) << *placement;
  const auto health = volume.xattr(file, "user.ephfs.health");
  ASSERT_TRUE(health);
  EXPECT_NE(health->find(R"("unreadable":0)"), std::string::npos) << *health;
  EXPECT_TRUE(volume.xattr(file, "user.ephfs.manifest"));
}

TEST_F(XattrTest, DirectoriesHaveNoState) {
  for (const auto* name : {"state", "health", "placement", "manifest"}) {
    EXPECT_EQ(errno_of(volume.xattr(kRoot, std::string("user.ephfs.") + name)), ENODATA) << name;
  }
}

}  // namespace
}  // namespace ephfs::fs::testing
