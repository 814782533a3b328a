// SPDX-License-Identifier: Apache-2.0
// Random commits to a SqliteCatalog, bare and behind a journal, and to the model, good ones and ones to be
// refused; both say the same of everything.
#include <algorithm>
#include <atomic>
#include <functional>

#include "meta/journaled_catalog.hpp"
#include "meta/sqlite_catalog.hpp"
#include "tests/fs/faulty_catalog.hpp"
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
  /// `all`: of every kind, else only those that a journal holds.
  explicit ChangeMaker(Random& random, bool all = true) : random_(random), all_(all) {}

  Change next() {
    switch (all_ ? random_.below(21) : random_.below(13)) {
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
      case 16:
        if (random_.chance(4)) return DropDeadFile{number()};
        return PutDeadFile{dead_file()};
      case 17:
        if (random_.chance(4)) return DropDeadStripe{stripe_number()};
        return PutDeadStripe{dead_stripe()};
      case 18:
        return PutDeadShard{dead_shard()};
      case 19:
        return PutAudit{{stripe_number(), static_cast<std::uint8_t>(random_.below(4)), shard(), node(), instant(),
                         random_.chance(2), random_.bytes(random_.below(9))}};
      default:
        return PutValue{name(), random_.bytes(random_.below(9))};
    }
  }

 private:
  InodeNumber number() { return {random_.between(random_.chance(200) ? 0 : 1, kInodes)}; }
  StripeNumber stripe_number() { return {static_cast<std::int64_t>(random_.between(1, kStripes))}; }
  std::string name() { return random_.chance(300) ? std::string() : std::string(1 + random_.below(2), 'a') + "\xfe"; }
  Deadline deadline() { return random_.chance(3) ? Deadline() : at(static_cast<std::int64_t>(random_.below(1000))); }
  core::Instant instant() { return {static_cast<std::int64_t>(random_.below(1000))}; }
  DeadFileRecord dead_file() {
    DeadFileRecord dead;
    dead.number = number();
    dead.file = id_of<core::FileId>(static_cast<unsigned>(dead.number.value));
    dead.cause = random_.chance(2) ? DeathCause::expired : DeathCause::removed;
    dead.died = instant();
    dead.deadline = deadline();
    dead.size = random_.below(5000);
    dead.complete = random_.chance(2);
    for (std::uint64_t count = random_.below(3); count > 0; --count) {
      dead.extents.push_back(extent());
      dead.extents.back().inode = dead.number;
    }
    return dead;
  }
  DeadStripeRecord dead_stripe() {
    DeadStripeRecord dead;
    dead.number = stripe_number();
    dead.id = id_of<core::StripeId>(static_cast<unsigned>(dead.number.value));
    dead.profile = profile();
    dead.length = random_.below(3000);
    dead.deadline = deadline();
    dead.died = instant();
    return dead;
  }
  DeadShardRecord dead_shard() {
    DeadShardRecord dead;
    dead.stripe = stripe_number();
    dead.index = static_cast<std::uint8_t>(random_.below(4));
    dead.shard = shard();
    dead.node = node();
    dead.shard_bytes = random_.below(500);
    dead.lease_deadline = deadline();
    dead.receipt = random_.bytes(random_.below(9));
    dead.deletion = random_.bytes(random_.below(9));
    // Never two at the same time: those come in any order.
    if (random_.chance(2)) dead.ask_at = core::Instant{ask_at_ += static_cast<std::int64_t>(random_.between(1, 3))};
    return dead;
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
    return testing::placement(stripe_number().value, static_cast<std::uint8_t>(random_.below(4)), random_.chance(2));
  }

  Random& random_;
  bool all_;
  std::int64_t ask_at_ = 0;
};

template <class Records>
auto sorted_by_number(Records records) {
  std::ranges::sort(records, {}, [](const auto& record) { return record.number; });
  return records;
}

