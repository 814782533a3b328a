// SPDX-License-Identifier: Apache-2.0
// What every Catalog does, as tests. Include it in one file of a test program and instantiate CatalogContract
// there with a factory for each implementation.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "meta/catalog.hpp"
#include "tests/meta/marked_keys.hpp"
#include "tests/meta/records.hpp"

namespace ephfs::meta::testing {

/// A place where one catalog lives; open() gives what was committed there before. One is open at a time.
class CatalogPlace {
 public:
  virtual ~CatalogPlace() = default;
  [[nodiscard]] virtual std::unique_ptr<Catalog> open() = 0;
  /// Where all of its files are; none for one that has no files.
  [[nodiscard]] virtual std::optional<std::filesystem::path> directory() const { return std::nullopt; }
};

struct CatalogFactory {
  std::string name;
  std::function<std::unique_ptr<CatalogPlace>()> make;
};
inline void PrintTo(const CatalogFactory& factory, std::ostream* out) {
  *out << factory.name;
}

class CatalogContract : public ::testing::TestWithParam<CatalogFactory> {
 protected:
  void SetUp() override {
    place_ = GetParam().make();
    catalog_ = place_->open();
    commit({PutInode{directory(1)}});
  }
  void reopen() {
    catalog_.reset();
    catalog_ = place_->open();
  }
  void commit(const Changes& changes) {
    const auto done = catalog_->commit(changes);
    ASSERT_TRUE(done) << done.error();
  }
  void refuse(const Changes& changes) {
    const auto done = catalog_->commit(changes);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, core::Error::invalid_argument) << done.error();
  }
  void expect_clean() {
    const auto lines = catalog_->check();
    ASSERT_TRUE(lines) << lines.error();
    EXPECT_THAT(*lines, ::testing::IsEmpty());
  }
  static std::vector<std::string> only_names(const std::vector<NameRecord>& records) {
    std::vector<std::string> names;
    for (const auto& record : records) names.push_back(record.name);
    return names;
  }
  static std::vector<std::int64_t> only_numbers(const std::vector<StripeRecord>& records) {
    std::vector<std::int64_t> numbers;
    for (const auto& record : records) numbers.push_back(record.number.value);
    return numbers;
  }

  std::unique_ptr<CatalogPlace> place_;
  std::unique_ptr<Catalog> catalog_;
};

/// Of catalogs whose directory() has all their files.
class CatalogFilesContract : public CatalogContract {};

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST_P(CatalogContract, KeepsEveryFieldOfAnInode) {
  InodeRecord inode = regular(2, 12345, at(99));
  inode.uid = 1000;
  inode.gid = 4294967295U;
  inode.rdev = 0xffff'ffff'ffff'ffffU;
  inode.links = 0;
  inode.accessed = {-5};
  inode.modified = {1'700'000'000'123'456'789};
  inode.changed = {3};
  inode.target = "a/target";
  inode.ttl = core::Milliseconds(7);
  inode.default_deadline = at(1);
  inode.deadline_explicit = true;
  inode.ttl_mode = TtlMode::accessed;
  inode.profile = core::Profile{16, 4};
  commit({PutInode{inode}});
  EXPECT_EQ(catalog_->inode({2}).value(), inode);
  reopen();
  EXPECT_EQ(catalog_->inode({2}).value(), inode);
  EXPECT_EQ(catalog_->inode({1}).value(), directory(1));
  EXPECT_EQ(catalog_->inode({3}).value(), std::nullopt);
  EXPECT_THAT(catalog_->inodes({{3}, {2}, {1}}).value(), UnorderedElementsAre(inode, directory(1)));
  EXPECT_THAT(catalog_->inodes({{3}}).value(), IsEmpty());
}

