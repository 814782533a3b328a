// SPDX-License-Identifier: Apache-2.0
// What every Peer must do, whoever implements it: a node in this process, a node behind a network, or a fake.
// Instantiate with INSTANTIATE_TEST_SUITE_P(Peers, PeerContract, ::testing::Values(maker...), peer_maker_name), in
// namespace ephfs::testing and in one file of a program.
#pragma once

#include <functional>
#include <map>

#include <gtest/gtest.h>

#include "core/clock.hpp"
#include "net/peer.hpp"
#include "tests/support/sample_shard.hpp"

namespace ephfs::testing {

/// A peer under test, and what happens to its node from outside. The node has room for kContractCapacity bytes.
class PeerSubject {
 public:
  virtual ~PeerSubject() = default;
  [[nodiscard]] virtual net::Peer& peer() = 0;
  /// The clock that limits of calls are told by.
  [[nodiscard]] virtual core::Clock& clock() = 0;
  /// The node's wall time, and letting it pass.
  [[nodiscard]] virtual core::Instant node_now() = 0;
  virtual void pass_time(core::Milliseconds span) = 0;
  /// Changes a byte of a held shard behind the node's back.
  virtual void damage(const core::ShardId& shard) = 0;
  /// Runs `body` to its end.
  virtual void run(std::function<core::awaitable<void>()> body) = 0;
};

/// The suite's parameter: a name and how to make a subject.
struct PeerMaker {
  std::string name;
  std::function<std::unique_ptr<PeerSubject>()> make;
};
inline void PrintTo(const PeerMaker& maker, std::ostream* out) {
  *out << maker.name;
}
inline std::string peer_maker_name(const ::testing::TestParamInfo<PeerMaker>& info) {
  return info.param.name;
}

constexpr std::uint64_t kContractCapacity = 16U << 20U;

class PeerContract : public ::testing::TestWithParam<PeerMaker> {
 protected:
  template <class T>
  using Outcome = core::Result<T>;

  net::Peer& peer() { return subject_->peer(); }
  net::CallLimits limits(std::stop_token stop = {}) {
    return {subject_->clock().boot_now() + std::chrono::seconds(10), std::move(stop)};
  }
  template <class T>
  Outcome<T> run(core::awaitable<Outcome<T>> call) {
    std::optional<Outcome<T>> outcome;
    subject_->run([&]() -> core::awaitable<void> { outcome.emplace(co_await std::move(call)); });
    if (!outcome) return core::fail(core::Error::interrupted, "the call did not end");
    return std::move(*outcome);
  }

  core::Lease lease(const SampleShard& shard, std::uint64_t serial = 1,
                    core::Milliseconds left = std::chrono::minutes(1)) {
    return make_lease(shard, peer().id(), owner_, subject_->node_now() + left, serial);
  }
  Outcome<core::Envelope> store(const core::Lease& lease, const SampleShard& shard, const core::Signer& signer) {
    // As a remote caller has it: without the tree and the file.
    return run(peer().store(core::sign_lease(lease, signer), {shard.source.bytes, nullptr, {}}, limits()));
  }
  Outcome<core::Envelope> store(const SampleShard& shard) { return store(lease(shard), shard, owner_); }
  Outcome<net::ShardRange> fetch(const SampleShard& shard, std::uint64_t offset, std::uint64_t length,
                                 bool with_proof = false) {
    return run(peer().fetch({shard.id, offset, length, with_proof}, limits()));
  }
  Outcome<core::Envelope> renew(const core::Lease& lease, const core::Signer& signer) {
    return run(peer().renew(core::sign_lease(lease, signer), limits()));
  }
  Outcome<core::Envelope> remove(const SampleShard& shard, const core::Signer& signer, std::uint64_t serial = 1) {
    const core::Removal removal{shard.id, peer().id(), owner_id_of(signer), serial};
    return run(peer().remove(core::sign_removal(removal, signer), limits()));
  }
  Outcome<net::Proof> prove(const SampleShard& shard, std::vector<std::uint32_t> leaves) {
    core::Hash nonce;
    random_.fill(nonce.mutable_view());
    return run(peer().prove({shard.id, nonce, std::move(leaves)}, limits()));
  }
  net::ShardInquiry inquiry(core::InquiryKind kind, std::vector<core::ShardId> shards, const core::Signer& signer) {
    core::Inquiry asked;
    asked.kind = kind;
    asked.node = peer().id();
    asked.owner = owner_id_of(signer);
    asked.subject = core::subject_of(shards);
    return {core::sign_inquiry(asked, signer), std::move(shards)};
  }
  Outcome<std::vector<core::Envelope>> deletions(std::vector<core::ShardId> shards, const core::Signer& signer) {
    auto asked = inquiry(core::InquiryKind::deletions, std::move(shards), signer);
    return run(peer().deletions(std::move(asked), limits()));
  }
  Outcome<std::vector<net::Holding>> holdings(const core::ShardId& after, const core::Signer& signer) {
    auto asked = inquiry(core::InquiryKind::holdings, {after}, signer);
    return run(peer().holdings(std::move(asked), limits()));
  }
  net::NodeStatus status() {
    const auto status = run(peer().status(limits()));
    EXPECT_TRUE(status) << status.error();
    return status ? *status : net::NodeStatus{};
  }

