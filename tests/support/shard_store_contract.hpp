// SPDX-License-Identifier: Apache-2.0
// What every ShardStore must do, whoever implements it. Include it in one file of a test program and instantiate with
// INSTANTIATE_TEST_SUITE_P(Name, ShardStoreContract, ::testing::Values(maker...)).
#pragma once

#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "tests/support/sample_shard.hpp"

namespace ephfs::testing {

/// A store under test, and what happens to it from outside.
class ShardStoreSubject {
 public:
  virtual ~ShardStoreSubject() = default;
  [[nodiscard]] virtual node::ShardStore& store() = 0;
  /// Closes the store and opens it again, at `now`.
  virtual void restart(core::Instant now) = 0;
  /// Changes a byte of a held shard behind the store's back.
  virtual void damage(const core::ShardId& shard, std::uint64_t offset) = 0;
};
struct ShardStoreMaker {
  const char* name;
  std::unique_ptr<ShardStoreSubject> (*make)(std::uint64_t capacity);
};
inline void PrintTo(const ShardStoreMaker& maker, std::ostream* out) {
  *out << maker.name;
}

class ShardStoreContract : public ::testing::TestWithParam<ShardStoreMaker> {
 protected:
  static constexpr core::Instant kStart{1'800'000'000'000};

  void reset(std::uint64_t capacity) { subject_ = GetParam().make(capacity); }
  node::ShardStore& store() { return subject_->store(); }
  node::HeldLease lease(const SampleShard& shard, std::int64_t ms_left, std::uint64_t serial = 1) {
    return make_held(make_lease(shard, node_, owner_, kStart + core::Milliseconds{ms_left}, serial), owner_);
  }
  core::Result<> put(const SampleShard& shard, std::int64_t ms_left = 1000) {
    return store().put(lease(shard, ms_left), shard.source);
  }
  void expect_whole(const SampleShard& shard) {
    const auto got = store().get({.shard = shard.id, .offset = 0, .length = shard.bytes(), .with_proof = false});
    ASSERT_TRUE(got) << got.error();
    EXPECT_TRUE(std::ranges::equal(got->bytes.view(), shard.source.bytes.view()));
  }

  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, describe_seed(random_.seed())};
  core::Signer owner_ = make_signer(random_);
  core::NodeId node_ = core::node_id_of(owner_.public_key());
  std::unique_ptr<ShardStoreSubject> subject_ = GetParam().make(kSampleCapacity);
};

