// SPDX-License-Identifier: Apache-2.0
#include "net/wire.hpp"

#include <algorithm>
#include <array>

#include "net/messages.pb.h"
#include "net/transport.hpp"
#include "net/wire_parts.hpp"

namespace ephfs::net {
namespace {

using core::Error;
using core::fail;
using core::Failure;
using wire::malformed;
using wire::parse;
using wire::parse_envelope;
using wire::parse_id;
using wire::serialize;
using wire::text_of;

constexpr std::size_t kMemberListBytesMax = kMembersMax * (kAddressBytesMax + 64);
static_assert(kMemberListBytesMax <= kPayloadBytesMax);
static_assert(kShardBytesMax <= kPayloadBytesMax);
static_assert(core::kShareBytesMax <= kPayloadBytesMax);
static_assert(kChallengeLeavesMax * core::kLeafBytes <= kPayloadBytesMax);

std::string join_hashes(const std::vector<core::Hash>& hashes) {
  std::string joined;
  joined.reserve(hashes.size() * core::Hash::kSize);
  for (const auto& hash : hashes) joined += core::as_text(hash.view());
  return joined;
}

Result<std::vector<core::Hash>> split_hashes(const std::string& joined) {
  if (joined.size() % core::Hash::kSize != 0 || joined.size() / core::Hash::kSize > kProofHashesMax) {
    return malformed("a proof");
  }
  std::vector<core::Hash> hashes;
  hashes.reserve(joined.size() / core::Hash::kSize);
  for (std::size_t at = 0; at < joined.size(); at += core::Hash::kSize) {
    hashes.push_back(*core::Hash::from_bytes(core::as_bytes(joined).subspan(at, core::Hash::kSize)));
  }
  return hashes;
}

// Addresses and agents are shown to people and written to files: printable ASCII only.
bool is_plain_text(std::string_view text, std::size_t limit) {
  return text.size() <= limit && std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

core::SharedBytes pack_member_list(const std::vector<Member>& members) {
  pb::MemberList list;
  for (const auto& member : members) {
    auto* entry = list.add_members();
    entry->set_id(member.id.text());
    entry->set_address(member.address);
  }
  core::Buffer buffer(list.ByteSizeLong());
  EPHFS_CHECK(list.SerializeToArray(buffer.data(), static_cast<int>(buffer.size())), "a list of ours serializes");
  return core::SharedBytes(std::move(buffer));
}

Result<std::vector<Member>> unpack_member_list(const core::SharedBytes& payload) {
  EPHFS_TRY(const auto list, parse<pb::MemberList>(payload.view(), "a member list", kMemberListBytesMax));
  if (static_cast<std::size_t>(list.members_size()) > kMembersMax) return malformed("a member list");
  std::vector<Member> members;
  members.reserve(static_cast<std::size_t>(list.members_size()));
  for (const auto& entry : list.members()) {
    EPHFS_TRY(auto id, parse_id<core::NodeId>(entry.id(), "a member's id"));
    if (!is_plain_text(entry.address(), kAddressBytesMax)) return malformed("a member's address");
    members.push_back({id, entry.address()});
  }
  return members;
}

struct CodeName {
  Error code;
  std::string_view name;
};
constexpr std::array kCodeNames{
    CodeName{Error::invalid_argument, "invalid_argument"},
    CodeName{Error::not_found, "not_found"},
    CodeName{Error::exists, "exists"},
    CodeName{Error::not_permitted, "not_permitted"},
    CodeName{Error::no_space, "no_space"},
    CodeName{Error::quota_exceeded, "quota_exceeded"},
    CodeName{Error::not_supported, "not_supported"},
    CodeName{Error::busy, "busy"},
    CodeName{Error::timed_out, "timed_out"},
    CodeName{Error::damaged, "damaged"},
    CodeName{Error::version, "version"},
    CodeName{Error::io, "io"},
    CodeName{Error::protocol, "protocol"},
    // What a node that is stopping says of what it was doing.
    CodeName{Error::unreachable, "stopping"},
};

}  // namespace

core::Bytes pack_packet(const Packet& packet) {
  pb::Packet proto;
  proto.set_kind(static_cast<std::uint32_t>(packet.kind));
  proto.set_id(packet.id);
  proto.set_budget_ms(packet.budget_ms);
  proto.set_body(packet.body.data(), packet.body.size());
  return serialize(proto);
}

Result<Packet> unpack_packet(core::ByteView header) {
  EPHFS_TRY(const auto proto, parse<pb::Packet>(header, "a packet"));
  return Packet{static_cast<MessageKind>(proto.kind()), proto.id(), proto.budget_ms(),
                core::to_bytes(core::as_bytes(proto.body()))};
}

core::Bytes pack_failure(const Failure& failure) {
  const Error code = failure.code == Error::cancelled ? Error::unreachable : failure.code;
  const auto row = std::find_if(kCodeNames.begin(), kCodeNames.end(), [&](auto& r) { return r.code == code; });
  pb::Failure proto;
  proto.set_code(std::string(row == kCodeNames.end() ? "protocol" : row->name));
  proto.set_detail(failure.detail.substr(0, kFailureDetailBytesMax));
  return serialize(proto);
}

Failure unpack_failure(core::ByteView body) {
  const auto proto = parse<pb::Failure>(body, "a failure");
  if (!proto) return proto.error();
  const auto row = std::find_if(kCodeNames.begin(), kCodeNames.end(), [&](auto& r) { return r.name == proto->code(); });
  std::string detail = proto->detail().substr(0, kFailureDetailBytesMax);
  std::replace_if(
      detail.begin(), detail.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return fail(row == kCodeNames.end() ? Error::protocol : row->code, std::move(detail));
}

Message pack_hello(const Hello& hello) {
  pb::Hello proto;
  proto.set_version(hello.version);
  if (!hello.pool.is_zero()) proto.set_pool(hello.pool.text());
  proto.set_agent(hello.agent.substr(0, kAgentBytesMax));
  return {MessageKind::hello, serialize(proto), pack_member_list(hello.members)};
}

Result<Hello> unpack_hello(const Message& message, std::uint32_t ours) {
  EPHFS_TRY(const auto proto, parse<pb::Hello>(message.body, "a hello"));
  if (proto.version() != ours) {
    return fail(Error::version, "the other end speaks version " + std::to_string(proto.version()) +
                                    " of the protocol, this end version " + std::to_string(ours));
  }
  Hello hello;
  hello.version = proto.version();
  if (!proto.pool().empty()) {
    EPHFS_TRY(hello.pool, parse_id<core::PoolId>(proto.pool(), "a pool's id"));
  }
  if (!is_plain_text(proto.agent(), kAgentBytesMax)) return malformed("an agent's name");
  hello.agent = proto.agent();
  EPHFS_TRY(hello.members, unpack_member_list(message.payload));
  return hello;
}

Message pack_store(const core::Envelope& lease, core::SharedBytes shard) {
  pb::Store proto;
  proto.set_lease(text_of(lease.serialize()));
  return {MessageKind::store, serialize(proto), std::move(shard)};
}

Result<core::Envelope> unpack_store(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::Store>(message.body, "a store request"));
  if (message.payload.empty() || message.payload.size() > kShardBytesMax) return malformed("a shard");
  return parse_envelope(proto.lease());
}

Message pack_renew(const core::Envelope& lease) {
  pb::Renew proto;
  proto.set_lease(text_of(lease.serialize()));
  return {MessageKind::renew, serialize(proto), {}};
}

Result<core::Envelope> unpack_renew(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::Renew>(message.body, "a renew request"));
  return parse_envelope(proto.lease());
}

Message pack_remove(const core::Envelope& removal) {
  pb::Remove proto;
  proto.set_removal(text_of(removal.serialize()));
  return {MessageKind::remove, serialize(proto), {}};
}

Result<core::Envelope> unpack_remove(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::Remove>(message.body, "a remove request"));
  return parse_envelope(proto.removal());
}

