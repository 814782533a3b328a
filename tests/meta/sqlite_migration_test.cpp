// SPDX-License-Identifier: Apache-2.0
// A catalog of version 1 opens as one of today, with everything that was in it; and what cannot be brought up to date
// is left as it was.
#include <gmock/gmock.h>

#include "meta/sqlite_catalog.hpp"
#include "tests/meta/catalog_of_version_1.hpp"
#include "tests/meta/raw_database.hpp"
#include "tests/meta/records.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::meta::testing {
namespace {

using core::Error;
using ephfs::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class MigrationTest : public ::testing::Test {
 protected:
  MigrationTest() {
    RawDatabase database(path_);
    database.run(kCatalogOfVersion1);
    database.run(kContentOfVersion1);
  }
  std::unique_ptr<Catalog> open() { return open_sqlite_catalog(path_).value(); }
  /// All rows that version 1 knew, in one line.
  std::string rows() {
    RawDatabase database(path_);
    std::string all;
    for (const char* sql :
         {"SELECT group_concat(number || ':' || mode || ':' || uid || ':' || links || ':' || size || ':' || hex(file) "
          "|| "
          "':' || hex(wrapped_key) || ':' || ifnull(deadline, 'never') || ':' || ttl) FROM inodes",
          "SELECT group_concat(parent || ':' || hex(name) || ':' || inode) FROM names",
          "SELECT group_concat(inode || ':' || hex(name) || ':' || hex(value)) FROM xattrs",
          "SELECT group_concat(number || ':' || hex(id) || ':' || state || ':' || length || ':' || live) FROM stripes",
          "SELECT group_concat(inode || ':' || offset || ':' || length || ':' || stripe) FROM extents",
          "SELECT group_concat(stripe || ':' || shard_index || ':' || stored || ':' || hex(receipt)) FROM placements",
          "SELECT group_concat(hex(shard) || ':' || serial || ':' || lease_deadline) FROM removals",
          "SELECT group_concat(hex(key) || ':' || hex(value)) FROM settings",
          "SELECT inodes || ':' || bytes || ':' || stripes || ':' || last_inode || ':' || last_stripe FROM totals"}) {
      all += database.text(sql) + '\n';
    }
    return all;
  }
  std::string version() { return RawDatabase(path_).text("PRAGMA user_version"); }

  TempDir dir_;
  const std::filesystem::path path_ = dir_ / "catalog";
};

TEST_F(MigrationTest, EveryRowIsKept) {
  const std::string before = rows();
  ASSERT_EQ(version(), "1");
  EXPECT_THAT(open()->check().value(), IsEmpty());
  EXPECT_EQ(version(), "3");
  EXPECT_EQ(rows(), before);
  EXPECT_THAT(open()->check().value(), IsEmpty()) << "a second time there is nothing to do";
  EXPECT_EQ(rows(), before);
}

TEST_F(MigrationTest, ItIsReadAsItWasWritten) {
  const auto catalog = open();
  const auto inode = catalog->inode({3}).value();
  ASSERT_TRUE(inode);
  InodeRecord expected = regular(3, 9000, at(1'800'000'000'000));
  expected.uid = 7;
  expected.gid = 8;
  expected.links = 2;
  expected.accessed = {31};
  expected.modified = {32};
  expected.changed = {33};
  expected.wrapped_key = {std::byte{0xaa}, std::byte{0xbb}, std::byte{0xcc}};
  expected.ttl = std::chrono::hours(1);
  expected.deadline_explicit = true;
  expected.ttl_mode = TtlMode::accessed;
  EXPECT_EQ(*inode, expected);
  EXPECT_EQ(catalog->inode({4}).value()->target, "target\n");
  const auto inner = catalog->inode({2}).value();
  ASSERT_TRUE(inner);
  EXPECT_EQ(inner->default_deadline, at(1'900'000'000'000));
  EXPECT_EQ(inner->profile, (core::Profile{4, 2}));
  EXPECT_EQ(catalog->lookup({2}, "\x6f\xfe").value()->number, core::InodeNumber{3});
  EXPECT_EQ(catalog->xattr({3}, "user.a").value(), (core::Bytes{std::byte{0}, std::byte{0xff}}));
  EXPECT_THAT(catalog->extents({3}).value(),
              ElementsAre(extent(3, 0, 8000, 1), ExtentRecord{{3}, 8000, 1000, {5}, 0, 8000, 1000}));
  EXPECT_EQ(catalog->stripe({1}).value()->live, 8000U);
  EXPECT_EQ(catalog->stripe({5}).value()->state, StripeState::sealed);
  EXPECT_EQ(catalog->stripe({1}).value()->format, core::BlockFormat::aes_256_gcm_16k);
  EXPECT_EQ(catalog->placements({1}).value().size(), 2U);
  EXPECT_EQ(catalog->owed(10).value().size(), 1U);
  EXPECT_EQ(catalog->removals(10).value().size(), 1U);
  EXPECT_EQ(core::as_text(*catalog->value("key").value()), "value");
  EXPECT_EQ(catalog->totals().value().inodes, 4U);
  EXPECT_EQ(catalog->totals().value().bytes, 9000U);
  EXPECT_EQ(catalog->last_stripe().value(), core::StripeNumber{5});
}

TEST_F(MigrationTest, WhatIsNewInIt) {
  const auto catalog = open();
  EXPECT_FALSE(catalog->dead_file(id_of<core::FileId>(3)).value());
  EXPECT_THAT(catalog->audits({1}).value(), IsEmpty());
  DeadFileRecord dead{
      {3},  id_of<core::FileId>(3), DeathCause::expired, core::Instant{1'800'000'000'000}, at(1'800'000'000'000), 9000,
      true, {extent(3, 0, 8000, 1)}};
  const AuditRecord audit{{1}, 0, id_of<core::ShardId>(0), id_of<core::NodeId>(0), core::Instant{5}, false, {}};
  ASSERT_TRUE(catalog->commit({PutAudit{audit}}));
  EXPECT_EQ(catalog->audits({1}).value().size(), 1U);
  ASSERT_TRUE(catalog->commit({DropName{{2}, "\x6f\xfe"}, DropName{{1}, "linked"}, DropInode{{3}}, PutDeadFile{dead}}));
  EXPECT_EQ(catalog->dead_file(id_of<core::FileId>(3)).value(), dead);
}

// Whatever keeps a step from being made, the file is of version 1 afterwards, and opens once that is gone.
TEST_F(MigrationTest, HalfAStepIsNone) {
  const std::string before = rows();
  RawDatabase(path_).run("CREATE TABLE dead_shards (in_the_way)");
  const auto refused = open_sqlite_catalog(path_);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().detail, ::testing::HasSubstr(path_.string()));
  EXPECT_EQ(version(), "1");
  EXPECT_EQ(RawDatabase(path_).text("SELECT count(*) FROM sqlite_schema WHERE name = 'dead_files'"), "0");
  RawDatabase(path_).run("DROP TABLE dead_shards");
  EXPECT_THAT(open()->check().value(), IsEmpty());
  EXPECT_EQ(rows(), before);
}

TEST_F(MigrationTest, NoVersionIsDamage) {
  RawDatabase(path_).run("PRAGMA user_version = 0");
  EXPECT_EQ(open_sqlite_catalog(path_).error().code, Error::damaged);
}

}  // namespace
}  // namespace ephfs::meta::testing
