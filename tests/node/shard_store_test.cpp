// SPDX-License-Identifier: Apache-2.0
#include "tests/node/node_test_support.hpp"
#include "tests/support/shard_store_contract.hpp"

namespace ephfs::node::testing {
namespace {

class FileSubject final : public ephfs::testing::ShardStoreSubject {
 public:
  explicit FileSubject(std::uint64_t capacity) : capacity_(capacity) { restart(core::Instant{0}); }

  ShardStore& store() override { return *store_; }
  void restart(core::Instant now) override {
    store_.reset();
    store_ = open_file_shard_store(directory_.path(), capacity_, now).value();
  }
  void damage(const core::ShardId& shard, std::uint64_t offset) override {
    flip_byte_in_file(shard_file(directory_.path(), shard), offset);
  }

 private:
  const TempDir directory_;
  const std::uint64_t capacity_;
  std::unique_ptr<FileShardStore> store_;
};

class MemorySubject final : public ephfs::testing::ShardStoreSubject {
 public:
  explicit MemorySubject(std::uint64_t capacity) : store_(capacity) {}

  ShardStore& store() override { return store_; }
  void restart(core::Instant now) override { store_.crash(now); }
  void damage(const core::ShardId& shard, std::uint64_t offset) override {
    ASSERT_TRUE(store_.flip_byte(shard, offset));
  }

 private:
  MemoryShardStore store_;
};

template <class Subject>
ephfs::testing::ShardStoreMaker maker_of(const char* name) {
  return {name, [](std::uint64_t capacity) -> std::unique_ptr<ephfs::testing::ShardStoreSubject> {
            return std::make_unique<Subject>(capacity);
          }};
}

}  // namespace
}  // namespace ephfs::node::testing

namespace ephfs::testing {

INSTANTIATE_TEST_SUITE_P(File, ShardStoreContract,
                         ::testing::Values(node::testing::maker_of<node::testing::FileSubject>("Files")));
INSTANTIATE_TEST_SUITE_P(Memory, ShardStoreContract,
                         ::testing::Values(node::testing::maker_of<node::testing::MemorySubject>("Memory")));

}  // namespace ephfs::testing

namespace ephfs::node::testing {
namespace {

constexpr core::Instant kStart{1'800'000'000'000};

class MemoryShardStoreFaults : public ::testing::Test {
 protected:
  core::Result<> put(const SampleShard& shard) {
    return store_.put(make_held(make_lease(shard, {}, owner_, kStart + std::chrono::seconds{1}), owner_), shard.source);
  }
  Random random_;
  core::Signer owner_ = make_signer(random_);
  MemoryShardStore store_{kSampleCapacity};
};

TEST_F(MemoryShardStoreFaults, FailsTheOperationItWasToldTo) {
  const SampleShard a = make_shard(random_, 100);
  const SampleShard b = make_shard(random_, 100);
  store_.fail_operation(2, MemoryShardStore::Fault::once, core::Error::no_space);
  EXPECT_TRUE(put(a));
  EXPECT_EQ(put(b).error().code, core::Error::no_space);
  EXPECT_FALSE(store_.find(b.id));
  EXPECT_TRUE(put(b));
  store_.fail_operation(1, MemoryShardStore::Fault::from_then_on);
  EXPECT_EQ(store_.remove(a.id, RemovalSync::synced).error().code, core::Error::io);
  EXPECT_EQ(store_.remove(a.id, RemovalSync::synced).error().code, core::Error::io);
  store_.stop_failing();
  EXPECT_TRUE(store_.remove(a.id, RemovalSync::synced));
}

TEST_F(MemoryShardStoreFaults, LosesOnlyLazyRemovalsInACrash) {
  const SampleShard kept = make_shard(random_, 100);
  const SampleShard lazily = make_shard(random_, 100);
  const SampleShard surely = make_shard(random_, 100);
  for (const auto* shard : {&kept, &lazily, &surely}) ASSERT_TRUE(put(*shard));
  ASSERT_TRUE(store_.remove(lazily.id, RemovalSync::lazy));
  ASSERT_TRUE(store_.remove(surely.id, RemovalSync::synced));
  store_.crash(kStart);
  EXPECT_TRUE(store_.find(kept.id));
  EXPECT_TRUE(store_.find(lazily.id));
  EXPECT_FALSE(store_.find(surely.id));
  EXPECT_EQ(store_.usage().used, 200U);
  store_.crash(kStart + std::chrono::seconds{1});
  EXPECT_EQ(store_.usage().shards, 0U);
}

TEST_F(MemoryShardStoreFaults, RunsFull) {
  store_.set_full(true);
  const SampleShard shard = make_shard(random_, 100);
  EXPECT_EQ(put(shard).error().code, core::Error::no_space);
  store_.set_full(false);
  EXPECT_TRUE(put(shard));
}

}  // namespace
}  // namespace ephfs::node::testing