Message pack_receipt(const core::Envelope& receipt) {
  pb::ReceiptReply proto;
  proto.set_receipt(text_of(receipt.serialize()));
  return {MessageKind::reply, serialize(proto), {}};
}

Result<core::Envelope> unpack_receipt(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::ReceiptReply>(message.body, "a receipt"));
  return parse_envelope(proto.receipt());
}

Result<> check_range(const FetchRequest& request) {
  if (request.length == 0 || request.length > kShardBytesMax || request.offset > kShardBytesMax) {
    return fail(Error::invalid_argument, "a range of shard " + request.shard.hex() + " that no shard has");
  }
  return {};
}

Result<> check_challenge(const Challenge& challenge) {
  if (challenge.leaves.empty() || challenge.leaves.size() > kChallengeLeavesMax) {
    return fail(Error::invalid_argument, "a challenge of " + std::to_string(challenge.leaves.size()) + " leaves");
  }
  return {};
}

Message pack_fetch(const FetchRequest& request) {
  pb::Fetch proto;
  proto.set_shard(request.shard.text());
  proto.set_offset(request.offset);
  proto.set_length(request.length);
  proto.set_with_proof(request.with_proof);
  return {MessageKind::fetch, serialize(proto), {}};
}

Result<FetchRequest> unpack_fetch(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::Fetch>(message.body, "a fetch request"));
  FetchRequest request;
  EPHFS_TRY(request.shard, parse_id<core::ShardId>(proto.shard(), "a shard's id"));
  request.offset = proto.offset();
  request.length = proto.length();
  request.with_proof = proto.with_proof();
  EPHFS_TRY_VOID(check_range(request));
  return request;
}