TEST_P(CatalogContract, PutReplacesARecordAndKeepsWhatHangsOnIt) {
  commit({PutInode{regular(2)}, PutName{{1}, "f", {2}}, PutXattr{{2}, "user.a", core::Bytes(3)}, PutStripe{stripe(1)},
          PutExtent{extent(2, 0, 10, 1)}, PutPlacement{placement(1, 0)}});
  InodeRecord changed = regular(2, 10, at(50));
  StripeRecord longer = stripe(1, StripeState::placed, 2 << 20);
  commit({PutInode{changed}, PutStripe{longer}});
  EXPECT_EQ(catalog_->lookup({1}, "f").value(), changed);
  EXPECT_EQ(catalog_->xattr({2}, "user.a").value(), core::Bytes(3));
  EXPECT_EQ(catalog_->extents({2}).value().size(), 1U);
  EXPECT_EQ(catalog_->placements({1}).value().size(), 1U);
  longer.live = 10;
  EXPECT_EQ(catalog_->stripe({1}).value(), longer);
  expect_clean();
}

TEST_P(CatalogContract, ListsNamesInByteOrderFromWhereOneStopped) {
  Changes changes;
  std::uint64_t number = 2;
  for (const char* name : {"b", "a", "\xff\x01", "ab", "B", "a b"}) {
    changes.push_back(PutInode{regular(number, 0, at(static_cast<std::int64_t>(number)))});
    changes.push_back(PutName{{1}, name, {number++}});
  }
  commit(changes);
  EXPECT_THAT(only_names(catalog_->names({1}, "", 100).value()), ElementsAre("B", "a", "a b", "ab", "b", "\xff\x01"));
  EXPECT_THAT(only_names(catalog_->names({1}, "a", 2).value()), ElementsAre("a b", "ab"));
  EXPECT_THAT(only_names(catalog_->names({1}, "aa", 2).value()), ElementsAre("ab", "b"));
  EXPECT_THAT(catalog_->names({1}, "\xff\x01", 2).value(), IsEmpty());
  EXPECT_THAT(catalog_->names({2}, "", 2).value(), IsEmpty());
  EXPECT_THAT(catalog_->names({1}, "", 2).value().at(0), (NameRecord{"B", {6}, S_IFREG | 0644, at(6)}));
}

TEST_P(CatalogContract, FindsTheWayUpAndAllHardLinks) {
  InodeRecord linked = regular(3);
  linked.links = 2;
  commit({PutInode{directory(2)}, PutInode{linked}, PutName{{1}, "d", {2}}, PutName{{2}, "x", {3}},
          PutName{{1}, "y", {3}}});
  EXPECT_EQ(catalog_->parent_of({2}).value(), (std::pair<InodeNumber, std::string>({1}, "d")));
  EXPECT_EQ(catalog_->parent_of({1}).value(), std::nullopt);
  EXPECT_THAT(catalog_->names_of({3}).value(), ElementsAre(std::pair<InodeNumber, std::string>({1}, "y"),
                                                           std::pair<InodeNumber, std::string>({2}, "x")));
  commit({DropName{{1}, "y"}, DropName{{1}, "was never there"}});
  EXPECT_EQ(catalog_->parent_of({3}).value(), (std::pair<InodeNumber, std::string>({2}, "x")));
}

TEST_P(CatalogContract, KeepsXattrs) {
  const core::Bytes value = core::to_bytes(core::as_bytes(std::string_view("\0zero", 5)));
  commit({PutXattr{{1}, "user.b", value}, PutXattr{{1}, "user.a", {}}});
  EXPECT_EQ(catalog_->xattr({1}, "user.b").value(), value);
  EXPECT_EQ(catalog_->xattr({1}, "user.a").value(), core::Bytes());
  EXPECT_EQ(catalog_->xattr({1}, "user.c").value(), std::nullopt);
  EXPECT_THAT(catalog_->xattr_names({1}).value(), ElementsAre("user.a", "user.b"));
  commit({DropXattr{{1}, "user.a"}, DropXattr{{1}, "user.c"}, PutXattr{{1}, "user.b", core::Bytes(65536)}});
  EXPECT_THAT(catalog_->xattr_names({1}).value(), ElementsAre("user.b"));
  EXPECT_EQ(catalog_->xattr({1}, "user.b").value(), core::Bytes(65536));
}