/// What the journaled catalog answers from its overlays as well.
void expect_same_at_once(const Catalog& a, const Catalog& b, core::Instant now) {
  std::vector<InodeNumber> numbers;
  for (std::uint64_t number = 1; number <= kInodes; ++number) numbers.push_back({number});
  EXPECT_EQ(sorted_by_number(a.inodes(numbers).value()), sorted_by_number(b.inodes(numbers).value()));
  for (std::uint64_t number = 1; number <= kInodes; ++number) {
    EXPECT_EQ(a.inode({number}).value(), b.inode({number}).value());
    const auto names = a.names({number}, "", kAll).value();
    EXPECT_EQ(names, b.names({number}, "", kAll).value());
    EXPECT_EQ(a.names({number}, "a\xfe", 1).value(), b.names({number}, "a\xfe", 1).value());
    for (const auto& name : names) {
      EXPECT_EQ(a.lookup({number}, name.name).value(), b.lookup({number}, name.name).value());
    }
    EXPECT_EQ(a.parent_of({number}).value().has_value(), b.parent_of({number}).value().has_value());
    EXPECT_EQ(a.names_of({number}).value(), b.names_of({number}).value());
    const auto xattrs = a.xattr_names({number}).value();
    EXPECT_EQ(xattrs, b.xattr_names({number}).value());
    for (const auto& name : xattrs) EXPECT_EQ(a.xattr({number}, name).value(), b.xattr({number}, name).value());
    EXPECT_EQ(a.extents({number}).value(), b.extents({number}).value());
    const auto ties_of_a = a.ties({number}).value();
    const auto ties_of_b = b.ties({number}).value();
    EXPECT_EQ(ties_of_a.is_there, ties_of_b.is_there);
    EXPECT_EQ(ties_of_a.has_names, ties_of_b.has_names);
    EXPECT_EQ(ties_of_a.names, ties_of_b.names);
    EXPECT_EQ(ties_of_a.extents, ties_of_b.extents);
    EXPECT_EQ(a.extents_at({number}, {0, 300, 400}).value(), b.extents_at({number}, {0, 300, 400}).value());
  }
  for (std::int64_t number = 1; number <= kStripes; ++number) {
    EXPECT_EQ(a.stripe({number}).value(), b.stripe({number}).value());
  }
  EXPECT_EQ(sorted_by_number(a.dead_stripes(now, kAll).value()), sorted_by_number(b.dead_stripes(now, kAll).value()));
  EXPECT_EQ(a.dead_stripes(now, 2).value().size(), b.dead_stripes(now, 2).value().size());
  // Those of one deadline come in any order.
  EXPECT_THAT(a.expired(now, kAll).value(), ::testing::UnorderedElementsAreArray(b.expired(now, kAll).value()));
  auto dead_of_a = a.expired_inodes(now, kAll).value();
  auto dead_of_b = b.expired_inodes(now, kAll).value();
  const auto number_of = [](const ExpiredInode& dead) { return dead.record.number; };
  std::ranges::sort(dead_of_a, {}, number_of);
  std::ranges::sort(dead_of_b, {}, number_of);
  EXPECT_TRUE(dead_of_a == dead_of_b);
  EXPECT_EQ(a.next_deadline().value(), b.next_deadline().value());
  const auto from_start = ExpiringRecord::before({100});
  EXPECT_EQ(a.expiring_list(from_start, now, 50).value(), b.expiring_list(from_start, now, 50).value());
  EXPECT_EQ(a.expiring_list(from_start, now, 3).value(), b.expiring_list(from_start, now, 3).value());
  const auto totals_a = a.totals().value();
  const auto totals_b = b.totals().value();
  EXPECT_EQ(totals_a.inodes, totals_b.inodes);
  EXPECT_EQ(totals_a.bytes, totals_b.bytes);
  EXPECT_EQ(totals_a.stripes, totals_b.stripes);
  EXPECT_EQ(a.last_inode().value(), b.last_inode().value());
  EXPECT_EQ(a.last_stripe().value(), b.last_stripe().value());
}

void expect_same_lists(const Catalog& a, const Catalog& b, core::Instant now) {
  for (const auto state : {StripeState::open, StripeState::sealed, StripeState::placed}) {
    EXPECT_EQ(a.stripes_in_state(state, kAll).value(), b.stripes_in_state(state, kAll).value());
  }
  EXPECT_EQ(a.sparse_stripes(100, now, kAll).value(), b.sparse_stripes(100, now, kAll).value());
  EXPECT_EQ(a.owed(kAll).value(), b.owed(kAll).value());
  EXPECT_EQ(a.removals(kAll).value(), b.removals(kAll).value());
  EXPECT_EQ(a.orphans(kAll).value(), b.orphans(kAll).value());
  const auto expiring_a = a.expiring({100}, now).value();
  const auto expiring_b = b.expiring({100}, now).value();
  EXPECT_EQ(std::pair(expiring_a.files, expiring_a.bytes), std::pair(expiring_b.files, expiring_b.bytes));
}

