// SPDX-License-Identifier: Apache-2.0
// A frame from a stranger: its header, the message of its kind, and the payload behind it. Here a header and a payload
// are told apart by a length of two bytes in front, little-endian.
#include "core/secret.hpp"
#include "net/wire.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace ephfs::fuzz {
namespace {

using net::Message;
using net::MessageKind;

net::FetchRequest some_fetch(bool with_proof) {
  net::FetchRequest request;
  request.shard = core::random_id<core::ShardId>();
  request.offset = 4096;
  request.length = 4096;
  request.with_proof = with_proof;
  return request;
}

net::Challenge some_challenge() {
  return {core::random_id<core::ShardId>(), {}, {0, 3}};
}

core::Envelope some_order() {
  core::Envelope order;
  order.statement = core::Bytes(80);
  return order;
}

core::Bytes framed(const Message& message) {
  const core::Bytes header = net::pack_packet({message.kind, 7, 1000, message.body});
  core::Bytes bytes{static_cast<std::byte>(header.size() & 0xffU), static_cast<std::byte>(header.size() >> 8U)};
  bytes.insert(bytes.end(), header.begin(), header.end());
  const auto payload = message.payload.view();
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

void unpack_reply(const Message& message) {
  (void)net::unpack_receipt(message);
  (void)net::unpack_range(message, some_fetch(false));
  (void)net::unpack_range(message, some_fetch(true));
  (void)net::unpack_proof(message, some_challenge());
  (void)net::unpack_status(message);
  (void)net::unpack_join_reply(message);
  (void)net::unpack_receipts(message);
  (void)net::unpack_holdings(message);
  (void)net::unpack_taken_share(message);
}

void unpack(const Message& message) {
  switch (message.kind) {
    case MessageKind::hello:
      (void)net::unpack_hello(message, net::kProtocolVersion);
      break;
    case MessageKind::reply:
      unpack_reply(message);
      break;
    case MessageKind::failure:
      (void)net::unpack_failure(message.body);
      break;
    case MessageKind::store:
      (void)net::unpack_store(message);
      break;
    case MessageKind::renew:
      (void)net::unpack_renew(message);
      break;
    case MessageKind::remove:
      (void)net::unpack_remove(message);
      break;
    case MessageKind::put_share:
      (void)net::unpack_put_share(message);
      break;
    case MessageKind::take_share:
      (void)net::unpack_share_claim(message);
      break;
    case MessageKind::drop_share:
      (void)net::unpack_drop_share(message);
      break;
    case MessageKind::fetch:
      if (const auto request = net::unpack_fetch(message)) {
        EPHFS_CHECK(net::check_range(*request), "a request that was taken is one that a shard may have");
      }
      break;
    case MessageKind::prove:
      if (const auto challenge = net::unpack_challenge(message)) {
        EPHFS_CHECK(net::check_challenge(*challenge), "a challenge that was taken is within its bounds");
      }
      break;
    case MessageKind::join:
      (void)net::unpack_join(message);
      break;
    case MessageKind::deletions:
    case MessageKind::holdings:
      if (const auto inquiry = net::unpack_inquiry(message)) {
        EPHFS_CHECK(net::check_inquiry(*inquiry), "a question that was taken is within its bounds");
      }
      break;
    case MessageKind::members:
      (void)net::unpack_members(message);
      break;
    default:
      break;
  }
}

}  // namespace

std::vector<core::Bytes> samples() {
  const net::Member member{core::random_id<core::NodeId>(), "a.example.org:7400"};
  net::NodeStatus status;
  status.node = member.id;
  net::ShardRange range;
  range.bytes = core::SharedBytes::copy_of(core::Bytes(4096));
  range.offset = 4096;
  range.shard_bytes = 16384;
  range.proof.resize(2);
  return {framed(net::pack_hello({net::kProtocolVersion, core::random_id<core::PoolId>(), "sample", {member}})),
          framed(net::pack_fetch(some_fetch(true))),
          framed(net::pack_challenge(some_challenge())),
          framed(net::pack_range(range)),
          framed(net::pack_status(status)),
          framed(net::pack_join({core::Bytes(net::kJoinSecretBytes), member.address})),
          framed(net::pack_join_reply({core::random_id<core::PoolId>(), {member}})),
          framed(net::pack_members({member})),
          framed(net::pack_inquiry(MessageKind::deletions, {some_order(), {core::random_id<core::ShardId>()}})),
          framed(net::pack_receipts({some_order()})),
          framed(net::pack_holdings({{core::random_id<core::ShardId>(), 4096, 1, {}, true}})),
          framed({MessageKind::failure, net::pack_failure(core::fail(core::Error::no_space, "sample")), {}})};
}

void try_bytes(core::ByteView bytes) {
  if (bytes.size() < 2) return;
  const std::size_t length = std::to_integer<std::size_t>(bytes[0]) | std::to_integer<std::size_t>(bytes[1]) << 8U;
  const core::ByteView rest = bytes.subspan(2);
  auto packet = net::unpack_packet(rest.first(std::min(length, rest.size())));
  if (!packet) return;
  const core::ByteView payload = rest.subspan(std::min(length, rest.size()));
  unpack({packet->kind, std::move(packet->body), core::SharedBytes::copy_of(payload)});
}

}  // namespace ephfs::fuzz