TEST_P(CatalogContract, DropInodeTakesXattrsAndExtentsWithIt) {
  commit({PutInode{regular(2)}, PutXattr{{2}, "user.a", core::Bytes(1)}, PutStripe{stripe(1)},
          PutExtent{extent(2, 0, 10, 1)}, PutExtent{extent(2, 10, 5, 1)}});
  EXPECT_EQ(catalog_->stripe({1}).value()->live, 15U);
  commit({DropInode{{2}}, DropInode{{77}}});
  EXPECT_EQ(catalog_->inode({2}).value(), std::nullopt);
  EXPECT_THAT(catalog_->xattr_names({2}).value(), IsEmpty());
  EXPECT_THAT(catalog_->extents({2}).value(), IsEmpty());
  EXPECT_EQ(catalog_->stripe({1}).value()->live, 0U);
  expect_clean();
}

TEST_P(CatalogContract, TellsWhatIsTiedToAnInode) {
  commit({PutInode{directory(1)}, PutInode{directory(2)}, PutInode{regular(3)}, PutName{{1}, "d", {2}},
          PutName{{2}, "b", {3}}, PutName{{1}, "a", {3}}, PutStripe{stripe(1)}, PutExtent{extent(3, 0, 10, 1)}});
  const auto expect_ties = [this] {
    const auto directory = catalog_->ties({2}).value();
    EXPECT_TRUE(directory.is_there);
    EXPECT_TRUE(directory.has_names);
    EXPECT_THAT(directory.names, ElementsAre(std::pair(InodeNumber{1}, std::string("d"))));
    EXPECT_THAT(directory.extents, IsEmpty());
    const auto file = catalog_->ties({3}).value();
    EXPECT_TRUE(file.is_there);
    EXPECT_FALSE(file.has_names);
    EXPECT_THAT(file.names,
                ElementsAre(std::pair(InodeNumber{1}, std::string("a")), std::pair(InodeNumber{2}, std::string("b"))));
    EXPECT_THAT(file.extents, ElementsAre(extent(3, 0, 10, 1)));
    EXPECT_FALSE(catalog_->ties({4}).value().is_there);
  };
  expect_ties();
  reopen();
  expect_ties();
  commit({DropName{{1}, "a"}, DropName{{2}, "b"}, DropInode{{3}}});
  EXPECT_FALSE(catalog_->ties({2}).value().has_names);
  EXPECT_FALSE(catalog_->ties({3}).value().is_there);
  EXPECT_THAT(catalog_->ties({3}).value().extents, IsEmpty());
}

TEST_P(CatalogContract, KeepsExtentsByOffsetAndCountsLiveBytes) {
  ExtentRecord slice = extent(2, 100, 20, 1, 4096);
  slice.origin_offset = 50;
  slice.origin_length = 500;
  commit({PutInode{regular(2)}, PutInode{regular(3)}, PutStripe{stripe(1)}, PutStripe{stripe(2)}, PutExtent{slice},
          PutExtent{extent(2, 0, 100, 2)}, PutExtent{extent(3, 0, 7, 1)}});
  EXPECT_THAT(catalog_->extents({2}).value(), ElementsAre(extent(2, 0, 100, 2), slice));
  EXPECT_THAT(catalog_->extents_in({1}).value(), ElementsAre(slice, extent(3, 0, 7, 1)));
  EXPECT_EQ(catalog_->extents_at({2}, {99, 100, 101}).value(), std::vector{slice});
  EXPECT_TRUE(catalog_->extents_at({2}, {101}).value().empty());
  EXPECT_EQ(catalog_->stripe({1}).value()->live, 27U);
  EXPECT_EQ(catalog_->stripe({2}).value()->live, 100U);
  // One at the same offset takes its place, in whatever stripe it is.
  commit({PutExtent{extent(2, 0, 60, 1, 8192)}, DropExtent{{3}, 0}, DropExtent{{3}, 1}});
  EXPECT_EQ(catalog_->stripe({1}).value()->live, 80U);
  EXPECT_EQ(catalog_->stripe({2}).value()->live, 0U);
  const auto totals = catalog_->totals().value();
  EXPECT_EQ(totals.bytes, 80U);
  EXPECT_EQ(totals.stripes, 2U);
  EXPECT_EQ(totals.inodes, 3U);
}

