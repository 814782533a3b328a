// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_peer.hpp"

#include <algorithm>
#include <set>

namespace ephfs::testing {

using core::Error;
using core::fail;
using core::Result;

namespace {

Result<> replace(core::Lease& old, const core::Lease& lease) {
  if (old.owner != lease.owner || lease.bytes != old.bytes) return fail(Error::not_permitted, "another owner's shard");
  const bool same = lease.serial == old.serial && lease.deadline == old.deadline;
  if (lease.serial <= old.serial && !same) return fail(Error::not_permitted, "an older lease");
  old = lease;
  return {};
}

}  // namespace

FakePeer::FakePeer(core::Clock& clock, const core::SigningSeed& seed, std::uint64_t capacity, Wall wall)
    : clock_(clock),
      signer_(seed),
      id_(core::node_id_of(signer_.public_key())),
      capacity_(capacity),
      stopped_wall_(wall == Wall::stopped ? std::optional(clock.now()) : std::nullopt) {}

void FakePeer::set_delay(core::Nanoseconds delay) {
  const std::lock_guard lock(mutex_);
  delay_ = delay;
}

void FakePeer::fail_next(core::Failure failure) {
  const std::lock_guard lock(mutex_);
  failures_.push_back(std::move(failure));
}

bool FakePeer::damage(const core::ShardId& shard) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(shard);
  if (found == held_.end()) return false;
  found->second.bytes.front() ^= std::byte{1};
  return true;
}

void FakePeer::skip_wall(core::Milliseconds span) {
  const std::lock_guard lock(mutex_);
  skipped_ += span;
}

core::Instant FakePeer::wall_now() const {
  const std::lock_guard lock(mutex_);
  return now();
}

bool FakePeer::holds(const core::ShardId& shard) const {
  const std::lock_guard lock(mutex_);
  return held_.contains(shard);
}

std::size_t FakePeer::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

std::size_t FakePeer::calls_now() const {
  const std::lock_guard lock(mutex_);
  return now_;
}

std::size_t FakePeer::calls_at_once() const {
  const std::lock_guard lock(mutex_);
  return at_once_;
}

core::awaitable<Result<>> FakePeer::begin(net::CallLimits limits) {
  core::Nanoseconds delay{0};
  {
    const std::lock_guard lock(mutex_);
    ++calls_;
    at_once_ = std::max(at_once_, ++now_);
    delay = delay_;
  }
  if (delay > core::Nanoseconds{0}) {
    const core::Boottime done = clock_.boot_now() + delay;
    const core::Mailbox<char> stopped;
    std::function<void()> stop = [stopped] { stopped.post(0); };
    const std::stop_callback<std::function<void()>> on_stop(limits.stop, std::move(stop));
    (void)co_await stopped.receive_until(clock_, std::min(done, limits.until));
  }
  if (limits.stop.stop_requested()) co_return fail(Error::cancelled);
  if (clock_.boot_now() >= limits.until) co_return fail(Error::timed_out, "the fake peer is slow");
  const std::lock_guard lock(mutex_);
  if (failures_.empty()) co_return Result<>();
  const auto failure = std::move(failures_.front());
  failures_.pop_front();
  co_return failure;
}

void FakePeer::end() {
  const std::lock_guard lock(mutex_);
  --now_;
}

core::Instant FakePeer::now() const {
  return stopped_wall_.value_or(clock_.now()) + skipped_;
}

Result<FakePeer::Held*> FakePeer::live(const core::ShardId& shard) {
  const auto found = held_.find(shard);
  if (found == held_.end()) return fail(Error::not_found, "shard " + shard.hex());
  if (found->second.lease.deadline.passed(now())) {
    drop(shard);
    return fail(Error::not_found, "shard " + shard.hex());
  }
  return &found->second;
}

void FakePeer::drop(const core::ShardId& shard) {
  const auto found = held_.find(shard);
  deleted_.insert_or_assign(shard, sign(core::ReceiptKind::deleted, found->second.lease));
  used_ -= found->second.bytes.size();
  held_.erase(found);
}

