// SPDX-License-Identifier: Apache-2.0
// Conversion between values and the protobuf messages of net/messages.proto. Packing cannot fail: what is packed is our
// own. Unpacking trusts nothing: lengths, counts, ranges and texts are checked, and what is wrong is Error::protocol.
#pragma once

#include "core/bytes.hpp"
#include "core/records.hpp"
#include "core/result.hpp"
#include "net/message.hpp"
#include "net/peer.hpp"

namespace ephfs::net {

constexpr std::size_t kAddressBytesMax = 255;
constexpr std::size_t kAgentBytesMax = 64;
constexpr std::size_t kFailureDetailBytesMax = 512;
constexpr std::size_t kJoinSecretBytes = 16;
constexpr std::size_t kProofHashesMax = 64;

/// The header of a frame.
struct Packet {
  MessageKind kind = MessageKind::ping;
  std::uint64_t id = 0;
  std::uint64_t budget_ms = 0;
  core::Bytes body;
};
[[nodiscard]] core::Bytes pack_packet(const Packet& packet);
[[nodiscard]] Result<Packet> unpack_packet(core::ByteView header);

/// Failures travel by the name of their code. A peer's failure keeps its code where the code says something about the
/// request; a peer that is stopping is unreachable; every other code is protocol.
[[nodiscard]] core::Bytes pack_failure(const core::Failure& failure);
[[nodiscard]] core::Failure unpack_failure(core::ByteView body);

[[nodiscard]] Message pack_hello(const Hello& hello);
/// version, with both numbers, when the hello is of another version than `ours`: nothing else of it is looked at then.
[[nodiscard]] Result<Hello> unpack_hello(const Message& message, std::uint32_t ours);

[[nodiscard]] Message pack_store(const core::Envelope& lease, core::SharedBytes shard);
[[nodiscard]] Result<core::Envelope> unpack_store(const Message& message);
[[nodiscard]] Message pack_renew(const core::Envelope& lease);
[[nodiscard]] Result<core::Envelope> unpack_renew(const Message& message);
[[nodiscard]] Message pack_remove(const core::Envelope& removal);
[[nodiscard]] Result<core::Envelope> unpack_remove(const Message& message);
[[nodiscard]] Message pack_receipt(const core::Envelope& receipt);
[[nodiscard]] Result<core::Envelope> unpack_receipt(const Message& message);

/// invalid_argument for a range that no shard has, or a challenge of no leaves or too many.
[[nodiscard]] Result<> check_range(const FetchRequest& request);
[[nodiscard]] Result<> check_challenge(const Challenge& challenge);

[[nodiscard]] Message pack_fetch(const FetchRequest& request);
[[nodiscard]] Result<FetchRequest> unpack_fetch(const Message& message);
[[nodiscard]] Message pack_range(const ShardRange& range);
/// A range that answers `request`: exactly its bytes, or with proof the whole leaves around them.
[[nodiscard]] Result<ShardRange> unpack_range(const Message& message, const FetchRequest& request);

[[nodiscard]] Message pack_challenge(const Challenge& challenge);
[[nodiscard]] Result<Challenge> unpack_challenge(const Message& message);
[[nodiscard]] Message pack_proof(const Proof& proof);
/// A proof of as many leaves as `challenge` asks for, each of the length it has in a shard of that many bytes.
[[nodiscard]] Result<Proof> unpack_proof(const Message& message, const Challenge& challenge);

[[nodiscard]] Message pack_status_request();
[[nodiscard]] Message pack_status(const NodeStatus& status);
[[nodiscard]] Result<NodeStatus> unpack_status(const Message& message);

/// invalid_argument for a question about no shards, or too many.
[[nodiscard]] Result<> check_inquiry(const ShardInquiry& inquiry);
/// `kind` is deletions or holdings.
[[nodiscard]] Message pack_inquiry(MessageKind kind, const ShardInquiry& inquiry);
[[nodiscard]] Result<ShardInquiry> unpack_inquiry(const Message& message);
[[nodiscard]] Message pack_receipts(const std::vector<core::Envelope>& receipts);
[[nodiscard]] Result<std::vector<core::Envelope>> unpack_receipts(const Message& message);
[[nodiscard]] Message pack_holdings(const std::vector<Holding>& holdings);
/// At most kHoldingsMax, by rising id.
[[nodiscard]] Result<std::vector<Holding>> unpack_holdings(const Message& message);

[[nodiscard]] Message pack_put_share(const core::Envelope& grant, core::SharedBytes content);
[[nodiscard]] Result<core::Envelope> unpack_put_share(const Message& message);
[[nodiscard]] Message pack_share_claim(const ShareClaim& claim);
[[nodiscard]] Result<ShareClaim> unpack_share_claim(const Message& message);
[[nodiscard]] Message pack_taken_share(const TakenShare& share);
[[nodiscard]] Result<TakenShare> unpack_taken_share(const Message& message);
[[nodiscard]] Message pack_drop_share(const core::Envelope& drop);
[[nodiscard]] Result<core::Envelope> unpack_drop_share(const Message& message);

struct JoinRequest {
  core::Bytes secret;   // kJoinSecretBytes
  std::string address;  // empty for one that does not listen
};
struct JoinReply {
  core::PoolId pool;
  std::vector<Member> members;
};
[[nodiscard]] Message pack_join(const JoinRequest& request);
[[nodiscard]] Result<JoinRequest> unpack_join(const Message& message);
[[nodiscard]] Message pack_join_reply(const JoinReply& reply);
[[nodiscard]] Result<JoinReply> unpack_join_reply(const Message& message);

[[nodiscard]] Message pack_members(const std::vector<Member>& members);
[[nodiscard]] Result<std::vector<Member>> unpack_members(const Message& message);

}  // namespace ephfs::net