TEST_P(CatalogContract, ChangesOfACommitComeInAnyOrder) {
  commit({PutName{{1}, "f", {2}}, PutXattr{{2}, "user.a", {}}, PutExtent{extent(2, 0, 10, 5)},
          PutPlacement{placement(5, 1)}, PutStripe{stripe(5)}, PutInode{regular(2)}});
  EXPECT_EQ(catalog_->stripe({5}).value()->live, 10U);
  EXPECT_EQ(catalog_->totals().value().bytes, 10U);
  commit({DropStripe{{5}}, DropExtent{{2}, 0}});
  EXPECT_EQ(catalog_->totals().value().bytes, 0U);
  EXPECT_THAT(catalog_->placements({5}).value(), IsEmpty());
  commit({DropInode{{2}}, DropName{{1}, "f"}});
  expect_clean();
}

TEST_P(CatalogContract, ALiveCountThatIsPutIsIgnored) {
  StripeRecord record = stripe(1);
  record.live = 999;
  commit({PutStripe{record}});
  EXPECT_EQ(catalog_->stripe({1}).value()->live, 0U);
  commit({PutStripe{record}});
  EXPECT_EQ(catalog_->totals().value().bytes, 0U);
}

TEST_P(CatalogContract, RefusesWhatLeadsNowhereAndChangesNothing) {
  commit({PutInode{regular(2)}, PutName{{1}, "f", {2}}, PutStripe{stripe(1)}, PutExtent{extent(2, 0, 10, 1)}});
  const Changes good{PutInode{regular(9)}, PutName{{1}, "g", {9}}, PutValue{"k", core::Bytes(1)}, DropName{{1}, "f"}};
  const std::vector<Change> bad{
      PutName{{1}, "h", {50}},                 // to no inode
      PutName{{50}, "h", {1}},                 // in no directory
      DropInode{{1}},                          // names are in it
      PutXattr{{50}, "user.a", {}},            // of no inode
      PutExtent{extent(50, 0, 1, 1)},          // of no inode
      PutExtent{extent(2, 10, 1, 50)},         // in no stripe
      DropStripe{{1}},                         // an extent is in it
      PutPlacement{placement(50, 0)},          // of no stripe
      PutPlacement{placement(1, 20)},          // no such shard
      PutName{{1}, "", {2}},                   // empty
      PutExtent{extent(2, 10, 0, 1)},          // empty
      PutExtent{extent(2, ~0ULL >> 1, 1, 1)},  // endless
      PutInode{regular(0)},
      PutInode{regular(~0ULL)},
      PutStripe{stripe(0)},
  };
  for (std::size_t index = 0; index < bad.size(); ++index) {
    SCOPED_TRACE(index);
    Changes changes = good;
    changes.push_back(bad[index]);
    refuse(changes);
    changes = {bad[index]};
    changes.insert(changes.end(), good.begin(), good.end());
    refuse(changes);
    EXPECT_EQ(catalog_->inode({9}).value(), std::nullopt);
    EXPECT_EQ(catalog_->value("k").value(), std::nullopt);
    EXPECT_TRUE(catalog_->lookup({1}, "f").value());
    EXPECT_EQ(catalog_->totals().value().inodes, 2U);
    EXPECT_EQ(catalog_->last_inode().value(), InodeNumber{2});
  }
  expect_clean();
  commit(good);
  EXPECT_TRUE(catalog_->lookup({1}, "g").value());
}

TEST_P(CatalogContract, RemembersTheLargestNumbersEverCommitted) {
  EXPECT_EQ(catalog_->last_stripe().value(), StripeNumber{0});
  commit({PutInode{regular(40)}, PutInode{regular(20)}, PutStripe{stripe(8)}, PutStripe{stripe(3)}});
  commit({DropInode{{40}}, DropStripe{{8}}});
  reopen();
  EXPECT_EQ(catalog_->last_inode().value(), InodeNumber{40});
  EXPECT_EQ(catalog_->last_stripe().value(), StripeNumber{8});
}