Message pack_range(const ShardRange& range) {
  pb::FetchReply proto;
  proto.set_offset(range.offset);
  proto.set_shard_bytes(range.shard_bytes);
  proto.set_proof(join_hashes(range.proof));
  return {MessageKind::reply, serialize(proto), range.bytes};
}

Result<ShardRange> unpack_range(const Message& message, const FetchRequest& request) {
  EPHFS_TRY(const auto proto, parse<pb::FetchReply>(message.body, "a shard range"));
  ShardRange range;
  range.bytes = message.payload;
  range.offset = proto.offset();
  range.shard_bytes = proto.shard_bytes();
  EPHFS_TRY(range.proof, split_hashes(proto.proof()));
  if (range.shard_bytes == 0 || range.shard_bytes > kShardBytesMax) return malformed("a shard's length");

  std::uint64_t first = request.offset;
  std::uint64_t last = request.offset + request.length;
  if (request.with_proof) {
    first -= first % core::kLeafBytes;
    last = std::min((last + core::kLeafBytes - 1) / core::kLeafBytes * core::kLeafBytes, range.shard_bytes);
  }
  if (request.offset + request.length > range.shard_bytes || range.offset != first ||
      range.bytes.size() != last - first || (!request.with_proof && !range.proof.empty())) {
    return fail(Error::protocol, "another range of shard " + request.shard.hex() + " than was asked for");
  }
  return range;
}

Message pack_challenge(const Challenge& challenge) {
  pb::Prove proto;
  proto.set_shard(challenge.shard.text());
  proto.set_nonce(challenge.nonce.text());
  for (const auto leaf : challenge.leaves) proto.add_leaves(leaf);
  return {MessageKind::prove, serialize(proto), {}};
}

Result<Challenge> unpack_challenge(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::Prove>(message.body, "a challenge"));
  Challenge challenge;
  EPHFS_TRY(challenge.shard, parse_id<core::ShardId>(proto.shard(), "a shard's id"));
  EPHFS_TRY(challenge.nonce, parse_id<core::Hash>(proto.nonce(), "a nonce"));
  challenge.leaves.assign(proto.leaves().begin(), proto.leaves().end());
  EPHFS_TRY_VOID(check_challenge(challenge));
  return challenge;
}

Message pack_proof(const Proof& proof) {
  pb::ProveReply proto;
  std::size_t total = 0;
  for (const auto& leaf : proof.leaves) {
    auto* entry = proto.add_leaves();
    entry->set_bytes(static_cast<std::uint32_t>(leaf.bytes.size()));
    entry->set_path(join_hashes(leaf.path));
    total += leaf.bytes.size();
  }
  proto.set_shard_bytes(proof.shard_bytes);
  proto.set_receipt(text_of(proof.receipt.serialize()));
  core::Buffer payload(total);
  std::size_t at = 0;
  for (const auto& leaf : proof.leaves) {
    std::copy_n(leaf.bytes.data(), leaf.bytes.size(), payload.data() + at);
    at += leaf.bytes.size();
  }
  return {MessageKind::reply, serialize(proto), core::SharedBytes(std::move(payload))};
}

Result<Proof> unpack_proof(const Message& message, const Challenge& challenge) {
  EPHFS_TRY(const auto proto, parse<pb::ProveReply>(message.body, "a proof"));
  Proof proof;
  proof.shard_bytes = proto.shard_bytes();
  if (proof.shard_bytes == 0 || proof.shard_bytes > kShardBytesMax) return malformed("a shard's length");
  if (static_cast<std::size_t>(proto.leaves_size()) != challenge.leaves.size()) return malformed("a proof");
  std::size_t at = 0;
  for (int i = 0; i < proto.leaves_size(); ++i) {
    const auto& entry = proto.leaves(i);
    const std::uint64_t start = std::uint64_t{challenge.leaves[static_cast<std::size_t>(i)]} * core::kLeafBytes;
    if (start >= proof.shard_bytes ||
        entry.bytes() != std::min<std::uint64_t>(core::kLeafBytes, proof.shard_bytes - start) ||
        entry.bytes() > message.payload.size() - at) {
      return malformed("a proven leaf");
    }
    ProvenLeaf leaf;
    leaf.bytes = message.payload.slice(at, entry.bytes());
    EPHFS_TRY(leaf.path, split_hashes(entry.path()));
    proof.leaves.push_back(std::move(leaf));
    at += entry.bytes();
  }
  if (at != message.payload.size()) return malformed("a proof's payload");
  EPHFS_TRY(proof.receipt, parse_envelope(proto.receipt()));
  return proof;
}

