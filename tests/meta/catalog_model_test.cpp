// SPDX-License-Identifier: Apache-2.0
// Random commits to a SqliteCatalog and to the model, good ones and ones to be refused; both say the same of
// everything.
#include <algorithm>

#include "meta/sqlite_catalog.hpp"
#include "tests/meta/model_catalog.hpp"
#include "tests/meta/records.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::meta::testing {
namespace {

using ephfs::testing::Random;

constexpr std::uint64_t kInodes = 40;
constexpr std::int64_t kStripes = 12;
constexpr std::size_t kAll = 10'000;

class ChangeMaker {
 public:
  explicit ChangeMaker(Random& random) : random_(random) {}

  Change next() {
    switch (random_.below(17)) {
      case 0:
      case 1:
      case 2:
        return PutInode{inode()};
      case 3:
        return DropInode{number()};
      case 4:
      case 5:
        return PutName{number(), name(), number()};
      case 6:
        return DropName{number(), name()};
      case 7:
        return PutXattr{number(), "user." + name(), random_.bytes(random_.below(20))};
      case 8:
        return DropXattr{number(), "user." + name()};
      case 9:
      case 10:
        return PutExtent{extent()};
      case 11:
        return DropExtent{number(), random_.below(8) * 100};
      case 12:
        return PutStripe{stripe()};
      case 13:
        return DropStripe{stripe_number()};
      case 14:
        return PutPlacement{placement()};
      case 15:
        if (random_.chance(2)) return DropRemoval{shard(), node()};
        return PutRemoval{{shard(), node(), random_.below(9), deadline()}};
      default:
        return PutValue{name(), random_.bytes(random_.below(9))};
    }
  }

 private:
  InodeNumber number() { return {random_.between(random_.chance(200) ? 0 : 1, kInodes)}; }
  StripeNumber stripe_number() { return {static_cast<std::int64_t>(random_.between(1, kStripes))}; }
  std::string name() {
    return random_.chance(300) ? std::string() : std::string(1 + random_.below(2), 'a') + "\xfe";
  }
  Deadline deadline() {
    return random_.chance(3) ? Deadline() : at(static_cast<std::int64_t>(random_.below(1000)));
  }
  core::ShardId shard() { return id_of<core::ShardId>(static_cast<unsigned>(random_.below(6))); }
  core::NodeId node() { return id_of<core::NodeId>(static_cast<unsigned>(random_.below(3))); }
  core::Profile profile() {
    return {static_cast<std::uint8_t>(random_.between(random_.chance(100) ? 0 : 1, 16)),
            static_cast<std::uint8_t>(random_.below(5))};
  }

  InodeRecord inode() {
    InodeRecord record = random_.chance(3) ? directory(1) : regular(1, random_.below(5000), deadline());
    record.number = number();
    record.links = static_cast<std::uint32_t>(random_.below(3));
    record.accessed = {static_cast<std::int64_t>(random_())};
    record.rdev = random_();
    record.wrapped_key = random_.bytes(random_.below(60));
    record.default_deadline = deadline();
    record.ttl = core::Milliseconds(random_.below(99));
    record.ttl_mode = static_cast<TtlMode>(random_.below(3));
    if (random_.chance(2)) record.profile = profile();
    return record;
  }
  ExtentRecord extent() {
    ExtentRecord record = testing::extent(number().value, random_.below(8) * 100, 0, stripe_number().value);
    record.length = random_.chance(100) ? 0 : random_.between(1, 100);
    record.origin_length = record.length;
    record.stripe_offset = random_.below(1000);
    return record;
  }
  StripeRecord stripe() {
    StripeRecord record = testing::stripe(stripe_number().value, static_cast<StripeState>(random_.below(3)),
                                          random_.below(3000), deadline());
    record.profile = profile();
    record.live = random_();
    return record;
  }
  PlacementRecord placement() {
    return testing::placement(stripe_number().value, static_cast<std::uint8_t>(random_.below(4)),
                              random_.chance(2));
  }