void expect_same(const Catalog& a, const Catalog& b, core::Instant now) {
  expect_same_at_once(a, b, now);
  for (std::int64_t number = 1; number <= kStripes; ++number) {
    EXPECT_EQ(a.extents_in({number}).value(), b.extents_in({number}).value());
    EXPECT_EQ(a.placements({number}).value(), b.placements({number}).value());
  }
  EXPECT_EQ(a.stripes_after({3}, 4).value(), b.stripes_after({3}, 4).value());
  for (std::int64_t number = 1; number <= kStripes; ++number) {
    EXPECT_EQ(a.audits({number}).value(), b.audits({number}).value());
    EXPECT_EQ(a.dead_stripe({number}).value(), b.dead_stripe({number}).value());
    EXPECT_EQ(a.dead_shards({number}).value(), b.dead_shards({number}).value());
  }
  for (unsigned fill = 0; fill <= kInodes; ++fill) {
    EXPECT_EQ(a.dead_file(id_of<core::FileId>(fill)).value(), b.dead_file(id_of<core::FileId>(fill)).value());
  }
  for (unsigned fill = 0; fill < 3; ++fill) {
    const auto node = id_of<core::NodeId>(fill);
    EXPECT_EQ(a.unproven(node, now, 20).value(), b.unproven(node, now, 20).value());
    EXPECT_EQ(a.next_unproven(node).value(), b.next_unproven(node).value());
  }
  EXPECT_THAT(a.dead_before(now, kAll)->files, ::testing::UnorderedElementsAreArray(b.dead_before(now, kAll)->files));
  EXPECT_THAT(a.dead_before(now, kAll)->stripes,
              ::testing::UnorderedElementsAreArray(b.dead_before(now, kAll)->stripes));
  for (const char* key : {"a\xfe", "aa\xfe"}) EXPECT_EQ(a.value(key).value(), b.value(key).value());
  expect_same_lists(a, b, now);
}

void compare_with_model(const std::function<std::unique_ptr<Catalog>()>& open) {
  Random random;
  EPHFS_TRACE_SEED(random);
  auto catalog = open();
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
      catalog = open();
      expect_same(*catalog, model, {500});
    }
  }
  EXPECT_GT(done, 500U);
  EXPECT_GT(refused, 500U);
}

TEST(CatalogModel, RandomCommitsLeaveWhatTheModelSays) {
  const ephfs::testing::TempDir dir;
  compare_with_model([&] { return open_sqlite_catalog(dir / "catalog").value(); });
}

TEST(CatalogModel, RandomCommitsThroughAJournalLeaveWhatTheModelSays) {
  const ephfs::testing::TempDir dir;
  compare_with_model(
      [&] { return open_journaled_catalog(open_sqlite_catalog(dir / "catalog").value(), dir / "journal").value(); });
}

/// Now and then the catalog below cannot take what has gathered, so that two overlays are in front of it.
TEST(CatalogModel, RandomCommitsThroughOverlaysLeaveWhatTheModelSays) {
  Random random;
  EPHFS_TRACE_SEED(random);
  const ephfs::testing::TempDir dir;
  std::atomic<bool> fails = false;  // asked by the journal's thread
  const auto open = [&] {
    auto below = std::make_unique<fs::testing::FaultyCatalog>(open_sqlite_catalog(dir / "catalog").value(),
                                                              [&] { return fails.load(); });
    return open_journaled_catalog(std::move(below), dir / "journal").value();
  };
  auto catalog = open();
  ModelCatalog model;
  ChangeMaker maker(random, false);
  std::size_t done = 0;
  for (int step = 1; step <= 3000 && !::testing::Test::HasFailure(); ++step) {
    SCOPED_TRACE(step);
    Changes changes;
    for (std::uint64_t count = random.between(1, 6); count > 0; --count) changes.push_back(maker.next());
    const auto by_model = model.commit(changes);
    const auto by_catalog = catalog->commit(changes);
    ASSERT_EQ(by_model.has_value(), by_catalog.has_value());
    if (by_model) ++done;
    const core::Instant now{static_cast<std::int64_t>(random.below(1000))};
    if (step % 30 == 0) expect_same_at_once(*catalog, model, now);
    if (step % 60 == 0) {
      fails = true;
      (void)catalog->check();  // tries to give on what has gathered
    } else if (step % 60 == 45) {
      fails = false;
      expect_same(*catalog, model, now);
    }
    if (step % 500 == 0) {
      // What it could not give on stays in the journal.
      catalog.reset();
      fails = false;
      catalog = open();
      expect_same(*catalog, model, now);
    }
  }
  EXPECT_GT(done, 500U);
}

}  // namespace
}  // namespace ephfs::meta::testing