TEST_P(CatalogContract, FindsStripesByState) {
  commit({PutStripe{stripe(1, StripeState::open)}, PutStripe{stripe(2, StripeState::sealed)},
          PutStripe{stripe(3, StripeState::placed)}, PutStripe{stripe(4, StripeState::sealed)}});
  EXPECT_THAT(only_numbers(catalog_->stripes_in_state(StripeState::open, 9).value()), ElementsAre(1));
  EXPECT_THAT(only_numbers(catalog_->stripes_in_state(StripeState::sealed, 9).value()), ElementsAre(2, 4));
  EXPECT_THAT(only_numbers(catalog_->stripes_in_state(StripeState::sealed, 1).value()), ElementsAre(2));
  EXPECT_THAT(only_numbers(catalog_->stripes_in_state(StripeState::placed, 9).value()), ElementsAre(3));
  commit({PutStripe{stripe(2, StripeState::placed)}});
  EXPECT_THAT(only_numbers(catalog_->stripes_in_state(StripeState::sealed, 9).value()), ElementsAre(4));
}

TEST_P(CatalogContract, FindsDeadStripes) {
  commit({PutInode{regular(2)}, PutStripe{stripe(1, StripeState::open)}, PutStripe{stripe(2, StripeState::sealed)},
          PutStripe{stripe(3, StripeState::placed, 1 << 20, at(100))}, PutStripe{stripe(4)},
          PutStripe{stripe(5, StripeState::open, 1 << 20, at(50))}, PutExtent{extent(2, 0, 10, 3)},
          PutExtent{extent(2, 10, 10, 4)}, PutExtent{extent(2, 20, 10, 5)}});
  EXPECT_THAT(only_numbers(catalog_->dead_stripes({49}, 9).value()), ElementsAre(2));
  EXPECT_THAT(only_numbers(catalog_->dead_stripes({99}, 9).value()), UnorderedElementsAre(2, 5));
  EXPECT_THAT(only_numbers(catalog_->dead_stripes({100}, 9).value()), UnorderedElementsAre(2, 3, 5));
  EXPECT_EQ(catalog_->dead_stripes({100}, 2).value().size(), 2U);
  commit({DropInode{{2}}});
  EXPECT_THAT(only_numbers(catalog_->dead_stripes({0}, 9).value()), UnorderedElementsAre(2, 3, 4));
  // Dead for both reasons, and still only once.
  EXPECT_THAT(only_numbers(catalog_->dead_stripes({100}, 9).value()), UnorderedElementsAre(2, 3, 4, 5));
}

TEST_P(CatalogContract, FindsSparseStripes) {
  commit({PutInode{regular(2)}, PutStripe{stripe(1, StripeState::placed, 1000)},
          PutStripe{stripe(2, StripeState::placed, 1000, at(500))}, PutStripe{stripe(3, StripeState::sealed, 1000)},
          PutExtent{extent(2, 0, 300, 1)}, PutExtent{extent(2, 300, 301, 2)}, PutExtent{extent(2, 700, 1, 3)}});
  EXPECT_THAT(only_numbers(catalog_->sparse_stripes(300, {0}, 9).value()), ElementsAre(1));
  EXPECT_THAT(only_numbers(catalog_->sparse_stripes(301, {499}, 9).value()), ElementsAre(1, 2));
  EXPECT_THAT(only_numbers(catalog_->sparse_stripes(301, {500}, 9).value()), ElementsAre(1));
  EXPECT_THAT(only_numbers(catalog_->sparse_stripes(301, {499}, 1).value()), ElementsAre(1));
}

TEST_P(CatalogContract, KeepsPlacementsAndWhatIsOwed) {
  commit({PutStripe{stripe(1)}, PutStripe{stripe(2)}, PutPlacement{placement(1, 2, false)},
          PutPlacement{placement(1, 0)}, PutPlacement{placement(2, 1, false)}});
  EXPECT_THAT(catalog_->placements({1}).value(), ElementsAre(placement(1, 0), placement(1, 2, false)));
  EXPECT_THAT(catalog_->owed(9).value(), ElementsAre(placement(1, 2, false), placement(2, 1, false)));
  EXPECT_THAT(catalog_->owed(1).value(), ElementsAre(placement(1, 2, false)));
  commit({PutPlacement{placement(1, 2, true)}});
  EXPECT_THAT(catalog_->owed(9).value(), ElementsAre(placement(2, 1, false)));
  commit({DropStripe{{2}}, DropStripe{{2}}});
  EXPECT_THAT(catalog_->owed(9).value(), IsEmpty());
  reopen();
  EXPECT_THAT(catalog_->placements({1}).value(), ElementsAre(placement(1, 0), placement(1, 2, true)));
}