void FakePeer::drop_expired() {
  std::vector<core::ShardId> gone;
  for (const auto& [shard, held] : held_) {
    if (held.lease.deadline.passed(now())) gone.push_back(shard);
  }
  for (const auto& shard : gone) drop(shard);
}

core::Envelope FakePeer::sign(core::ReceiptKind kind, const core::Lease& lease) const {
  core::Receipt receipt;
  receipt.kind = kind;
  receipt.shard = lease.shard;
  receipt.node = id_;
  receipt.owner = lease.owner;
  receipt.at = now();
  receipt.deadline = lease.deadline;
  receipt.bytes = lease.bytes;
  return core::sign_receipt(receipt, signer_);
}

FakePeer::Answer<core::Envelope> FakePeer::store(core::Envelope lease, net::ShardSource shard, net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  auto result = begun ? store_now(lease, shard) : Result<core::Envelope>(begun.error());
  end();
  co_return result;
}

FakePeer::Answer<net::ShardRange> FakePeer::fetch(net::FetchRequest request, net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  auto result = begun ? fetch_now(request) : Result<net::ShardRange>(begun.error());
  end();
  co_return result;
}

FakePeer::Answer<core::Envelope> FakePeer::renew(core::Envelope lease, net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  auto result = begun ? renew_now(lease) : Result<core::Envelope>(begun.error());
  end();
  co_return result;
}

FakePeer::Answer<core::Envelope> FakePeer::remove(core::Envelope removal, net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  auto result = begun ? remove_now(removal) : Result<core::Envelope>(begun.error());
  end();
  co_return result;
}

FakePeer::Answer<net::Proof> FakePeer::prove(net::Challenge challenge, net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  auto result = begun ? prove_now(challenge) : Result<net::Proof>(begun.error());
  end();
  co_return result;
}

FakePeer::Answer<net::NodeStatus> FakePeer::status(net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  end();
  if (!begun) co_return begun.error();
  const std::lock_guard lock(mutex_);
  co_return net::NodeStatus{id_, capacity_, used_, held_.size(), now()};
}

FakePeer::Answer<std::vector<core::Envelope>> FakePeer::deletions(net::ShardInquiry inquiry, net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  auto result = begun ? deletions_now(inquiry) : Result<std::vector<core::Envelope>>(begun.error());
  end();
  co_return result;
}

FakePeer::Answer<std::vector<net::Holding>> FakePeer::holdings(net::ShardInquiry inquiry, net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  auto result = begun ? holdings_now(inquiry) : Result<std::vector<net::Holding>>(begun.error());
  end();
  co_return result;
}

Result<core::OwnerId> FakePeer::owner_asking(const net::ShardInquiry& inquiry, core::InquiryKind kind) const {
  if (inquiry.shards.empty() || inquiry.shards.size() > net::kInquiryShardsMax) {
    return fail(Error::invalid_argument, "a question");
  }
  EPHFS_TRY(const core::Inquiry asked, core::open_inquiry(inquiry.order));
  if (asked.node != id_ || asked.kind != kind || asked.subject != core::subject_of(inquiry.shards)) {
    return fail(Error::not_permitted, "another question");
  }
  return asked.owner;
}

Result<std::vector<core::Envelope>> FakePeer::deletions_now(const net::ShardInquiry& inquiry) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY(const auto owner, owner_asking(inquiry, core::InquiryKind::deletions));
  drop_expired();
  std::vector<core::Envelope> receipts;
  for (const auto& shard : std::set<core::ShardId>(inquiry.shards.begin(), inquiry.shards.end())) {
    const auto found = deleted_.find(shard);
    if (found == deleted_.end()) continue;
    EPHFS_TRY(const auto receipt, core::read_receipt(found->second));
    if (receipt.owner == owner) receipts.push_back(found->second);
  }
  return receipts;
}

