// SPDX-License-Identifier: Apache-2.0
#include "node/lease_reaper.hpp"

#include "tests/node/node_test_support.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::node::testing {
namespace {

using ephfs::testing::VirtualClock;
using namespace std::chrono_literals;

class LeaseReaperTest : public ::testing::Test {
 protected:
  ~LeaseReaperTest() override {
    EXPECT_TRUE(clock_.run(reaper_.stop()));
    EXPECT_TRUE(clock_.run(peer_.stop()));
  }
  core::Envelope lease(const SampleShard& shard, core::Milliseconds left, std::uint64_t serial = 1) const {
    return core::sign_lease(make_lease(shard, peer_.id(), owner_, clock_.now() + left, serial), owner_);
  }
  net::CallLimits limits() const { return {clock_.boot_now() + 10s, {}}; }
  SampleShard stored(core::Milliseconds left) {
    SampleShard shard = make_shard(random_, 500);
    const auto receipt = *clock_.run(peer_.store(lease(shard, left), shard.source, limits()));
    EXPECT_TRUE(receipt) << receipt.error();
    return shard;
  }
  bool holds(const SampleShard& shard) const { return store_.find(shard.id).has_value(); }

  core::asio::io_context context_;
  VirtualClock clock_{context_};
  Random random_;
  core::Signer node_ = make_signer(random_);
  core::Signer owner_ = make_signer(random_);
  MemoryShardStore store_{kSampleCapacity};
  MemoryReceiptStore receipts_;
  LocalPeer peer_{store_, receipts_, clock_, node_, context_.get_executor()};
  LeaseReaper reaper_{peer_, clock_, context_.get_executor(), context_.get_executor()};
};

TEST_F(LeaseReaperTest, DeletesEachShardAtItsDeadline) {
  reaper_.start();
  const SampleShard later = stored(3h);
  const SampleShard first = stored(100ms);
  const SampleShard second = stored(200ms);
  clock_.run_for(99ms);
  EXPECT_TRUE(holds(first));
  clock_.run_for(1ms);
  EXPECT_FALSE(holds(first));
  EXPECT_TRUE(holds(second));
  clock_.run_for(99ms);
  EXPECT_TRUE(holds(second));
  clock_.run_for(1ms);
  EXPECT_FALSE(holds(second));
  clock_.run_for(3h - 201ms);
  EXPECT_TRUE(holds(later));
  clock_.run_for(1ms);
  EXPECT_FALSE(holds(later));
  EXPECT_EQ(peer_.counters().expired, 3U);
}

TEST_F(LeaseReaperTest, DeletesWhatItFindsWhenItStarts) {
  const SampleShard gone = stored(1s);
  const SampleShard there = stored(10s);
  clock_.run_for(5s);
  EXPECT_TRUE(holds(gone));
  reaper_.start();
  clock_.settle();
  EXPECT_FALSE(holds(gone));
  clock_.run_for(5s);
  EXPECT_FALSE(holds(there));
}

TEST_F(LeaseReaperTest, FollowsAShorterAndALongerLease) {
  reaper_.start();
  const SampleShard shortened = stored(1h);
  const SampleShard extended = stored(10s);
  ASSERT_TRUE(*clock_.run(peer_.renew(lease(shortened, 5s, 2), limits())));
  ASSERT_TRUE(*clock_.run(peer_.renew(lease(extended, 20s, 2), limits())));
  clock_.run_for(5s);
  EXPECT_FALSE(holds(shortened));
  clock_.run_for(15s - 1ms);
  EXPECT_TRUE(holds(extended));
  clock_.run_for(1ms);
  EXPECT_FALSE(holds(extended));
}

TEST_F(LeaseReaperTest, DeletesManyAtOnce) {
  reaper_.start();
  std::vector<SampleShard> shards;
  for (int i = 0; i < 300; ++i) shards.push_back(stored(1s));
  EXPECT_EQ(store_.usage().shards, 300U);
  clock_.run_for(1s);
  EXPECT_EQ(store_.usage().shards, 0U);
}

TEST_F(LeaseReaperTest, SignsAReceiptForEachShardThatIsGone) {
  reaper_.start();
  const SampleShard expired = stored(1s);
  const SampleShard removed = stored(1h);
  const core::Removal order{removed.id, peer_.id(), owner_id_of(owner_), 9};
  ASSERT_TRUE(*clock_.run(peer_.remove(core::sign_removal(order, owner_), limits())));
  EXPECT_EQ(receipts_.size(), 0U) << "not at once, but together with others";
  clock_.run_for(2s);
  for (const auto* shard : {&expired, &removed}) {
    const auto receipt = receipts_.find(shard->id).value();
    ASSERT_TRUE(receipt);
    EXPECT_EQ(core::open_receipt(*receipt)->kind, core::ReceiptKind::deleted);
  }
  EXPECT_TRUE(store_.traces(10).empty());
}

// The receipt comes after the removal is sure, and the trace goes after the receipt is.
TEST_F(LeaseReaperTest, MakesReceiptsAgainAfterAnyFailure) {
  std::vector<SampleShard> shards;
  for (int i = 0; i < 5; ++i) shards.push_back(stored(1s));
  clock_.run_for(1s);
  receipts_.set_failing(true);
  ::testing::internal::CaptureStderr();
  reaper_.start();
  clock_.run_for(1s);
  EXPECT_EQ(store_.usage().shards, 0U) << "they go at their deadline all the same";
  EXPECT_EQ(store_.traces(10).size(), 5U);
  receipts_.set_failing(false);
  store_.fail_operation(2, MemoryShardStore::Fault::once);  // forgetting
  clock_.run_for(11s);
  (void)::testing::internal::GetCapturedStderr();
  EXPECT_EQ(receipts_.size(), 5U);
  EXPECT_TRUE(store_.traces(10).empty());
}

TEST_F(LeaseReaperTest, MakesReceiptsOfWhatARestartFinds) {
  const SampleShard shard = stored(1s);
  clock_.run_for(1s);
  store_.crash(clock_.now());
  EXPECT_FALSE(holds(shard));
  reaper_.start();
  clock_.settle();
  EXPECT_TRUE(receipts_.find(shard.id).value());
}

TEST_F(LeaseReaperTest, NoticesWithinAMinuteThatTheWallClockWasSet) {
  reaper_.start();
  const SampleShard shard = stored(1h);
  clock_.run_for(1s);
  clock_.set_wall(clock_.now() + 1h);
  clock_.run_for(60s);
  EXPECT_FALSE(holds(shard));
}

TEST_F(LeaseReaperTest, DoesNothingWhenThereIsNothingToWaitFor) {
  reaper_.start();
  EXPECT_TRUE(clock_.run_until_idle(0s)) << "a timer is running";
  stored(1s);
  clock_.run_for(1s);
  EXPECT_TRUE(clock_.run_until_idle(10s)) << "only the call's own timer was left";
}

TEST_F(LeaseReaperTest, TriesAgainWhenTheDiskFails) {
  reaper_.start();
  const SampleShard shard = stored(1s);
  store_.fail_operation(1, MemoryShardStore::Fault::from_then_on);
  ::testing::internal::CaptureStderr();
  clock_.run_for(2min);
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::ranges::count(log, '\n'), 1) << "one line, not one each time: " << log;
  EXPECT_TRUE(holds(shard));
  store_.stop_failing();
  clock_.run_for(5s);
  EXPECT_FALSE(holds(shard));
}

// An expired shard stored anew while the reaper has it on its list.
TEST_F(LeaseReaperTest, SparesAShardThatWasStoredAnew) {
  const SampleShard shard = stored(1s);
  clock_.run_for(1s);
  ASSERT_TRUE(*clock_.run(peer_.store(lease(shard, 5s, 2), shard.source, limits())));
  reaper_.start();
  clock_.run_for(5s - 1ms);
  EXPECT_TRUE(holds(shard));
  clock_.run_for(1ms);
  EXPECT_FALSE(holds(shard));
}

}  // namespace
}  // namespace ephfs::node::testing