TEST_P(CatalogContract, KeepsRemovals) {
  const RemovalRecord first{id_of<core::ShardId>(1), id_of<core::NodeId>(2), 3, at(4)};
  const RemovalRecord second{id_of<core::ShardId>(1), id_of<core::NodeId>(3), 5, Deadline::never()};
  commit({PutRemoval{second}, PutRemoval{first}});
  EXPECT_THAT(catalog_->removals(9).value(), ElementsAre(first, second));
  EXPECT_THAT(catalog_->removals(1).value(), ElementsAre(first));
  commit({DropRemoval{first.shard, first.node}, DropRemoval{first.shard, first.node}});
  EXPECT_THAT(catalog_->removals(9).value(), ElementsAre(second));
}

TEST_P(CatalogContract, KnowsWhatDiesWhen) {
  EXPECT_TRUE(catalog_->next_deadline().value().is_never());
  commit({PutInode{regular(2, 5, at(300))}, PutInode{regular(3, 7, at(100))}, PutInode{regular(4, 1, at(200))},
          PutInode{regular(5, 1000)}});
  EXPECT_EQ(catalog_->next_deadline().value(), at(100));
  EXPECT_THAT(catalog_->expired({99}, 9).value(), IsEmpty());
  EXPECT_THAT(catalog_->expired({100}, 9).value(), ElementsAre(InodeNumber{3}));
  EXPECT_THAT(catalog_->expired({1000}, 9).value(), ElementsAre(InodeNumber{3}, InodeNumber{4}, InodeNumber{2}));
  EXPECT_THAT(catalog_->expired({1000}, 2).value(), ElementsAre(InodeNumber{3}, InodeNumber{4}));
  const auto dead = catalog_->expired_inodes({1000}, 2).value();
  ASSERT_EQ(dead.size(), 2U);
  EXPECT_EQ(dead[0].record.number, InodeNumber{3});
  EXPECT_EQ(dead[1].record.deadline, at(200));
  const auto expiring = catalog_->expiring({100}, {300}).value();
  EXPECT_EQ(expiring.files, 2U);
  EXPECT_EQ(expiring.bytes, 8U);
  EXPECT_EQ(catalog_->expiring({101}, {301}).value().bytes, 6U);
  commit({PutInode{regular(3, 7, at(400))}, DropInode{{4}}});
  EXPECT_EQ(catalog_->next_deadline().value(), at(300));
}

TEST_P(CatalogContract, ListsWhatDiesInPages) {
  commit({PutInode{regular(2, 5, at(300))}, PutInode{regular(3, 7, at(100))}, PutInode{regular(4, 1, at(100))},
          PutInode{regular(6, 7, at(100))}, PutInode{regular(5, 1000)}});
  const auto numbers = [](const std::vector<ExpiringRecord>& page) {
    std::vector<InodeNumber> list;
    for (const auto& record : page) list.push_back(record.inode);
    return list;
  };
  const auto start = ExpiringRecord::before({100});
  const auto first = catalog_->expiring_list(start, {301}, 2).value();
  ASSERT_THAT(numbers(first), ElementsAre(InodeNumber{4}, InodeNumber{3}));
  EXPECT_EQ(first[1].deadline, at(100));
  EXPECT_EQ(first[1].size, 7U);
  EXPECT_EQ(first[1].mode, regular(3).mode);
  EXPECT_THAT(numbers(catalog_->expiring_list(first[1], {301}, 9).value()),
              ElementsAre(InodeNumber{6}, InodeNumber{2}));
  EXPECT_THAT(numbers(catalog_->expiring_list(first[1], {300}, 9).value()), ElementsAre(InodeNumber{6}));
  EXPECT_THAT(numbers(catalog_->expiring_list(ExpiringRecord::before({101}), {301}, 9).value()),
              ElementsAre(InodeNumber{2}));
}