  Random& random_;
};

template <class Records>
auto sorted_by_number(Records records) {
  std::ranges::sort(records, {}, [](const StripeRecord& record) { return record.number; });
  return records;
}

void expect_same_lists(const Catalog& a, const Catalog& b, core::Instant now) {
  for (const auto state : {StripeState::open, StripeState::sealed, StripeState::placed}) {
    EXPECT_EQ(a.stripes_in_state(state, kAll).value(), b.stripes_in_state(state, kAll).value());
  }
  EXPECT_EQ(sorted_by_number(a.dead_stripes(now, kAll).value()),
            sorted_by_number(b.dead_stripes(now, kAll).value()));
  EXPECT_EQ(a.sparse_stripes(100, now, kAll).value(), b.sparse_stripes(100, now, kAll).value());
  EXPECT_EQ(a.owed(kAll).value(), b.owed(kAll).value());
  EXPECT_EQ(a.removals(kAll).value(), b.removals(kAll).value());
  // Those of one deadline come in any order.
  EXPECT_THAT(a.expired(now, kAll).value(),
              ::testing::UnorderedElementsAreArray(b.expired(now, kAll).value()));
  EXPECT_EQ(a.next_deadline().value(), b.next_deadline().value());
  EXPECT_EQ(a.orphans(kAll).value(), b.orphans(kAll).value());
  const auto expiring_a = a.expiring({100}, now).value();
  const auto expiring_b = b.expiring({100}, now).value();
  EXPECT_EQ(std::pair(expiring_a.files, expiring_a.bytes), std::pair(expiring_b.files, expiring_b.bytes));
  const auto totals_a = a.totals().value();
  const auto totals_b = b.totals().value();
  EXPECT_EQ(totals_a.inodes, totals_b.inodes);
  EXPECT_EQ(totals_a.bytes, totals_b.bytes);
  EXPECT_EQ(totals_a.stripes, totals_b.stripes);
  EXPECT_EQ(a.last_inode().value(), b.last_inode().value());
  EXPECT_EQ(a.last_stripe().value(), b.last_stripe().value());
}

void expect_same(const Catalog& a, const Catalog& b, core::Instant now) {
  for (std::uint64_t number = 1; number <= kInodes; ++number) {
    EXPECT_EQ(a.inode({number}).value(), b.inode({number}).value());
    const auto names = a.names({number}, "", kAll).value();
    EXPECT_EQ(names, b.names({number}, "", kAll).value());
    for (const auto& name : names) {
      EXPECT_EQ(a.lookup({number}, name.name).value(), b.lookup({number}, name.name).value());
    }
    EXPECT_EQ(a.parent_of({number}).value().has_value(), b.parent_of({number}).value().has_value());
    EXPECT_EQ(a.names_of({number}).value(), b.names_of({number}).value());
    const auto xattrs = a.xattr_names({number}).value();
    EXPECT_EQ(xattrs, b.xattr_names({number}).value());
    for (const auto& name : xattrs)
      EXPECT_EQ(a.xattr({number}, name).value(), b.xattr({number}, name).value());
    EXPECT_EQ(a.extents({number}).value(), b.extents({number}).value());
  }
  for (std::int64_t number = 1; number <= kStripes; ++number) {
    EXPECT_EQ(a.stripe({number}).value(), b.stripe({number}).value());
    EXPECT_EQ(a.extents_in({number}).value(), b.extents_in({number}).value());
    EXPECT_EQ(a.placements({number}).value(), b.placements({number}).value());
  }
  for (const char* key : {"a\xfe", "aa\xfe"}) EXPECT_EQ(a.value(key).value(), b.value(key).value());
  expect_same_lists(a, b, now);
}

TEST(CatalogModel, RandomCommitsLeaveWhatTheModelSays) {
  Random random;
  EPHFS_TRACE_SEED(random);
  ephfs::testing::TempDir dir;
  auto catalog = open_sqlite_catalog(dir / "catalog").value();
  ModelCatalog model;
  ChangeMaker maker(random);
  std::size_t done = 0;
  std::size_t refused = 0;
  for (int step = 1; step <= 3000 && !::testing::Test::HasFailure(); ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    Changes changes;
    for (std::uint64_t count = random.between(1, 4); count > 0; --count) changes.push_back(maker.next());
    const auto here = catalog->commit(changes);
    const auto there = model.commit(changes);
    ASSERT_EQ(here.has_value(), there.has_value()) << (here ? there : here).error();
    if (!here) {
      EXPECT_EQ(here.error().code, there.error().code) << here.error();
    }
    ++(here ? done : refused);
    if (step % 100 == 0) expect_same(*catalog, model, {static_cast<std::int64_t>(random.below(1000))});
    if (step % 1000 == 0) {
      catalog.reset();
      catalog = open_sqlite_catalog(dir / "catalog").value();
      expect_same(*catalog, model, {500});
    }
  }
  EXPECT_GT(done, 500U);
  EXPECT_GT(refused, 500U);
}

}  // namespace
}  // namespace ephfs::meta::testing