  template <class T>
  static void expect_code(const Outcome<T>& outcome, core::Error code) {
    ASSERT_FALSE(outcome) << "it succeeded";
    EXPECT_EQ(outcome.error().code, code) << outcome.error();
  }
  void expect_receipt(const Outcome<core::Envelope>& envelope, core::ReceiptKind kind, const core::Lease& about) {
    ASSERT_TRUE(envelope) << envelope.error();
    const auto receipt = core::open_receipt(*envelope);
    ASSERT_TRUE(receipt) << receipt.error();
    EXPECT_EQ(receipt->kind, kind);
    EXPECT_EQ(receipt->shard, about.shard);
    EXPECT_EQ(receipt->node, peer().id());
    EXPECT_EQ(receipt->owner, about.owner);
    EXPECT_EQ(receipt->deadline, about.deadline);
    EXPECT_EQ(receipt->bytes, about.bytes);
  }
  void expect_whole(const SampleShard& shard) {
    const auto range = fetch(shard, 0, shard.bytes());
    ASSERT_TRUE(range) << range.error();
    EXPECT_TRUE(std::ranges::equal(range->bytes.view(), shard.source.bytes.view()));
  }

  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, describe_seed(random_.seed())};
  core::Signer owner_ = make_signer(random_);
  core::Signer stranger_ = make_signer(random_);
  std::unique_ptr<PeerSubject> subject_ = GetParam().make();
  SampleShard shard_ = make_shard(random_, 10 * core::kLeafBytes + 77);
};

TEST_P(PeerContract, KeepsWhatItPromised) {
  for (const std::size_t bytes : {std::size_t{1}, core::kLeafBytes, std::size_t{1'000'003}, net::kShardBytesMax}) {
    const SampleShard shard = make_shard(random_, bytes);
    const core::Lease wanted = lease(shard);
    expect_receipt(store(wanted, shard, owner_), core::ReceiptKind::stored, wanted);
    expect_whole(shard);
  }
  const auto now = status();
  EXPECT_EQ(now.node, peer().id());
  EXPECT_EQ(now.capacity, kContractCapacity);
  EXPECT_EQ(now.shards, 4U);
  EXPECT_EQ(now.used, 1 + core::kLeafBytes + 1'000'003 + net::kShardBytesMax);
  EXPECT_EQ(now.now, subject_->node_now());
}

TEST_P(PeerContract, ServesRangesThatCanBeVerified) {
  ASSERT_TRUE(store(shard_));
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t offset = random_.below(shard_.bytes());
    const std::uint64_t length = random_.between(1, shard_.bytes() - offset);
    const auto plain = fetch(shard_, offset, length);
    ASSERT_TRUE(plain) << plain.error();
    EXPECT_EQ(plain->offset, offset);
    EXPECT_EQ(plain->shard_bytes, shard_.bytes());
    EXPECT_TRUE(plain->proof.empty());
    EXPECT_TRUE(std::ranges::equal(plain->bytes.view(), shard_.source.bytes.view().subspan(offset, length)));

    const auto proven = fetch(shard_, offset, length, true);
    ASSERT_TRUE(proven) << proven.error();
    EXPECT_LE(proven->offset, offset);
    EXPECT_GE(proven->offset + proven->bytes.size(), offset + length);
    EXPECT_TRUE(core::verify_range(shard_.id, proven->shard_bytes, proven->offset / core::kLeafBytes,
                                   proven->bytes.view(), proven->proof));
  }
}