TEST_P(CatalogContract, FindsOrphans) {
  InodeRecord orphan = regular(3);
  orphan.links = 0;
  commit({PutInode{orphan}, PutInode{regular(2)}, PutName{{1}, "f", {2}}});
  EXPECT_THAT(catalog_->orphans(9).value(), ElementsAre(InodeNumber{3}));
  expect_clean();
  InodeRecord unlinked = regular(2);
  unlinked.links = 0;
  commit({DropName{{1}, "f"}, PutInode{unlinked}});
  EXPECT_THAT(catalog_->orphans(1).value(), ElementsAre(InodeNumber{2}));
  commit({DropInode{{2}}, DropInode{{3}}});
  EXPECT_THAT(catalog_->orphans(9).value(), IsEmpty());
}

TEST_P(CatalogContract, KeepsValues) {
  EXPECT_EQ(catalog_->value("k").value(), std::nullopt);
  commit({PutValue{"k", core::Bytes(2)}, PutValue{"empty", {}}});
  commit({PutValue{"k", core::Bytes(3)}});
  reopen();
  EXPECT_EQ(catalog_->value("k").value(), core::Bytes(3));
  EXPECT_EQ(catalog_->value("empty").value(), core::Bytes());
}

TEST_P(CatalogContract, SyncAndAnEmptyCommitSucceed) {
  commit({});
  const auto synced = catalog_->sync();
  EXPECT_TRUE(synced) << synced.error();
}

TEST_P(CatalogContract, CheckFindsNamesAndLinksThatDisagree) {
  InodeRecord twice = regular(2);
  twice.links = 2;
  commit({PutInode{twice}, PutName{{1}, "f", {2}}, PutInode{directory(3)}});
  const auto lines = catalog_->check().value();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_THAT(lines.at(0), ::testing::HasSubstr("inode 2"));
}

TEST_P(CatalogContract, ScrubbingChangesNoRecord) {
  commit({PutInode{regular(2)}, PutName{{1}, "f", {2}}, PutInode{regular(3)}});
  ASSERT_TRUE(catalog_->scrub());
  commit({DropInode{{3}}});
  ASSERT_TRUE(catalog_->scrub());
  ASSERT_TRUE(catalog_->scrub()) << "with nothing to do";
  EXPECT_EQ(catalog_->lookup({1}, "f").value(), regular(2));
  EXPECT_EQ(catalog_->inode({3}).value(), std::nullopt);
  reopen();
  EXPECT_EQ(catalog_->lookup({1}, "f").value(), regular(2));
  expect_clean();
}

TEST_P(CatalogFilesContract, WhatWasDroppedIsInNoFileAfterScrubbing) {
  const auto files = place_->directory();
  ASSERT_TRUE(files);
  // Rows of many lengths that come, grow, shrink, move and go in no order, so that pages split and join.
  MarkedKeys keys;
  EPHFS_TRACE_SEED(keys.random);
  for (int round = 0; round < 12; ++round) {
    for (int step = 0; step < 400; ++step) ASSERT_NO_FATAL_FAILURE(commit(keys.next_changes()));
    const auto done = catalog_->scrub();
    ASSERT_TRUE(done) << done.error();
    const auto found = keys.find_in(*files);
    ASSERT_THAT(found.dead, IsEmpty()) << "round " << round;
    ASSERT_EQ(found.living.size(), keys.living()) << "a control: what lives is found";
  }
  reopen();
  EXPECT_THAT(keys.find_in(*files).dead, IsEmpty());
  commit(keys.drop_all());
  catalog_.reset();
  EXPECT_THAT(keys.find_in(*files).dead, IsEmpty()) << "after closing";
}

