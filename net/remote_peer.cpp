// SPDX-License-Identifier: Apache-2.0
#include "net/remote_peer.hpp"

#include <algorithm>
#include <unordered_set>

#include "core/profile.hpp"

namespace ephfs::net {

using core::Error;
using core::fail;

RemotePeer::RemotePeer(LinkContext context, Member member, LinkLimits limits, std::size_t sessions)
    : member_(std::move(member)) {
  EPHFS_CHECK(sessions > 0, "a remote peer has a session");
  for (std::size_t i = 0; i < sessions; ++i) links_.push_back(std::make_shared<Link>(context, member_, limits));
}

RemotePeer::~RemotePeer() {
  close();
}

void RemotePeer::close() {
  for (const auto& link : links_) link->close();
}

bool RemotePeer::reachable() const {
  return std::any_of(links_.begin(), links_.end(), [](const auto& link) { return link->promising(); });
}

awaitable<Result<Message>> RemotePeer::call(Message request, CallLimits limits) {
  static core::Probe probe("stage", "network");
  core::ProbeSpan span(probe);
  const std::size_t sent = request.payload.size();
  const auto link = links_[next_link_++ % links_.size()];
  EPHFS_CO_TRY(const auto session, co_await link->session(limits));
  auto reply = co_await session->call(std::move(request), std::move(limits));
  span.finish(sent + (reply ? reply->payload.size() : 0));
  co_return reply;
}

Result<core::Envelope> RemotePeer::checked(Result<core::Envelope> receipt, core::ReceiptKind kind,
                                           const core::ShardId& shard) const {
  if (!receipt) return receipt;
  const auto said = core::read_receipt(*receipt);
  if (!said || said->kind != kind || said->node != member_.id || said->shard != shard) {
    return fail(Error::protocol, "node " + member_.id.hex() + " gave no good receipt for shard " + shard.hex());
  }
  return receipt;
}

awaitable<Result<core::Envelope>> RemotePeer::store(core::Envelope lease, ShardSource shard, CallLimits limits) {
  if (shard.bytes.empty() || shard.bytes.size() > kShardBytesMax) {
    co_return fail(Error::invalid_argument, "a shard of " + std::to_string(shard.bytes.size()) + " bytes");
  }
  EPHFS_CO_TRY(const auto asked, core::read_lease(lease));  // the node checks who signed it
  Message request = pack_store(lease, std::move(shard.bytes));
  EPHFS_CO_TRY(const auto reply, co_await call(std::move(request), std::move(limits)));
  co_return checked(unpack_receipt(reply), core::ReceiptKind::stored, asked.shard);
}

awaitable<Result<core::Envelope>> RemotePeer::renew(core::Envelope lease, CallLimits limits) {
  EPHFS_CO_TRY(const auto asked, core::read_lease(lease));  // the node checks who signed it
  Message request = pack_renew(lease);
  EPHFS_CO_TRY(const auto reply, co_await call(std::move(request), std::move(limits)));
  co_return checked(unpack_receipt(reply), core::ReceiptKind::renewed, asked.shard);
}

awaitable<Result<core::Envelope>> RemotePeer::remove(core::Envelope removal, CallLimits limits) {
  EPHFS_CO_TRY(const auto asked, core::read_removal(removal));  // the node checks who signed it
  Message request = pack_remove(removal);
  EPHFS_CO_TRY(const auto reply, co_await call(std::move(request), std::move(limits)));
  co_return checked(unpack_receipt(reply), core::ReceiptKind::deleted, asked.shard);
}

awaitable<Result<ShardRange>> RemotePeer::fetch(FetchRequest request, CallLimits limits) {
  EPHFS_CO_TRY_VOID(check_range(request));
  Message message = pack_fetch(request);
  EPHFS_CO_TRY(const auto reply, co_await call(std::move(message), std::move(limits)));
  EPHFS_CO_TRY(auto range, unpack_range(reply, request));
  if (request.with_proof && !core::verify_range(request.shard, range.shard_bytes, range.offset / core::kLeafBytes,
                                                range.bytes.view(), range.proof)) {
    co_return fail(Error::damaged, "shard " + request.shard.hex() + " from node " + member_.id.hex());
  }
  co_return range;
}

awaitable<Result<Proof>> RemotePeer::prove(Challenge challenge, CallLimits limits) {
  EPHFS_CO_TRY_VOID(check_challenge(challenge));
  Message request = pack_challenge(challenge);
  EPHFS_CO_TRY(const auto reply, co_await call(std::move(request), std::move(limits)));
  EPHFS_CO_TRY(auto proof, unpack_proof(reply, challenge));
  for (std::size_t i = 0; i < proof.leaves.size(); ++i) {
    const auto& leaf = proof.leaves[i];
    if (!core::verify_range(challenge.shard, proof.shard_bytes, challenge.leaves[i], leaf.bytes.view(), leaf.path)) {
      co_return fail(Error::damaged, "leaf " + std::to_string(challenge.leaves[i]) + " of shard " +
                                         challenge.shard.hex() + " from node " + member_.id.hex());
    }
  }
  EPHFS_CO_TRY(proof.receipt, checked(std::move(proof.receipt), core::ReceiptKind::served, challenge.shard));
  co_return proof;
}

awaitable<Result<>> RemotePeer::put_share(core::Envelope grant, core::SharedBytes content, CallLimits limits) {
  if (content.empty() || content.size() > core::kShareBytesMax) {
    co_return fail(Error::invalid_argument, "a share of " + std::to_string(content.size()) + " bytes");
  }
  Message request = pack_put_share(grant, std::move(content));
  EPHFS_CO_TRY_VOID(co_await call(std::move(request), std::move(limits)));
  co_return Result<>();
}

awaitable<Result<TakenShare>> RemotePeer::take_share(ShareClaim claim, CallLimits limits) {
  Message request = pack_share_claim(claim);
  EPHFS_CO_TRY(const auto reply, co_await call(std::move(request), std::move(limits)));
  EPHFS_CO_TRY(auto share, unpack_taken_share(reply));
  EPHFS_CO_TRY(const auto grant, core::open_share_grant(share.grant));
  const auto hash = core::sha256(share.content.view());
  if (grant.share != claim.share || grant.node != member_.id || grant.content_bytes != share.content.size() ||
      !std::ranges::equal(grant.content_hash.view(), hash.view())) {
    co_return fail(Error::damaged, "the share that node " + member_.id.hex() + " gave");
  }
  co_return share;
}

awaitable<Result<>> RemotePeer::drop_share(core::Envelope drop, CallLimits limits) {
  Message request = pack_drop_share(drop);
  EPHFS_CO_TRY_VOID(co_await call(std::move(request), std::move(limits)));
  co_return Result<>();
}

awaitable<Result<NodeStatus>> RemotePeer::status(CallLimits limits) {
  Message request = pack_status_request();
  EPHFS_CO_TRY(const auto reply, co_await call(std::move(request), std::move(limits)));
  EPHFS_CO_TRY(auto status, unpack_status(reply));
  if (status.node != member_.id) co_return fail(Error::protocol, "the status of another node");
  co_return status;
}

awaitable<Result<std::vector<core::Envelope>>> RemotePeer::deletions(ShardInquiry inquiry, CallLimits limits) {
  EPHFS_CO_TRY_VOID(check_inquiry(inquiry));
  Message request = pack_inquiry(MessageKind::deletions, inquiry);
  EPHFS_CO_TRY(const auto reply, co_await call(std::move(request), std::move(limits)));
  EPHFS_CO_TRY(auto receipts, unpack_receipts(reply));
  std::unordered_set<core::ShardId> asked(inquiry.shards.begin(), inquiry.shards.end());
  for (const auto& receipt : receipts) {
    const auto said = core::read_receipt(receipt);
    if (!said || said->kind != core::ReceiptKind::deleted || said->node != member_.id ||
        asked.erase(said->shard) == 0) {
      co_return fail(Error::protocol, "node " + member_.id.hex() + " gave a deletion receipt that is none");
    }
  }
  co_return receipts;
}

awaitable<Result<std::vector<Holding>>> RemotePeer::holdings(ShardInquiry inquiry, CallLimits limits) {
  EPHFS_CO_TRY_VOID(check_inquiry(inquiry));
  Message request = pack_inquiry(MessageKind::holdings, inquiry);
  EPHFS_CO_TRY(const auto reply, co_await call(std::move(request), std::move(limits)));
  EPHFS_CO_TRY(auto holdings, unpack_holdings(reply));
  if (!holdings.empty() && holdings.front().shard <= inquiry.shards.front()) {
    co_return fail(Error::protocol, "node " + member_.id.hex() + " listed shards that were not asked about");
  }
  co_return holdings;
}

}  // namespace ephfs::net