TEST_P(PeerContract, RefusesRangesOutsideTheShard) {
  ASSERT_TRUE(store(shard_));
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges{{0, 0},
                                                                    {0, shard_.bytes() + 1},
                                                                    {shard_.bytes(), 1},
                                                                    {shard_.bytes() - 1, 2},
                                                                    {~std::uint64_t{0}, 1},
                                                                    {1, ~std::uint64_t{0}}};
  for (const auto& [offset, length] : ranges) {
    for (const bool with_proof : {false, true}) {
      expect_code(fetch(shard_, offset, length, with_proof), core::Error::invalid_argument);
    }
  }
  expect_whole(shard_);
}

TEST_P(PeerContract, HasNotWhatItWasNotGiven) {
  expect_code(fetch(shard_, 0, 1), core::Error::not_found);
  expect_code(renew(lease(shard_, 2), owner_), core::Error::not_found);
  expect_code(remove(shard_, owner_), core::Error::not_found);
  expect_code(prove(shard_, {0}), core::Error::not_found);
}

TEST_P(PeerContract, RefusesBytesThatAreNotTheShard) {
  const SampleShard other = make_shard(random_, shard_.bytes());
  expect_code(store(lease(shard_), other, owner_), core::Error::damaged);
  const SampleShard longer = make_shard(random_, shard_.bytes() + 1);
  expect_code(store(lease(shard_), longer, owner_), core::Error::damaged);
  EXPECT_EQ(status().shards, 0U);
}

TEST_P(PeerContract, RefusesWhatTheLeaseDoesNotAllow) {
  core::Lease elsewhere = lease(shard_);
  random_.fill(elsewhere.node.mutable_view());
  expect_code(store(elsewhere, shard_, owner_), core::Error::not_permitted);
  expect_code(store(lease(shard_), shard_, stranger_), core::Error::not_permitted);
  expect_code(store(lease(shard_, 1, core::Milliseconds{0}), shard_, owner_), core::Error::not_permitted);
  core::Envelope altered = core::sign_lease(lease(shard_), owner_);
  altered.signature.mutable_view()[5] ^= std::byte{4};
  expect_code(run(peer().store(altered, {shard_.source.bytes, nullptr, {}}, limits())), core::Error::not_permitted);
  EXPECT_EQ(status().shards, 0U);
}

TEST_P(PeerContract, LetsOnlyTheOwnerExtendOrEndALease) {
  const core::Lease first = lease(shard_, 5);
  ASSERT_TRUE(store(first, shard_, owner_));
  core::Lease theirs = lease(shard_, 6);
  theirs.owner = owner_id_of(stranger_);
  expect_code(store(theirs, shard_, stranger_), core::Error::not_permitted);
  expect_code(renew(theirs, stranger_), core::Error::not_permitted);
  expect_code(remove(shard_, stranger_, 9), core::Error::not_permitted);
  expect_code(remove(shard_, owner_, 4), core::Error::not_permitted);
  expect_code(renew(lease(shard_, 4, std::chrono::minutes(9)), owner_), core::Error::not_permitted);
  expect_whole(shard_);
}

TEST_P(PeerContract, RenewsForLongerAndForShorter) {
  ASSERT_TRUE(store(lease(shard_, 1, std::chrono::seconds(60)), shard_, owner_));
  const core::Lease longer = lease(shard_, 2, std::chrono::seconds(180));
  expect_receipt(renew(longer, owner_), core::ReceiptKind::renewed, longer);
  subject_->pass_time(std::chrono::seconds(100));
  expect_whole(shard_);
  const core::Lease shorter = lease(shard_, 3, std::chrono::seconds(10));
  expect_receipt(renew(shorter, owner_), core::ReceiptKind::renewed, shorter);
  subject_->pass_time(std::chrono::seconds(10));
  expect_code(fetch(shard_, 0, 1), core::Error::not_found);
}