TEST_P(CatalogContract, RemembersTheDeadUntilToldToForget) {
  DeadFileRecord file{{7},
                      id_of<core::FileId>(7),
                      DeathCause::removed,
                      {500},
                      at(900),
                      30,
                      true,
                      {extent(7, 0, 10, 3), extent(7, 10, 20, 4, 96)}};
  DeadFileRecord other{{8}, id_of<core::FileId>(8), DeathCause::expired, {600}, Deadline(), 1, false, {}};
  DeadStripeRecord stripe{
      {3}, id_of<core::StripeId>(3), core::BlockFormat::xchacha20_poly1305_4k, {2, 1}, 4096, at(900), {700}};
  DeadShardRecord shard{
      {3}, 1, id_of<core::ShardId>(5), id_of<core::NodeId>(9), 2048, at(900), core::Bytes(4), {}, core::Instant{900}};
  DeadShardRecord later = shard;
  later.index = 2;
  later.ask_at = core::Instant{950};
  commit({PutDeadFile{file}, PutDeadFile{other}, PutDeadStripe{stripe}, PutDeadShard{shard}, PutDeadShard{later}});
  reopen();
  EXPECT_EQ(catalog_->dead_file(file.file).value(), file);
  EXPECT_EQ(catalog_->dead_file(other.file).value(), other);
  EXPECT_EQ(catalog_->dead_file(id_of<core::FileId>(9)).value(), std::nullopt);
  EXPECT_EQ(catalog_->dead_stripe({3}).value(), stripe);
  EXPECT_THAT(catalog_->dead_shards({3}).value(), ElementsAre(shard, later));
  EXPECT_THAT(catalog_->unproven(shard.node, {899}, 9).value(), IsEmpty());
  EXPECT_THAT(catalog_->unproven(shard.node, {900}, 9).value(), ElementsAre(shard));
  EXPECT_THAT(catalog_->unproven(shard.node, {950}, 1).value(), ElementsAre(shard));
  EXPECT_THAT(catalog_->unproven(id_of<core::NodeId>(1), {950}, 9).value(), IsEmpty());
  EXPECT_EQ(catalog_->next_unproven(shard.node).value(), core::Instant{900});
  EXPECT_EQ(catalog_->next_unproven(id_of<core::NodeId>(1)).value(), std::nullopt);
  shard.deletion = core::Bytes(5);
  shard.ask_at.reset();
  commit({PutDeadShard{shard}});
  EXPECT_THAT(catalog_->unproven(shard.node, {2000}, 9).value(), ElementsAre(later));
  EXPECT_THAT(catalog_->dead_shards({3}).value(), ElementsAre(shard, later));

  EXPECT_THAT(catalog_->dead_before({500}, 9)->files, IsEmpty());
  EXPECT_THAT(catalog_->dead_before({501}, 9)->files, ElementsAre(InodeNumber{7}));
  EXPECT_THAT(catalog_->dead_before({1000}, 1)->stripes, ElementsAre(StripeNumber{3}));
  commit({DropDeadFile{{7}}, DropDeadStripe{{3}}});
  EXPECT_EQ(catalog_->dead_file(file.file).value(), std::nullopt);
  EXPECT_EQ(catalog_->dead_stripe({3}).value(), std::nullopt);
  EXPECT_THAT(catalog_->dead_shards({3}).value(), IsEmpty());
  file.number = {0};
  refuse({PutDeadFile{file}});
  shard.index = 20;
  refuse({PutDeadShard{shard}});
  expect_clean();
}

TEST_P(CatalogContract, KeepsTheLastAuditOfAPlacement) {
  AuditRecord audit{{1}, 0, id_of<core::ShardId>(5), id_of<core::NodeId>(9), {70}, true, core::Bytes(3)};
  refuse({PutAudit{audit}});
  commit({PutStripe{stripe(1)}, PutStripe{stripe(2)}, PutPlacement{placement(1, 0)}, PutAudit{audit}});
  audit.at = {80};
  audit.passed = false;
  audit.receipt.clear();
  commit({PutAudit{audit}});
  reopen();
  EXPECT_THAT(catalog_->audits({1}).value(), ElementsAre(audit));
  EXPECT_THAT(catalog_->audits({2}).value(), IsEmpty());
  EXPECT_THAT(only_numbers(catalog_->stripes_after({0}, 9).value()), ElementsAre(1, 2));
  EXPECT_THAT(only_numbers(catalog_->stripes_after({1}, 9).value()), ElementsAre(2));
  EXPECT_THAT(only_numbers(catalog_->stripes_after({0}, 1).value()), ElementsAre(1));
  commit({DropStripe{{1}}});
  EXPECT_THAT(catalog_->audits({1}).value(), IsEmpty());
}

}  // namespace ephfs::meta::testing