Result<std::vector<net::Holding>> FakePeer::holdings_now(const net::ShardInquiry& inquiry) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY(const auto owner, owner_asking(inquiry, core::InquiryKind::holdings));
  if (inquiry.shards.size() != 1) return fail(Error::invalid_argument, "a question");
  std::vector<net::Holding> holdings;
  for (const auto& [shard, held] : held_) {
    if (shard <= inquiry.shards.front() || held.lease.owner != owner || holdings.size() == net::kHoldingsMax) continue;
    holdings.push_back({shard, held.lease.bytes, held.lease.serial, held.lease.deadline, true});
  }
  return holdings;
}

Result<core::Envelope> FakePeer::store_now(const core::Envelope& envelope, const net::ShardSource& shard) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY(const core::Lease lease, core::open_lease(envelope));
  if (lease.node != id_) return fail(Error::not_permitted, "a lease for another node");
  if (lease.deadline.passed(now())) return fail(Error::not_permitted, "a lease that has ended");
  if (shard.bytes.empty() || shard.bytes.size() > net::kShardBytesMax) return fail(Error::invalid_argument, "a shard");
  auto tree = std::make_shared<const core::MerkleTree>(core::MerkleTree::of_data(shard.bytes.view()));
  if (tree->root() != lease.shard || shard.bytes.size() != lease.bytes) return fail(Error::damaged, "not the shard");
  if (const auto held = live(lease.shard)) {
    EPHFS_TRY_VOID(replace((*held)->lease, lease));
  } else {
    if (capacity_ - used_ < shard.bytes.size()) return fail(Error::no_space, "the fake peer is full");
    used_ += shard.bytes.size();
    held_.emplace(lease.shard, Held{lease, core::to_bytes(shard.bytes.view()), std::move(tree)});
  }
  return sign(core::ReceiptKind::stored, lease);
}

Result<net::ShardRange> FakePeer::fetch_now(const net::FetchRequest& request) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY(const Held* held, live(request.shard));
  const std::uint64_t size = held->bytes.size();
  if (request.length == 0 || request.offset > size || request.length > size - request.offset) {
    return fail(Error::invalid_argument, "a range outside the shard");
  }
  if (request.with_proof && core::MerkleTree::of_data(held->bytes).root() != request.shard) {
    return fail(Error::damaged, "the shard");
  }
  std::uint64_t first = request.offset;
  std::uint64_t last = request.offset + request.length;
  net::ShardRange range;
  if (request.with_proof) {
    first -= first % core::kLeafBytes;
    last = std::min((last + core::kLeafBytes - 1) / core::kLeafBytes * core::kLeafBytes, size);
    range.proof = held->tree->prove_range(first / core::kLeafBytes, core::leaf_count(last - first));
  }
  range.bytes = core::SharedBytes::copy_of(core::ByteView(held->bytes).subspan(first, last - first));
  range.offset = first;
  range.shard_bytes = size;
  return range;
}

Result<core::Envelope> FakePeer::renew_now(const core::Envelope& envelope) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY(const core::Lease lease, core::open_lease(envelope));
  if (lease.node != id_) return fail(Error::not_permitted, "a lease for another node");
  EPHFS_TRY(Held * held, live(lease.shard));
  EPHFS_TRY_VOID(replace(held->lease, lease));
  return sign(core::ReceiptKind::renewed, lease);
}

Result<core::Envelope> FakePeer::remove_now(const core::Envelope& envelope) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY(const core::Removal removal, core::open_removal(envelope));
  if (removal.node != id_) return fail(Error::not_permitted, "a removal for another node");
  EPHFS_TRY(const Held* held, live(removal.shard));
  if (held->lease.owner != removal.owner) return fail(Error::not_permitted, "another owner's shard");
  if (removal.serial < held->lease.serial) return fail(Error::not_permitted, "an older removal");
  drop(removal.shard);
  return deleted_.at(removal.shard);
}