Message pack_status_request() {
  return {MessageKind::status, {}, {}};
}

Message pack_status(const NodeStatus& status) {
  pb::StatusReply proto;
  proto.set_node(status.node.text());
  proto.set_capacity(status.capacity);
  proto.set_used(status.used);
  proto.set_shards(status.shards);
  proto.set_now_ms(status.now.ms);
  return {MessageKind::reply, serialize(proto), {}};
}

Result<NodeStatus> unpack_status(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::StatusReply>(message.body, "a status"));
  NodeStatus status;
  EPHFS_TRY(status.node, parse_id<core::NodeId>(proto.node(), "a node's id"));
  status.capacity = proto.capacity();
  status.used = proto.used();
  status.shards = proto.shards();
  if (proto.now_ms() < 0 || proto.now_ms() > core::kInstantMax.ms) return malformed("a node's time");
  status.now = core::Instant{proto.now_ms()};
  return status;
}

Message pack_put_share(const core::Envelope& grant, core::SharedBytes content) {
  pb::PutShare proto;
  proto.set_grant(text_of(grant.serialize()));
  return {MessageKind::put_share, serialize(proto), std::move(content)};
}

Result<core::Envelope> unpack_put_share(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::PutShare>(message.body, "a share"));
  if (message.payload.empty() || message.payload.size() > core::kShareBytesMax) return malformed("a share's content");
  return parse_envelope(proto.grant());
}

Message pack_share_claim(const ShareClaim& claim) {
  pb::TakeShare proto;
  proto.set_share(claim.share.text());
  proto.set_token(claim.token.text());
  return {MessageKind::take_share, serialize(proto), {}};
}

Result<ShareClaim> unpack_share_claim(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::TakeShare>(message.body, "a claim of a share"));
  ShareClaim claim;
  EPHFS_TRY(claim.share, parse_id<core::ShareId>(proto.share(), "a share's id"));
  EPHFS_TRY(claim.token, parse_id<core::Hash>(proto.token(), "a share's token"));
  return claim;
}

Message pack_taken_share(const TakenShare& share) {
  pb::TakeShareReply proto;
  proto.set_grant(text_of(share.grant.serialize()));
  proto.set_fetches_left(share.fetches_left);
  return {MessageKind::reply, serialize(proto), share.content};
}

Result<TakenShare> unpack_taken_share(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::TakeShareReply>(message.body, "a share"));
  if (message.payload.empty() || message.payload.size() > core::kShareBytesMax) return malformed("a share's content");
  if (proto.fetches_left() > core::kShareFetchesMax) return malformed("a share's count");
  TakenShare share;
  EPHFS_TRY(share.grant, parse_envelope(proto.grant()));
  share.content = message.payload;
  share.fetches_left = proto.fetches_left();
  return share;
}

Message pack_drop_share(const core::Envelope& drop) {
  pb::DropShare proto;
  proto.set_drop(text_of(drop.serialize()));
  return {MessageKind::drop_share, serialize(proto), {}};
}

Result<core::Envelope> unpack_drop_share(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::DropShare>(message.body, "an order to drop a share"));
  return parse_envelope(proto.drop());
}

Message pack_join(const JoinRequest& request) {
  pb::Join proto;
  proto.set_secret(text_of(request.secret));
  proto.set_address(request.address);
  return {MessageKind::join, serialize(proto), {}};
}

Result<JoinRequest> unpack_join(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::Join>(message.body, "a join request"));
  if (proto.secret().size() != kJoinSecretBytes) return malformed("an invitation's secret");
  if (!is_plain_text(proto.address(), kAddressBytesMax)) return malformed("a member's address");
  return JoinRequest{core::to_bytes(core::as_bytes(proto.secret())), proto.address()};
}

Message pack_join_reply(const JoinReply& reply) {
  pb::JoinReply proto;
  proto.set_pool(reply.pool.text());
  return {MessageKind::reply, serialize(proto), pack_member_list(reply.members)};
}

Result<JoinReply> unpack_join_reply(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::JoinReply>(message.body, "a join reply"));
  JoinReply reply;
  EPHFS_TRY(reply.pool, parse_id<core::PoolId>(proto.pool(), "a pool's id"));
  EPHFS_TRY(reply.members, unpack_member_list(message.payload));
  return reply;
}

Message pack_members(const std::vector<Member>& members) {
  return {MessageKind::members, {}, pack_member_list(members)};
}

Result<std::vector<Member>> unpack_members(const Message& message) {
  return unpack_member_list(message.payload);
}

}  // namespace ephfs::net
