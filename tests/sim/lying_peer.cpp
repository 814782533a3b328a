// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/lying_peer.hpp"

#include <algorithm>

namespace ephfs::sim {

using core::Error;
using core::fail;
using core::Result;
using testing::FakePeer;

namespace {

core::SharedBytes with_another_byte(const core::SharedBytes& bytes) {
  core::Bytes changed = core::to_bytes(bytes.view());
  changed[changed.size() / 2] ^= std::byte{1};
  return core::SharedBytes::copy_of(changed);
}

core::Signer signer_of(const core::SigningSeed& seed, std::byte change) {
  core::Bytes bytes = core::to_bytes(seed.view());
  bytes[0] ^= change;
  return core::Signer(core::SigningSeed::copy_of(bytes));
}

}  // namespace

const char* name_of(Lie lie) {
  switch (lie) {
    case Lie::none:
      return "none";
    case Lie::wrong_bytes:
      return "WrongBytes";
    case Lie::lost_at_once:
      return "LostAtOnce";
    case Lie::forged_receipts:
      return "ForgedReceipts";
    case Lie::kept_for_ever:
      return "KeptForEver";
  }
  return "";
}

LyingPeer::LyingPeer(core::Clock& clock, const core::SigningSeed& seed, std::uint64_t capacity, Lie lie)
    : clock_(clock),
      signer_(seed),
      stranger_(signer_of(seed, std::byte{1})),
      lie_(lie),
      honest_(clock, seed, capacity, lie == Lie::kept_for_ever ? FakePeer::Wall::stopped : FakePeer::Wall::of_clock) {}

bool LyingPeer::lies_about(const core::ShardId& shard) const {
  return (std::to_integer<unsigned>(shard.view()[0]) & 1U) != 0;
}

bool LyingPeer::has_lost(const core::ShardId& shard) const {
  return lie_ == Lie::lost_at_once && lies_about(shard);
}

bool LyingPeer::fails_audit_of(const core::ShardId& shard) const {
  return has_lost(shard) || (lie_ == Lie::wrong_bytes && lies_about(shard));
}

core::Receipt LyingPeer::receipt(core::ReceiptKind kind, const core::Lease& lease) const {
  core::Receipt receipt;
  receipt.kind = kind;
  receipt.shard = lease.shard;
  receipt.node = id();
  receipt.owner = lease.owner;
  receipt.at = clock_.now();
  receipt.deadline = lease.deadline;
  receipt.bytes = lease.bytes;
  return receipt;
}

/// One way after the other.
core::Envelope LyingPeer::forge(const core::Receipt& receipt) {
  core::Receipt said = receipt;
  core::Envelope envelope;
  switch (lies_told_++ % 5) {
    case 0:  // by somebody else, who calls himself by his own name
      said.node = core::node_id_of(stranger_.public_key());
      envelope = core::sign_receipt(said, stranger_);
      break;
    case 1:
      said.shard.mutable_view()[5] ^= std::byte{1};
      envelope = core::sign_receipt(said, signer_);
      break;
    case 2:
      said.kind = said.kind == core::ReceiptKind::served ? core::ReceiptKind::stored : core::ReceiptKind::served;
      envelope = core::sign_receipt(said, signer_);
      break;
    case 3:
      said.owner.mutable_view()[5] ^= std::byte{1};
      envelope = core::sign_receipt(said, signer_);
      break;
    default:
      envelope = core::sign_receipt(said, signer_);
      envelope.signature.mutable_view()[5] ^= std::byte{1};
      break;
  }
  forged_.insert(envelope.serialize());
  return envelope;
}

Result<core::Envelope> LyingPeer::maybe_forged(Result<core::Envelope> answer) {
  if (!answer || lie_ != Lie::forged_receipts) return answer;
  EPHFS_TRY(const auto receipt, core::read_receipt(*answer));
  if (!lies_about(receipt.shard)) return answer;
  return forge(receipt);
}

LyingPeer::Answer<core::Envelope> LyingPeer::store(core::Envelope lease, net::ShardSource shard,
                                                   net::CallLimits limits) {
  const auto asked = core::open_lease(lease);
  if (asked && has_lost(asked->shard)) {
    ++lies_told_;
    lost_[asked->shard] = *asked;
    removed_.erase(asked->shard);
    co_return core::sign_receipt(receipt(core::ReceiptKind::stored, *asked), signer_);
  }
  auto answer = co_await honest_.store(std::move(lease), std::move(shard), std::move(limits));
  co_return maybe_forged(std::move(answer));
}

LyingPeer::Answer<core::Envelope> LyingPeer::renew(core::Envelope lease, net::CallLimits limits) {
  const auto asked = core::open_lease(lease);
  if (asked && lost_.contains(asked->shard)) {
    lost_[asked->shard] = *asked;
    co_return core::sign_receipt(receipt(core::ReceiptKind::renewed, *asked), signer_);
  }
  auto answer = co_await honest_.renew(std::move(lease), std::move(limits));
  co_return maybe_forged(std::move(answer));
}

LyingPeer::Answer<core::Envelope> LyingPeer::remove(core::Envelope removal, net::CallLimits limits) {
  const auto asked = core::open_removal(removal);
  if (asked) {
    if (auto lost = lost_.extract(asked->shard)) {
      removed_[asked->shard] = lost.mapped();
      co_return core::sign_receipt(receipt(core::ReceiptKind::deleted, lost.mapped()), signer_);
    }
  }
  auto answer = co_await honest_.remove(std::move(removal), std::move(limits));
  co_return maybe_forged(std::move(answer));
}

LyingPeer::Answer<net::ShardRange> LyingPeer::fetch(net::FetchRequest request, net::CallLimits limits) {
  if (has_lost(request.shard)) co_return fail(Error::not_found, "shard " + request.shard.hex());
  auto range = co_await honest_.fetch(request, std::move(limits));
  if (range && lie_ == Lie::wrong_bytes && lies_about(request.shard)) {
    ++lies_told_;
    range->bytes = with_another_byte(range->bytes);
  }
  co_return range;
}

LyingPeer::Answer<net::Proof> LyingPeer::prove(net::Challenge challenge, net::CallLimits limits) {
  const core::ShardId shard = challenge.shard;
  if (has_lost(shard)) co_return fail(Error::not_found, "shard " + shard.hex());
  auto proof = co_await honest_.prove(std::move(challenge), std::move(limits));
  if (proof && lie_ == Lie::wrong_bytes && lies_about(shard)) {
    ++lies_told_;
    for (auto& leaf : proof->leaves) leaf.bytes = with_another_byte(leaf.bytes);
  }
  co_return proof;
}

LyingPeer::Answer<net::NodeStatus> LyingPeer::status(net::CallLimits limits) {
  auto status = co_await honest_.status(std::move(limits));
  co_return status;
}

LyingPeer::Answer<std::vector<core::Envelope>> LyingPeer::deletions(net::ShardInquiry inquiry, net::CallLimits limits) {
  const auto shards = inquiry.shards;
  auto answer = co_await honest_.deletions(std::move(inquiry), std::move(limits));
  if (!answer) co_return answer;
  for (const auto& shard : shards) {
    const auto ended = lost_.find(shard);
    if (ended != lost_.end() && ended->second.deadline.passed(clock_.now())) removed_.insert(lost_.extract(ended));
    const auto removed = removed_.find(shard);
    if (removed == removed_.end()) continue;
    ++lies_told_;
    answer->push_back(core::sign_receipt(receipt(core::ReceiptKind::deleted, removed->second), signer_));
  }
  if (lie_ == Lie::forged_receipts) {
    for (auto& envelope : *answer) {
      auto said = maybe_forged(std::move(envelope));
      if (!said) co_return said.error();
      envelope = *std::move(said);
    }
  }
  co_return answer;
}

LyingPeer::Answer<std::vector<net::Holding>> LyingPeer::holdings(net::ShardInquiry inquiry, net::CallLimits limits) {
  const auto after = inquiry.shards.front();
  auto answer = co_await honest_.holdings(std::move(inquiry), std::move(limits));
  if (!answer) co_return answer;
  for (const auto& [shard, lease] : lost_) {
    if (shard > after) answer->push_back({shard, lease.bytes, lease.serial, lease.deadline, true});
  }
  std::ranges::sort(*answer, {}, &net::Holding::shard);
  if (answer->size() > net::kHoldingsMax) answer->resize(net::kHoldingsMax);
  co_return answer;
}

}  // namespace ephfs::sim