TEST_P(ShardStoreContract, HoldsWhatWasPut) {
  for (const std::size_t bytes : {std::size_t{1}, core::kLeafBytes, core::kLeafBytes + 1, std::size_t{300'000}}) {
    const SampleShard shard = make_shard(random_, bytes);
    ASSERT_TRUE(put(shard));
    expect_whole(shard);
    const auto found = store().find(shard.id);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->envelope, lease(shard, 1000).envelope);
    EXPECT_EQ(found->lease.bytes, bytes);
    EXPECT_EQ(found->lease.owner, owner_id_of(owner_));
    const auto tree = store().tree(shard.id);
    ASSERT_TRUE(tree);
    EXPECT_EQ(tree->root(), shard.id);
    EXPECT_EQ(tree->leaves(), shard.tree().leaves());
  }
  EXPECT_EQ(store().usage().shards, 4U);
  EXPECT_EQ(store().usage().used, 1 + 2 * core::kLeafBytes + 1 + 300'000);
  EXPECT_EQ(store().usage().capacity, kSampleCapacity);
}

TEST_P(ShardStoreContract, RefusesASecondPut) {
  const SampleShard shard = make_shard(random_, 5000);
  ASSERT_TRUE(put(shard, 1000));
  const auto again = put(shard, 2000);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, core::Error::exists);
  EXPECT_EQ(store().next_deadline(), core::Deadline(kStart + core::Milliseconds{1000}));
  EXPECT_EQ(store().usage().used, 5000U);
}

TEST_P(ShardStoreContract, ChecksWhatComesWithoutATree) {
  for (const std::size_t bytes : {std::size_t{1}, core::kLeafBytes, 32 * core::kLeafBytes, std::size_t{300'001}}) {
    const SampleShard shard = make_shard(random_, bytes);
    net::ShardSource bare;
    bare.bytes = shard.source.bytes;
    ASSERT_TRUE(store().put(lease(shard, 1000), bare));
    const auto got = store().get({.shard = shard.id, .offset = 0, .length = bytes, .with_proof = true});
    ASSERT_TRUE(got) << got.error();
    EXPECT_TRUE(std::ranges::equal(got->bytes.view(), shard.source.bytes.view()));

    const SampleShard wanted = make_shard(random_, bytes);
    const auto wrong = store().put(lease(wanted, 1000), bare);
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().code, core::Error::damaged);
    EXPECT_FALSE(store().find(wanted.id));
    EXPECT_EQ(store().get({.shard = wanted.id, .offset = 0, .length = 1, .with_proof = false}).error().code,
              core::Error::not_found);
    EXPECT_TRUE(put(wanted)) << "nothing of it is in the way";
    ASSERT_TRUE(store().remove(shard.id, node::RemovalSync::synced));
    ASSERT_TRUE(store().remove(wanted.id, node::RemovalSync::synced));
    EXPECT_EQ(store().usage().used, 0U);
  }
}

TEST_P(ShardStoreContract, ServesAtOnceWhatIsInMemoryAndNothingThatIsGone) {
  const SampleShard shard = make_shard(random_, 50'000);
  ASSERT_TRUE(put(shard));
  const net::FetchRequest request{.shard = shard.id, .offset = 5000, .length = 20'000, .with_proof = true};
  const auto whole = store().get(request);
  ASSERT_TRUE(whole) << whole.error();
  const auto at_once = store().try_get(request);
  if (at_once) {
    EXPECT_TRUE(std::ranges::equal(at_once->bytes.view(), whole->bytes.view()));
    EXPECT_EQ(at_once->proof, whole->proof);
  } else {
    EXPECT_EQ(at_once.error().code, core::Error::would_block);
  }
  ASSERT_TRUE(store().remove(shard.id, node::RemovalSync::synced));
  EXPECT_EQ(store().try_get(request).error().code, core::Error::not_found);
}

TEST_P(ShardStoreContract, ServesRangesWithProofs) {
  const std::size_t bytes = 10 * core::kLeafBytes + 77;
  const SampleShard shard = make_shard(random_, bytes);
  ASSERT_TRUE(put(shard));
  for (int i = 0; i < 50; ++i) {
    const std::uint64_t offset = random_.below(bytes);
    const std::uint64_t length = random_.between(1, bytes - offset);
    const auto plain = store().get({.shard = shard.id, .offset = offset, .length = length, .with_proof = false});
    ASSERT_TRUE(plain) << plain.error();
    EXPECT_EQ(plain->offset, offset);
    EXPECT_TRUE(plain->proof.empty());
    EXPECT_TRUE(std::ranges::equal(plain->bytes.view(), shard.source.bytes.view().subspan(offset, length)));

    const auto proven = store().get({.shard = shard.id, .offset = offset, .length = length, .with_proof = true});
    ASSERT_TRUE(proven) << proven.error();
    EXPECT_EQ(proven->offset % core::kLeafBytes, 0U);
    EXPECT_LE(proven->offset, offset);
    EXPECT_GE(proven->offset + proven->bytes.size(), offset + length);
    EXPECT_EQ(proven->shard_bytes, bytes);
    EXPECT_TRUE(
        core::verify_range(shard.id, bytes, proven->offset / core::kLeafBytes, proven->bytes.view(), proven->proof));
  }
}

TEST_P(ShardStoreContract, RefusesRangesOutside) {
  const SampleShard shard = make_shard(random_, 5000);
  ASSERT_TRUE(put(shard));
  constexpr auto kHuge = std::numeric_limits<std::uint64_t>::max();
  const std::pair<std::uint64_t, std::uint64_t> ranges[] = {{0, 0},    {0, 5001},  {5000, 1},
                                                            {1, 5000}, {1, kHuge}, {kHuge, 1}};
  for (const auto& [offset, length] : ranges) {
    const auto got = store().get({.shard = shard.id, .offset = offset, .length = length, .with_proof = false});
    ASSERT_FALSE(got) << offset << "+" << length;
    EXPECT_EQ(got.error().code, core::Error::invalid_argument);
  }
}

TEST_P(ShardStoreContract, KnowsNothingOfAStranger) {
  const SampleShard shard = make_shard(random_, 5000);
  const auto got = store().get({.shard = shard.id, .offset = 0, .length = 1, .with_proof = false});
  EXPECT_FALSE(store().find(shard.id));
  EXPECT_EQ(got.error().code, core::Error::not_found);
  EXPECT_EQ(store().tree(shard.id).error().code, core::Error::not_found);
  EXPECT_EQ(store().set_lease(lease(shard, 5)).error().code, core::Error::not_found);
  EXPECT_EQ(store().remove(shard.id, node::RemovalSync::synced).error().code, core::Error::not_found);
  EXPECT_TRUE(store().next_deadline().is_never());
  EXPECT_EQ(store().usage().shards, 0U);
}

TEST_P(ShardStoreContract, ForgetsWhatWasRemoved) {
  for (const auto sync : {node::RemovalSync::synced, node::RemovalSync::lazy}) {
    const SampleShard shard = make_shard(random_, 5000);
    ASSERT_TRUE(put(shard));
    expect_whole(shard);
    ASSERT_TRUE(store().remove(shard.id, sync));
    EXPECT_FALSE(store().find(shard.id));
    const auto got = store().get({.shard = shard.id, .offset = 0, .length = 1, .with_proof = false});
    EXPECT_EQ(got.error().code, core::Error::not_found);
    EXPECT_EQ(store().usage().used, 0U);
    EXPECT_TRUE(store().next_deadline().is_never());
    ASSERT_TRUE(put(shard)) << "it may come back";
    expect_whole(shard);
    ASSERT_TRUE(store().remove(shard.id, sync));
  }
}

// What a removal leaves, until it is told to forget: over a restart too, and for what opening found expired.
TEST_P(ShardStoreContract, KeepsATraceOfWhatIsGone) {
  const SampleShard removed = make_shard(random_, 5000);
  const SampleShard expired = make_shard(random_, 6000);
  const SampleShard kept = make_shard(random_, 7000);
  for (const auto* shard : {&removed, &kept}) ASSERT_TRUE(put(*shard, 5000));
  ASSERT_TRUE(put(expired, 100));
  EXPECT_TRUE(store().traces(10).empty());
  ASSERT_TRUE(store().remove(removed.id, node::RemovalSync::lazy));
  ASSERT_TRUE(store().sync_removals({removed.id}));
  ASSERT_TRUE(store().trace(removed.id));
  EXPECT_EQ(store().trace(removed.id)->envelope, lease(removed, 5000).envelope);
  EXPECT_FALSE(store().trace(kept.id));
  subject_->restart(kStart + core::Milliseconds{100});
  EXPECT_FALSE(store().find(removed.id));
  EXPECT_EQ(store().traces(10).size(), 2U);
  EXPECT_EQ(store().traces(1).size(), 1U);
  EXPECT_EQ(store().trace(expired.id)->lease.bytes, 6000U);
  EXPECT_EQ(store().usage().used, 7000U);

  ASSERT_TRUE(put(removed, 5000)) << "it comes again";
  EXPECT_FALSE(store().trace(removed.id));
  ASSERT_TRUE(store().forget({expired.id, removed.id, make_shard(random_, 1).id}));
  EXPECT_TRUE(store().traces(10).empty());
  expect_whole(removed);
  subject_->restart(kStart + core::Milliseconds{100});
  EXPECT_TRUE(store().traces(10).empty());
  expect_whole(removed);
  expect_whole(kept);
}

TEST_P(ShardStoreContract, ListsWhatAnOwnerHasHere) {
  std::set<core::ShardId> mine;
  for (int i = 0; i < 8; ++i) {
    const SampleShard shard = make_shard(random_, 100);
    ASSERT_TRUE(put(shard, 100 + i));
    mine.insert(shard.id);
  }
  const core::Signer stranger = make_signer(random_);
  const SampleShard theirs = make_shard(random_, 100);
  ASSERT_TRUE(store().put(make_held(make_lease(theirs, node_, stranger, kStart + core::Milliseconds{9}), stranger),
                          theirs.source));
  std::vector<core::ShardId> listed;
  for (core::ShardId after;; after = listed.back()) {
    const auto page = store().held_for(owner_id_of(owner_), after, 3);
    for (const auto& holding : page) {
      EXPECT_TRUE(holding.present);
      EXPECT_EQ(holding.deadline, store().find(holding.shard)->lease.deadline);
      listed.push_back(holding.shard);
    }
    if (page.size() < 3) break;
  }
  EXPECT_TRUE(std::ranges::equal(listed, mine));
  EXPECT_EQ(store().held_for(owner_id_of(stranger), {}, 3).size(), 1U);
}

TEST_P(ShardStoreContract, OrdersByDeadline) {
  std::vector<SampleShard> shards;
  for (const std::int64_t left : {300, 100, 200, 100}) {
    shards.push_back(make_shard(random_, 100));
    ASSERT_TRUE(put(shards.back(), left));
  }
  const SampleShard lasting = make_shard(random_, 100);
  core::Lease forever = make_lease(lasting, node_, owner_, kStart);
  forever.deadline = core::Deadline::never();
  ASSERT_TRUE(store().put(make_held(forever, owner_), lasting.source));

  EXPECT_EQ(store().next_deadline(), core::Deadline(kStart + core::Milliseconds{100}));
  EXPECT_TRUE(store().expired(kStart + core::Milliseconds{99}, 10).empty());
  EXPECT_EQ(store().expired(kStart + core::Milliseconds{100}, 10).size(), 2U);
  EXPECT_EQ(store().expired(kStart + core::Milliseconds{100}, 1).size(), 1U);
  const auto later = store().expired(kStart + core::Milliseconds{299}, 10);
  ASSERT_EQ(later.size(), 3U);
  EXPECT_EQ(later[2], shards[2].id);
  EXPECT_EQ(store().expired(core::Instant{std::numeric_limits<std::int64_t>::max()}, 10).size(), 4U)
      << "never does not pass";
}

TEST_P(ShardStoreContract, ReplacesALease) {
  const SampleShard shard = make_shard(random_, 9000);
  ASSERT_TRUE(put(shard, 1000));
  for (const std::int64_t left : {5000, 50}) {
    const auto wanted = lease(shard, left, 7);
    ASSERT_TRUE(store().set_lease(wanted));
    EXPECT_EQ(store().find(shard.id)->envelope, wanted.envelope);
    EXPECT_EQ(store().next_deadline(), wanted.lease.deadline);
    EXPECT_EQ(store().expired(kStart + core::Milliseconds{left - 1}, 10).size(), 0U);
    EXPECT_EQ(store().expired(kStart + core::Milliseconds{left}, 10).size(), 1U);
  }
  subject_->restart(kStart);
  EXPECT_EQ(store().next_deadline(), core::Deadline(kStart + core::Milliseconds{50}));
  EXPECT_EQ(store().find(shard.id)->lease.serial, 7U);
  EXPECT_EQ(store().usage().used, 9000U);
  expect_whole(shard);
}

TEST_P(ShardStoreContract, KeepsToItsCapacity) {
  reset(10'000);
  const SampleShard first = make_shard(random_, 6000);
  const SampleShard second = make_shard(random_, 4001);
  const SampleShard third = make_shard(random_, 4000);
  ASSERT_TRUE(put(first));
  EXPECT_EQ(put(second).error().code, core::Error::no_space);
  EXPECT_FALSE(store().find(second.id));
  ASSERT_TRUE(put(third));
  EXPECT_EQ(store().usage().used, 10'000U);
  ASSERT_TRUE(store().remove(first.id, node::RemovalSync::synced));
  EXPECT_TRUE(put(second));
}

TEST_P(ShardStoreContract, KeepsToItsCapacityUnderConcurrentPuts) {
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kEach = 12;
  constexpr std::size_t kFit = 20;
  reset(kFit * 1000);
  std::vector<SampleShard> shards;
  for (std::size_t i = 0; i < kThreads * kEach; ++i) shards.push_back(make_shard(random_, 1000));
  std::vector<node::HeldLease> leases;
  for (const auto& shard : shards) leases.push_back(lease(shard, 1000));
  std::atomic<std::size_t> kept{0};
  std::atomic<std::size_t> refused{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = t * kEach; i < (t + 1) * kEach; ++i) {
        const auto done = store().put(leases[i], shards[i].source);
        if (done) ++kept;
        if (!done && done.error().code == core::Error::no_space) ++refused;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(kept, kFit);
  EXPECT_EQ(refused, kThreads * kEach - kFit);
  EXPECT_EQ(store().usage().used, kFit * 1000);
}

TEST_P(ShardStoreContract, KeepsOneOfTwoConcurrentPuts) {
  const SampleShard shard = make_shard(random_, 200'000);
  const node::HeldLease held = lease(shard, 1000);
  std::atomic<int> kept{0};
  std::atomic<int> existed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      const auto done = store().put(held, shard.source);
      if (done) ++kept;
      if (!done && done.error().code == core::Error::exists) ++existed;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(kept, 1);
  EXPECT_EQ(existed, 3);
  expect_whole(shard);
}

TEST_P(ShardStoreContract, NamesADamagedShard) {
  const SampleShard shard = make_shard(random_, 5 * core::kLeafBytes);
  const SampleShard other = make_shard(random_, 5 * core::kLeafBytes);
  ASSERT_TRUE(put(shard));
  ASSERT_TRUE(put(other));
  subject_->damage(shard.id, 2 * core::kLeafBytes + 5);
  const auto whole = store().get({.shard = shard.id, .offset = 0, .length = shard.bytes(), .with_proof = true});
  ASSERT_FALSE(whole);
  EXPECT_EQ(whole.error().code, core::Error::damaged);
  EXPECT_NE(whole.error().detail.find(shard.id.hex()), std::string::npos) << whole.error();
  const auto sound = store().get({.shard = shard.id, .offset = 0, .length = core::kLeafBytes, .with_proof = true});
  EXPECT_TRUE(sound) << "what is sound of it may be read";
  const auto unchecked = store().get({.shard = shard.id, .offset = 0, .length = shard.bytes(), .with_proof = false});
  ASSERT_TRUE(unchecked) << unchecked.error();
  EXPECT_FALSE(std::ranges::equal(unchecked->bytes.view(), shard.source.bytes.view()))
      << "whoever asks without proof finds the damage by himself";
  expect_whole(other);
}

TEST_P(ShardStoreContract, SweepsWhenItIsOpenedAgain) {
  const SampleShard early = make_shard(random_, 5000);
  const SampleShard late = make_shard(random_, 6000);
  ASSERT_TRUE(put(early, 100));
  ASSERT_TRUE(put(late, 101));
  subject_->restart(kStart + core::Milliseconds{100});
  EXPECT_FALSE(store().find(early.id));
  EXPECT_EQ(store().usage().shards, 1U);
  EXPECT_EQ(store().usage().used, 6000U);
  EXPECT_EQ(store().next_deadline(), core::Deadline(kStart + core::Milliseconds{101}));
  expect_whole(late);
}

}  // namespace ephfs::testing
