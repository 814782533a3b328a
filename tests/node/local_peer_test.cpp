// SPDX-License-Identifier: Apache-2.0
#include "node/local_peer.hpp"

#include "tests/node/node_test_support.hpp"
#include "tests/support/virtual_clock.hpp"

namespace ephfs::node::testing {
namespace {

using ephfs::testing::VirtualClock;
using namespace std::chrono_literals;

class LocalPeerTest : public ::testing::Test {
 protected:
  core::Instant in(core::Milliseconds left) const { return clock_.now() + left; }
  core::Lease lease(const SampleShard& shard, core::Milliseconds left, std::uint64_t serial = 1) const {
    return make_lease(shard, peer_.id(), owner_, in(left), serial);
  }
  core::Envelope signed_lease(const SampleShard& shard, core::Milliseconds left, std::uint64_t serial = 1) const {
    return core::sign_lease(lease(shard, left, serial), owner_);
  }
  net::CallLimits limits(core::Nanoseconds time = 10s) const { return {clock_.boot_now() + time, {}}; }
  static net::ShardSource from_network(const SampleShard& shard) { return {shard.source.bytes, nullptr, {}}; }

  core::Result<core::Envelope> store(const core::Envelope& envelope, const net::ShardSource& source) {
    return *clock_.run(peer_.store(envelope, source, limits()));
  }
  core::Result<core::Envelope> store(const SampleShard& shard, core::Milliseconds left, std::uint64_t serial = 1) {
    return store(signed_lease(shard, left, serial), from_network(shard));
  }
  core::Result<net::ShardRange> fetch(const SampleShard& shard, bool with_proof = false) {
    const net::FetchRequest request{.shard = shard.id, .offset = 0, .length = shard.bytes(), .with_proof = with_proof};
    return *clock_.run(peer_.fetch(request, limits()));
  }
  core::Result<core::Envelope> renew(const core::Envelope& envelope) {
    return *clock_.run(peer_.renew(envelope, limits()));
  }
  core::Result<core::Envelope> remove(const core::Removal& removal, const core::Signer& signer) {
    return *clock_.run(peer_.remove(core::sign_removal(removal, signer), limits()));
  }
  core::Removal removal(const SampleShard& shard, std::uint64_t serial = 1) const {
    return {shard.id, peer_.id(), owner_id_of(owner_), serial};
  }
  static core::Error code_of(const auto& result) {
    EXPECT_FALSE(result) << "it succeeded";
    return result ? core::Error::io : result.error().code;
  }
  void expect_receipt(const core::Result<core::Envelope>& envelope, core::ReceiptKind kind, const SampleShard& shard) {
    ASSERT_TRUE(envelope) << envelope.error();
    const auto receipt = core::open_receipt(*envelope);
    ASSERT_TRUE(receipt) << receipt.error();
    EXPECT_EQ(receipt->kind, kind);
    EXPECT_EQ(receipt->shard, shard.id);
    EXPECT_EQ(receipt->node, peer_.id());
    EXPECT_EQ(receipt->owner, owner_id_of(owner_));
    EXPECT_EQ(receipt->at, clock_.now());
    EXPECT_EQ(receipt->bytes, shard.bytes());
  }