TEST_P(PeerContract, StoringAgainRenews) {
  ASSERT_TRUE(store(lease(shard_, 1, std::chrono::seconds(10)), shard_, owner_));
  const core::Lease again = lease(shard_, 2, std::chrono::seconds(100));
  expect_receipt(store(again, shard_, owner_), core::ReceiptKind::stored, again);
  EXPECT_EQ(status().shards, 1U);
  EXPECT_EQ(status().used, shard_.bytes());
  subject_->pass_time(std::chrono::seconds(50));
  expect_whole(shard_);
}

TEST_P(PeerContract, ServesUntilTheDeadlineAndNotAtIt) {
  ASSERT_TRUE(store(lease(shard_, 1, core::Milliseconds{60'000}), shard_, owner_));
  const core::Instant deadline = subject_->node_now() + core::Milliseconds{60'000};
  subject_->pass_time(core::Milliseconds{50'000});
  expect_whole(shard_);
  subject_->pass_time(deadline - subject_->node_now());
  expect_code(fetch(shard_, 0, 1), core::Error::not_found);
  expect_code(prove(shard_, {0}), core::Error::not_found);
  expect_code(renew(lease(shard_, 2), owner_), core::Error::not_found);
  expect_code(remove(shard_, owner_), core::Error::not_found);
}

TEST_P(PeerContract, DeletesForTheOwner) {
  const core::Lease held = lease(shard_);
  ASSERT_TRUE(store(held, shard_, owner_));
  expect_receipt(remove(shard_, owner_), core::ReceiptKind::deleted, held);
  expect_code(fetch(shard_, 0, 1), core::Error::not_found);
  expect_code(remove(shard_, owner_), core::Error::not_found);
  EXPECT_EQ(status().used, 0U);
  EXPECT_TRUE(store(lease(shard_, 2), shard_, owner_));
}

TEST_P(PeerContract, ProvesThatItHoldsTheLeaves) {
  const core::Lease held = lease(shard_);
  ASSERT_TRUE(store(held, shard_, owner_));
  const std::vector<std::uint32_t> asked{10, 0, 3, 3};
  const auto proof = prove(shard_, asked);
  ASSERT_TRUE(proof) << proof.error();
  EXPECT_EQ(proof->shard_bytes, shard_.bytes());
  ASSERT_EQ(proof->leaves.size(), asked.size());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    EXPECT_TRUE(
        core::verify_range(shard_.id, shard_.bytes(), asked[i], proof->leaves[i].bytes.view(), proof->leaves[i].path));
  }
  expect_receipt(proof->receipt, core::ReceiptKind::served, held);
  expect_code(prove(shard_, {}), core::Error::invalid_argument);
  expect_code(prove(shard_, {11}), core::Error::invalid_argument);
  expect_code(prove(shard_, std::vector<std::uint32_t>(net::kChallengeLeavesMax + 1, 0)),
              core::Error::invalid_argument);
  EXPECT_TRUE(prove(shard_, std::vector<std::uint32_t>(net::kChallengeLeavesMax, 10)));
}

TEST_P(PeerContract, RefusesToExtendALeaseLateOrForAnother) {
  const core::Lease first = lease(shard_, 1, core::Milliseconds{5000});
  ASSERT_TRUE(store(first, shard_, owner_));
  core::Lease theirs = lease(shard_, 2, std::chrono::minutes(9));
  expect_code(renew(theirs, stranger_), core::Error::not_permitted);  // names the owner, and another signs
  theirs.owner = owner_id_of(stranger_);
  expect_code(renew(theirs, stranger_), core::Error::not_permitted);
  // Signed while there was time, and there too late.
  const core::Lease late = lease(shard_, 3, std::chrono::minutes(9));
  subject_->pass_time(core::Milliseconds{5000});
  expect_code(renew(late, owner_), core::Error::not_found);
  expect_code(fetch(shard_, 0, 1), core::Error::not_found);
}

TEST_P(PeerContract, KeepsReceiptsOfWhatItDeleted) {
  const SampleShard expiring = make_shard(random_, 5000);
  const core::Lease short_one = lease(expiring, 1, core::Milliseconds{5000});
  const core::Lease removed = lease(shard_, 1);
  ASSERT_TRUE(store(short_one, expiring, owner_));
  ASSERT_TRUE(store(removed, shard_, owner_));
  const SampleShard unknown = make_shard(random_, 10);
  const auto before = deletions({expiring.id, shard_.id, unknown.id}, owner_);
  ASSERT_TRUE(before) << before.error();
  EXPECT_TRUE(before->empty());

  ASSERT_TRUE(remove(shard_, owner_));
  subject_->pass_time(std::chrono::seconds(10));
  const auto kept = deletions({expiring.id, shard_.id, unknown.id, expiring.id}, owner_);
  ASSERT_TRUE(kept) << kept.error();
  ASSERT_EQ(kept->size(), 2U);
  for (const auto& envelope : *kept) {
    const auto receipt = core::open_receipt(envelope);
    ASSERT_TRUE(receipt) << receipt.error();
    expect_receipt(envelope, core::ReceiptKind::deleted, receipt->shard == shard_.id ? removed : short_one);
    EXPECT_LE(receipt->at, subject_->node_now());
    EXPECT_EQ(receipt->deadline.passed(receipt->at), receipt->shard == expiring.id);
  }
  const auto theirs = deletions({expiring.id, shard_.id}, stranger_);
  ASSERT_TRUE(theirs) << theirs.error();
  EXPECT_TRUE(theirs->empty()) << "receipts are for the owner";
}

TEST_P(PeerContract, TellsAnOwnerWhatItHoldsForHim) {
  std::map<core::ShardId, core::Lease> held;
  for (std::uint64_t i = 0; i < 5; ++i) {
    const SampleShard shard = make_shard(random_, 1000 + i);
    held[shard.id] = lease(shard, 7 + i);
    ASSERT_TRUE(store(held[shard.id], shard, owner_));
  }
  core::Lease theirs = lease(shard_);
  theirs.owner = owner_id_of(stranger_);
  ASSERT_TRUE(store(theirs, shard_, stranger_));
  core::ShardId after;
  for (auto from = held.begin(); from != held.end(); after = from->first, ++from) {
    const auto told = holdings(after, owner_);
    ASSERT_TRUE(told) << told.error();
    auto expected = from;
    for (const auto& holding : *told) {
      ASSERT_NE(expected, held.end());
      const core::Lease& one = (expected++)->second;
      EXPECT_EQ(holding, (net::Holding{one.shard, one.bytes, one.serial, one.deadline, true}));
    }
    EXPECT_EQ(expected, held.end());
  }
  EXPECT_TRUE(holdings(after, owner_)->empty());
  EXPECT_EQ(holdings({}, stranger_)->size(), 1U);
}

TEST_P(PeerContract, AnswersNoQuestionThatWasNotSignedForIt) {
  auto asked = inquiry(core::InquiryKind::deletions, {shard_.id}, owner_);
  expect_code(run(peer().holdings(asked, limits())), core::Error::not_permitted);
  asked.shards.push_back(shard_.id);
  expect_code(run(peer().deletions(asked, limits())), core::Error::not_permitted);
  asked = inquiry(core::InquiryKind::deletions, {shard_.id}, owner_);
  asked.order.signature.mutable_view()[3] ^= std::byte{1};
  expect_code(run(peer().deletions(asked, limits())), core::Error::not_permitted);
  core::Inquiry elsewhere;
  elsewhere.node = peer().id();
  elsewhere.node.mutable_view()[0] ^= std::byte{1};
  elsewhere.owner = owner_id_of(owner_);
  elsewhere.subject = core::subject_of(std::vector{shard_.id});
  asked = {core::sign_inquiry(elsewhere, owner_), {shard_.id}};
  expect_code(run(peer().deletions(asked, limits())), core::Error::not_permitted);
  expect_code(deletions({}, owner_), core::Error::invalid_argument);
  expect_code(deletions(std::vector<core::ShardId>(net::kInquiryShardsMax + 1, shard_.id), owner_),
              core::Error::invalid_argument);
}

TEST_P(PeerContract, ProvesNothingDamaged) {
  ASSERT_TRUE(store(shard_));
  subject_->damage(shard_.id);
  expect_code(fetch(shard_, 0, shard_.bytes(), true), core::Error::damaged);
  expect_code(fetch(shard_, 0, 1, true), core::Error::damaged);
  expect_code(prove(shard_, {0}), core::Error::damaged);
}

TEST_P(PeerContract, IsFullAtItsCapacity) {
  std::vector<SampleShard> shards;
  while ((shards.size() + 1) * net::kShardBytesMax <= kContractCapacity) {
    shards.push_back(make_shard(random_, net::kShardBytesMax));
    ASSERT_TRUE(store(shards.back()));
  }
  const SampleShard more = make_shard(random_, net::kShardBytesMax);
  expect_code(store(more), core::Error::no_space);
  expect_code(fetch(more, 0, 1), core::Error::not_found);
  ASSERT_TRUE(remove(shards.front(), owner_));
  EXPECT_TRUE(store(more));
}

TEST_P(PeerContract, EndsByItsLimits) {
  ASSERT_TRUE(store(shard_));
  net::CallLimits over{subject_->clock().boot_now(), {}};
  expect_code(run(peer().fetch({shard_.id, 0, 1, false}, over)), core::Error::timed_out);
  expect_code(run(peer().status(over)), core::Error::timed_out);
  std::stop_source stop;
  stop.request_stop();
  expect_code(run(peer().fetch({shard_.id, 0, 1, false}, limits(stop.get_token()))), core::Error::cancelled);
  expect_code(run(peer().status(limits(stop.get_token()))), core::Error::cancelled);
  expect_whole(shard_);
}

TEST_P(PeerContract, ServesManyAtOnce) {
  ASSERT_TRUE(store(shard_));
  std::size_t good = 0;
  subject_->run([&]() -> core::awaitable<void> {
    const auto executor = co_await core::asio::this_coro::executor;
    core::TaskGroup tasks;
    for (std::uint64_t i = 0; i < 200; ++i) {
      tasks.spawn(executor, [&, i]() -> core::awaitable<void> {
        net::FetchRequest request{shard_.id, i, 1000, false};
        const auto range = co_await peer().fetch(request, limits());
        if (range && std::ranges::equal(range->bytes.view(), shard_.source.bytes.view().subspan(i, 1000))) ++good;
      });
    }
    co_await tasks.join();
  });
  EXPECT_EQ(good, 200U);
}

/// A share as its owner makes it, for the contract.
struct SampleShare {
  core::ShareGrant grant;
  core::SharedBytes content;
  core::Hash token;
};

class ShareContract : public PeerContract {
 protected:
  SampleShare share(std::uint32_t fetches_max = 0, std::size_t bytes = 5000,
                    core::Milliseconds left = std::chrono::minutes(1)) {
    SampleShare made;
    made.content = core::SharedBytes::copy_of(random_.bytes(bytes));
    random_.fill(made.grant.share.mutable_view());
    random_.fill(made.token.mutable_view());
    made.grant.node = peer().id();
    made.grant.owner = owner_id_of(owner_);
    made.grant.deadline = core::Deadline(subject_->node_now() + left);
    made.grant.fetches_max = fetches_max;
    made.grant.token_hash = *core::Hash::from_bytes(core::sha256(made.token.view()).view());
    made.grant.content_hash = *core::Hash::from_bytes(core::sha256(made.content.view()).view());
    made.grant.content_bytes = bytes;
    return made;
  }
  Outcome<void> put(const SampleShare& made, const core::Signer& signer) {
    return run(peer().put_share(core::sign_share_grant(made.grant, signer), made.content, limits()));
  }
  Outcome<void> put(const SampleShare& made) { return put(made, owner_); }
  Outcome<net::TakenShare> take(const SampleShare& made) {
    return run(peer().take_share({made.grant.share, made.token}, limits()));
  }
  Outcome<void> drop(const SampleShare& made, const core::Signer& signer) {
    const core::ShareDrop order{made.grant.share, peer().id(), owner_id_of(signer)};
    return run(peer().drop_share(core::sign_share_drop(order, signer), limits()));
  }
};

TEST_P(ShareContract, GivesAShareToWhoeverBringsItsToken) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{70'000}, std::size_t{core::kShareBytesMax}}) {
    const SampleShare made = share(0, bytes);
    ASSERT_TRUE(put(made));
    EXPECT_TRUE(put(made)) << "the same again";
    for (int i = 0; i < 3; ++i) {
      const auto taken = take(made);
      ASSERT_TRUE(taken) << taken.error();
      EXPECT_TRUE(std::ranges::equal(taken->content.view(), made.content.view()));
      EXPECT_EQ(core::open_share_grant(taken->grant).value(), made.grant);
      EXPECT_EQ(taken->fetches_left, 0U);
    }
  }
}

TEST_P(ShareContract, CountsTakes) {
  const SampleShare made = share(3);
  ASSERT_TRUE(put(made));
  for (const std::uint32_t left : {2U, 1U, 0U}) {
    const auto taken = take(made);
    ASSERT_TRUE(taken) << taken.error();
    EXPECT_EQ(taken->fetches_left, left);
  }
  expect_code(take(made), core::Error::quota_exceeded);
  ASSERT_TRUE(put(made)) << "the same grant again does not begin anew";
  expect_code(take(made), core::Error::quota_exceeded);
}

TEST_P(ShareContract, GivesNothingForAnotherToken) {
  const SampleShare first = share(1);
  const SampleShare second = share(1);
  ASSERT_TRUE(put(first));
  ASSERT_TRUE(put(second));
  SampleShare guess = first;
  guess.token = second.token;
  expect_code(take(guess), core::Error::not_permitted);
  guess.token = {};
  expect_code(take(guess), core::Error::not_permitted);
  random_.fill(guess.grant.share.mutable_view());
  expect_code(take(guess), core::Error::not_found);
  EXPECT_TRUE(take(first)) << "a wrong token uses nothing up";
}

TEST_P(ShareContract, SlowsGuessesDown) {
  const SampleShare made = share();
  ASSERT_TRUE(put(made));
  SampleShare guess = made;
  for (int i = 0; i < 16; ++i) {
    random_.fill(guess.token.mutable_view());
    expect_code(take(guess), core::Error::not_permitted);
  }
  expect_code(take(guess), core::Error::busy);
  expect_code(take(made), core::Error::busy);
}

TEST_P(ShareContract, EndsAtTheDeadline) {
  const SampleShare made = share(0, 100, std::chrono::seconds(10));
  ASSERT_TRUE(put(made));
  subject_->pass_time(std::chrono::milliseconds(9'999));
  EXPECT_TRUE(take(made));
  subject_->pass_time(std::chrono::milliseconds(1));
  expect_code(take(made), core::Error::not_found);
  expect_code(put(made), core::Error::not_permitted);
}

TEST_P(ShareContract, RefusesWhatTheGrantDoesNotAllow) {
  SampleShare made = share();
  expect_code(put(made, stranger_), core::Error::not_permitted);
  const SampleShare elsewhere = [&] {
    SampleShare other = made;
    random_.fill(other.grant.node.mutable_view());
    return other;
  }();
  expect_code(put(elsewhere), core::Error::not_permitted);
  const SampleShare longer = share(0, 5001);
  expect_code(run(peer().put_share(core::sign_share_grant(made.grant, owner_), longer.content, limits())),
              core::Error::damaged);
  const SampleShare other = share();
  expect_code(run(peer().put_share(core::sign_share_grant(made.grant, owner_), other.content, limits())),
              core::Error::damaged);
  core::Envelope altered = core::sign_share_grant(made.grant, owner_);
  altered.signature.mutable_view()[3] ^= std::byte{1};
  expect_code(run(peer().put_share(altered, made.content, limits())), core::Error::not_permitted);
  expect_code(take(made), core::Error::not_found);
  ASSERT_TRUE(put(made));
  made.grant.fetches_max = 7;
  expect_code(put(made), core::Error::exists);
}

TEST_P(ShareContract, IsDroppedByItsOwnerOnly) {
  const SampleShare made = share();
  expect_code(drop(made, owner_), core::Error::not_found);
  ASSERT_TRUE(put(made));
  expect_code(drop(made, stranger_), core::Error::not_permitted);
  EXPECT_TRUE(take(made));
  EXPECT_TRUE(drop(made, owner_));
  expect_code(take(made), core::Error::not_found);
}

}  // namespace ephfs::testing