Result<net::Proof> FakePeer::prove_now(const net::Challenge& challenge) {
  const std::lock_guard lock(mutex_);
  if (challenge.leaves.empty() || challenge.leaves.size() > net::kChallengeLeavesMax) {
    return fail(Error::invalid_argument, "a challenge");
  }
  EPHFS_TRY(const Held* held, live(challenge.shard));
  if (core::MerkleTree::of_data(held->bytes).root() != challenge.shard) return fail(Error::damaged, "the shard");
  net::Proof proof;
  proof.shard_bytes = held->bytes.size();
  for (const auto leaf : challenge.leaves) {
    if (leaf >= core::leaf_count(held->bytes.size())) return fail(Error::invalid_argument, "a leaf outside the shard");
    const std::size_t start = leaf * core::kLeafBytes;
    const std::size_t size = std::min(core::kLeafBytes, held->bytes.size() - start);
    proof.leaves.push_back({core::SharedBytes::copy_of(core::ByteView(held->bytes).subspan(start, size)),
                            held->tree->prove_range(leaf, 1)});
  }
  proof.receipt = sign(core::ReceiptKind::served, held->lease);
  return proof;
}

FakePeer::Answer<void> FakePeer::put_share(core::Envelope grant, core::SharedBytes content, net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  auto result = begun ? put_share_now(grant, std::move(content)) : begun;
  end();
  co_return result;
}

FakePeer::Answer<net::TakenShare> FakePeer::take_share(net::ShareClaim claim, net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  auto result = begun ? take_share_now(claim) : Result<net::TakenShare>(begun.error());
  end();
  co_return result;
}

FakePeer::Answer<void> FakePeer::drop_share(core::Envelope drop, net::CallLimits limits) {
  const auto begun = co_await begin(limits);
  auto result = begun ? drop_share_now(drop) : begun;
  end();
  co_return result;
}

Result<> FakePeer::put_share_now(const core::Envelope& envelope, core::SharedBytes content) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY(const auto grant, core::open_share_grant(envelope));
  if (grant.node != id_ || grant.deadline.passed(now())) return fail(Error::not_permitted, "a grant that is none here");
  const auto hash = core::sha256(content.view());
  if (content.size() != grant.content_bytes || !std::ranges::equal(hash.view(), grant.content_hash.view())) {
    return fail(Error::damaged, "not the share");
  }
  const auto [held, is_new] = shares_.try_emplace(grant.share, HeldShare{grant, envelope, std::move(content)});
  if (!is_new && held->second.envelope != envelope) return fail(Error::exists, "the share");
  return {};
}

Result<net::TakenShare> FakePeer::take_share_now(const net::ShareClaim& claim) {
  constexpr unsigned kWrongTokensMax = 16;
  const std::lock_guard lock(mutex_);
  const auto found = shares_.find(claim.share);
  if (found == shares_.end() || found->second.grant.deadline.passed(now())) return fail(Error::not_found, "the share");
  HeldShare& held = found->second;
  if (held.wrong_tokens >= kWrongTokensMax) return fail(Error::busy, "too many guesses");
  if (!std::ranges::equal(core::sha256(claim.token.view()).view(), held.grant.token_hash.view())) {
    ++held.wrong_tokens;
    return fail(Error::not_permitted, "a wrong token");
  }
  const std::uint32_t most = held.grant.fetches_max;
  if (most > 0 && held.taken >= most) return fail(Error::quota_exceeded, "the share");
  ++held.taken;
  return net::TakenShare{held.envelope, held.content, most > 0 ? most - held.taken : 0};
}

Result<> FakePeer::drop_share_now(const core::Envelope& envelope) {
  const std::lock_guard lock(mutex_);
  EPHFS_TRY(const auto drop, core::open_share_drop(envelope));
  if (drop.node != id_) return fail(Error::not_permitted, "an order for another node");
  const auto found = shares_.find(drop.share);
  if (found == shares_.end()) return fail(Error::not_found, "the share");
  if (found->second.grant.owner != drop.owner) return fail(Error::not_permitted, "another owner's share");
  shares_.erase(found);
  return {};
}

}  // namespace ephfs::testing