  core::asio::io_context context_;
  VirtualClock clock_{context_};
  Random random_;
  core::Signer node_ = make_signer(random_);
  core::Signer owner_ = make_signer(random_);
  core::Signer stranger_ = make_signer(random_);
  MemoryShardStore store_{kSampleCapacity};
  MemoryReceiptStore receipts_;
  LocalPeer peer_{store_, receipts_, clock_, node_, context_.get_executor()};
  SampleShard shard_ = make_shard(random_, 10'000);
};

TEST_F(LocalPeerTest, StoresAndServes) {
  const auto receipt = store(shard_, 1s);
  expect_receipt(receipt, core::ReceiptKind::stored, shard_);
  EXPECT_EQ(core::open_receipt(*receipt)->deadline, core::Deadline(in(1s)));
  const auto got = fetch(shard_);
  ASSERT_TRUE(got) << got.error();
  EXPECT_TRUE(std::ranges::equal(got->bytes.view(), shard_.source.bytes.view()));
  EXPECT_EQ(peer_.counters().stored, 1U);
  EXPECT_EQ(peer_.counters().fetched, 1U);
  EXPECT_EQ(peer_.counters().bytes_out, shard_.bytes());
  const auto status = clock_.run(peer_.status(limits()));
  ASSERT_TRUE(status && *status);
  EXPECT_EQ((*status)->used, shard_.bytes());
  EXPECT_EQ((*status)->shards, 1U);
  EXPECT_EQ((*status)->node, peer_.id());
}

TEST_F(LocalPeerTest, ServesUpToTheDeadlineAndNotAtIt) {
  ASSERT_TRUE(store(shard_, 3s));
  clock_.run_for(2999ms);
  EXPECT_TRUE(fetch(shard_));
  clock_.run_for(1ms);
  // Nobody reaps here: the shard is still in the store, and is not given out all the same.
  EXPECT_TRUE(store_.find(shard_.id));
  EXPECT_EQ(code_of(fetch(shard_)), core::Error::not_found);
  const net::Challenge challenge{shard_.id, {}, {0}};
  EXPECT_EQ(code_of(*clock_.run(peer_.prove(challenge, limits()))), core::Error::not_found);
}

TEST_F(LocalPeerTest, RefusesWhatTheLeaseDoesNotAllow) {
  core::Lease elsewhere = lease(shard_, 1s);
  elsewhere.node = core::node_id_of(stranger_.public_key());
  EXPECT_EQ(code_of(store(core::sign_lease(elsewhere, owner_), from_network(shard_))), core::Error::not_permitted);
  EXPECT_EQ(code_of(store(shard_, 0s)), core::Error::not_permitted) << "a lease that ends now";
  core::Lease forged = lease(shard_, 1s);
  EXPECT_EQ(code_of(store(core::sign_lease(forged, stranger_), from_network(shard_))), core::Error::not_permitted);
  core::Envelope altered = signed_lease(shard_, 1s);
  altered.signature.mutable_view()[3] ^= std::byte{1};
  EXPECT_EQ(code_of(store(altered, from_network(shard_))), core::Error::not_permitted);
  EXPECT_EQ(store_.usage().shards, 0U);
  EXPECT_EQ(peer_.counters().refused, 4U);
}

TEST_F(LocalPeerTest, RefusesBytesThatAreNotTheShard) {
  const SampleShard other = make_shard(random_, shard_.bytes());
  const SampleShard longer = make_shard(random_, shard_.bytes() + 1);
  EXPECT_EQ(code_of(store(signed_lease(shard_, 1s), from_network(other))), core::Error::damaged);
  EXPECT_EQ(code_of(store(signed_lease(shard_, 1s), from_network(longer))), core::Error::damaged);
  net::ShardSource lying = other.source;  // a tree, but not this shard's
  EXPECT_EQ(code_of(store(signed_lease(shard_, 1s), lying)), core::Error::damaged);
  lying.bytes = {};
  EXPECT_EQ(code_of(store(signed_lease(shard_, 1s), lying)), core::Error::invalid_argument);
  EXPECT_EQ(store_.usage().shards, 0U);
}

TEST_F(LocalPeerTest, StoringAgainRenews) {
  ASSERT_TRUE(store(shard_, 1s, 1));
  expect_receipt(store(shard_, 5s, 2), core::ReceiptKind::stored, shard_);
  EXPECT_EQ(store_.next_deadline(), core::Deadline(in(5s)));
  EXPECT_TRUE(store(shard_, 5s, 2)) << "the same again, by an owner that missed the answer";
  EXPECT_EQ(code_of(store(shard_, 9s, 2)), core::Error::not_permitted) << "another lease of the same serial";
  EXPECT_EQ(code_of(store(shard_, 9s, 1)), core::Error::not_permitted);
  core::Lease theirs = make_lease(shard_, peer_.id(), stranger_, in(9s), 9);
  EXPECT_EQ(code_of(store(core::sign_lease(theirs, stranger_), from_network(shard_))), core::Error::not_permitted);
  EXPECT_EQ(store_.next_deadline(), core::Deadline(in(5s)));
  EXPECT_EQ(store_.usage().shards, 1U);
}

TEST_F(LocalPeerTest, StoringAgainHealsADamagedShard) {
  ASSERT_TRUE(store(shard_, 1s, 1));
  ASSERT_TRUE(store_.flip_byte(shard_.id, 7));
  EXPECT_EQ(code_of(fetch(shard_, true)), core::Error::damaged);
  ASSERT_TRUE(store(shard_, 1s, 1));
  EXPECT_TRUE(fetch(shard_, true));
  EXPECT_EQ(peer_.counters().damaged, 1U);
}

TEST_F(LocalPeerTest, AnExpiredShardMayBeStoredAnewByAnybody) {
  ASSERT_TRUE(store(shard_, 1s, 7));
  clock_.run_for(1s);
  const core::Lease theirs = make_lease(shard_, peer_.id(), stranger_, in(1s), 1);
  EXPECT_TRUE(store(core::sign_lease(theirs, stranger_), from_network(shard_)));
  EXPECT_EQ(store_.find(shard_.id)->lease.owner, owner_id_of(stranger_));
}

TEST_F(LocalPeerTest, RenewsBothWays) {
  ASSERT_TRUE(store(shard_, 10s, 1));
  const auto longer = renew(signed_lease(shard_, 20s, 2));
  expect_receipt(longer, core::ReceiptKind::renewed, shard_);
  EXPECT_EQ(core::open_receipt(*longer)->deadline, core::Deadline(in(20s)));
  EXPECT_TRUE(renew(signed_lease(shard_, 20s, 2))) << "the same again";
  ASSERT_TRUE(renew(signed_lease(shard_, 1s, 3)));
  clock_.run_for(1s);
  EXPECT_EQ(code_of(fetch(shard_)), core::Error::not_found);
}

TEST_F(LocalPeerTest, RefusesALateExtension) {
  ASSERT_TRUE(store(shard_, 3s, 1));
  clock_.run_for(3s);
  EXPECT_EQ(code_of(renew(signed_lease(shard_, 60s, 2))), core::Error::not_found);
  EXPECT_EQ(code_of(fetch(shard_)), core::Error::not_found);
}

TEST_F(LocalPeerTest, RefusesAnothersOrAnOlderRenewal) {
  ASSERT_TRUE(store(shard_, 3s, 5));
  const core::Lease theirs = make_lease(shard_, peer_.id(), stranger_, in(60s), 6);
  EXPECT_EQ(code_of(renew(core::sign_lease(theirs, stranger_))), core::Error::not_permitted);
  EXPECT_EQ(code_of(renew(signed_lease(shard_, 60s, 5))), core::Error::not_permitted);
  EXPECT_EQ(code_of(renew(signed_lease(shard_, 60s, 4))), core::Error::not_permitted);
  core::Lease longer = lease(shard_, 60s, 6);
  ++longer.bytes;
  EXPECT_EQ(code_of(renew(core::sign_lease(longer, owner_))), core::Error::not_permitted);
  const SampleShard absent = make_shard(random_, 100);
  EXPECT_EQ(code_of(renew(signed_lease(absent, 60s, 6))), core::Error::not_found);
  EXPECT_EQ(store_.next_deadline(), core::Deadline(in(3s)));
}

TEST_F(LocalPeerTest, ARenewalIntoThePastEndsTheLease) {
  ASSERT_TRUE(store(shard_, 60s, 1));
  ASSERT_TRUE(renew(signed_lease(shard_, -1s, 2)));
  EXPECT_EQ(code_of(fetch(shard_)), core::Error::not_found);
}

TEST_F(LocalPeerTest, OnlyTheOwnerRemoves) {
  ASSERT_TRUE(store(shard_, 3s, 5));
  core::Removal theirs = removal(shard_, 9);
  theirs.owner = owner_id_of(stranger_);
  EXPECT_EQ(code_of(remove(theirs, stranger_)), core::Error::not_permitted);
  EXPECT_EQ(code_of(remove(removal(shard_, 9), stranger_)), core::Error::not_permitted) << "forged";
  EXPECT_EQ(code_of(remove(removal(shard_, 4), owner_)), core::Error::not_permitted) << "older than the lease";
  core::Removal elsewhere = removal(shard_, 9);
  elsewhere.node = core::node_id_of(stranger_.public_key());
  EXPECT_EQ(code_of(remove(elsewhere, owner_)), core::Error::not_permitted);
  EXPECT_TRUE(fetch(shard_));
  expect_receipt(remove(removal(shard_, 5), owner_), core::ReceiptKind::deleted, shard_);
  EXPECT_EQ(store_.usage().shards, 0U);
  EXPECT_EQ(code_of(remove(removal(shard_, 5), owner_)), core::Error::not_found);
}

TEST_F(LocalPeerTest, ProvesWhatItHolds) {
  ASSERT_TRUE(store(shard_, 3s));
  const net::Challenge challenge{shard_.id, {}, {2, 0, 1}};
  const auto proof = *clock_.run(peer_.prove(challenge, limits()));
  ASSERT_TRUE(proof) << proof.error();
  ASSERT_EQ(proof->leaves.size(), 3U);
  EXPECT_EQ(proof->shard_bytes, shard_.bytes());
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(core::verify_range(shard_.id, shard_.bytes(), challenge.leaves[i], proof->leaves[i].bytes.view(),
                                   proof->leaves[i].path));
  }
  expect_receipt(proof->receipt, core::ReceiptKind::served, shard_);
}

TEST_F(LocalPeerTest, RefusesAMeaninglessChallenge) {
  ASSERT_TRUE(store(shard_, 3s));
  const net::Challenge nothing{shard_.id, {}, {}};
  const net::Challenge too_many{shard_.id, {}, std::vector<std::uint32_t>(net::kChallengeLeavesMax + 1)};
  const net::Challenge outside{shard_.id, {}, {3}};
  for (const auto& challenge : {nothing, too_many, outside}) {
    EXPECT_EQ(code_of(*clock_.run(peer_.prove(challenge, limits()))), core::Error::invalid_argument);
  }
}

TEST_F(LocalPeerTest, EndsByItsLimits) {
  EXPECT_EQ(code_of(*clock_.run(peer_.status(limits(0s)))), core::Error::timed_out);
  std::stop_source stop;
  stop.request_stop();
  net::CallLimits stopped{clock_.boot_now() + 1s, stop.get_token()};
  EXPECT_EQ(code_of(*clock_.run(peer_.store(signed_lease(shard_, 3s), from_network(shard_), stopped))),
            core::Error::cancelled);
  EXPECT_EQ(store_.operations(), 0U);
}

TEST_F(LocalPeerTest, EndsByItsLimitsWhenTheDiskHangs) {
  core::asio::io_context disk;  // runs nothing until it is told to
  LocalPeer peer(store_, receipts_, clock_, node_, disk.get_executor());
  // More than is looked for in memory first.
  const net::FetchRequest request{.shard = shard_.id, .offset = 0, .length = 1U << 20U, .with_proof = false};
  const core::Boottime before = clock_.boot_now();
  EXPECT_EQ(code_of(*clock_.run(peer.fetch(request, limits(250ms)))), core::Error::timed_out);
  EXPECT_EQ(clock_.boot_now() - before, 250ms);

  std::stop_source stop;
  const auto stopper =
      clock_.call_at(context_.get_executor(), clock_.boot_now() + 100ms, [&stop] { stop.request_stop(); });
  const net::CallLimits stoppable{clock_.boot_now() + 1s, stop.get_token()};
  EXPECT_EQ(code_of(*clock_.run(peer.fetch(request, stoppable))), core::Error::cancelled);
  EXPECT_EQ(clock_.boot_now() - before, 350ms);

  disk.run();
  EXPECT_EQ(store_.operations(), 0U) << "what nobody waits for is not done";
  EXPECT_TRUE(clock_.run(peer.stop()));
}

TEST_F(LocalPeerTest, RefusesCallsWhenItStops) {
  EXPECT_TRUE(clock_.run(peer_.stop()));
  EXPECT_FALSE(peer_.reachable());
  EXPECT_EQ(code_of(store(shard_, 1s)), core::Error::cancelled);
}

TEST_F(LocalPeerTest, PassesOnThatThereIsNoSpace) {
  store_.set_full(true);
  EXPECT_EQ(code_of(store(shard_, 1s)), core::Error::no_space);
}

// Storing over a damaged shard takes many steps; whichever fails, it says so, and the next try succeeds.
TEST_F(LocalPeerTest, SurvivesAFaultInEveryStepOfStoring) {
  bool clean = false;
  for (std::uint64_t nth = 1; !clean; ++nth) {
    ASSERT_LE(nth, 20U);
    const SampleShard shard = make_shard(random_, 10'000);
    ASSERT_TRUE(store(shard, 10s, 1));
    ASSERT_TRUE(store_.flip_byte(shard.id, 7));
    const std::uint64_t before = store_.operations();
    store_.fail_operation(nth, MemoryShardStore::Fault::once);
    const auto result = store(shard, 10s, 2);
    clean = store_.operations() < before + nth;
    store_.stop_failing();
    EXPECT_EQ(result.has_value(), clean) << nth;
    EXPECT_TRUE(store(shard, 10s, 2)) << nth;
    EXPECT_TRUE(fetch(shard)) << nth;
  }
}

}  // namespace
}  // namespace ephfs::node::testing
