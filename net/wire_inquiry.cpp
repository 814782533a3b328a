// SPDX-License-Identifier: Apache-2.0
// The messages by which an owner asks a node about his shards.
#include "net/messages.pb.h"
#include "net/wire.hpp"
#include "net/wire_parts.hpp"

namespace ephfs::net {
namespace {

using core::Error;
using core::fail;
using wire::malformed;
using wire::parse;

// A field's tag and length come on top of what is in it.
constexpr std::size_t kReceiptListBytesMax = kInquiryShardsMax * (core::kEnvelopeBytesMax + 8);
constexpr std::size_t kHoldingListBytesMax = kHoldingsMax * 128;
static_assert(kReceiptListBytesMax <= kPayloadBytesMax);
static_assert(kHoldingListBytesMax <= kPayloadBytesMax);
static_assert(kInquiryShardsMax * core::ShardId::kSize <= kPayloadBytesMax);

template <class List>
core::SharedBytes payload_of(const List& list) {
  core::Buffer buffer(list.ByteSizeLong());
  EPHFS_CHECK(list.SerializeToArray(buffer.data(), static_cast<int>(buffer.size())), "a list of ours serializes");
  return core::SharedBytes(std::move(buffer));
}

Result<Holding> parse_holding(const pb::Holding& entry) {
  Holding holding;
  EPHFS_TRY(holding.shard, wire::parse_id<core::ShardId>(entry.shard(), "a shard's id"));
  if (entry.bytes() == 0 || entry.bytes() > kShardBytesMax) return malformed("a shard's length");
  holding.bytes = entry.bytes();
  holding.serial = entry.serial();
  holding.deadline = core::Deadline::from_raw(entry.deadline_ms());
  if (!holding.deadline.is_never() && (entry.deadline_ms() < 0 || holding.deadline.instant() > core::kInstantMax)) {
    return malformed("a lease's deadline");
  }
  holding.present = !entry.missing();
  return holding;
}

}  // namespace

Result<> check_inquiry(const ShardInquiry& inquiry) {
  if (inquiry.shards.empty() || inquiry.shards.size() > kInquiryShardsMax) {
    return fail(Error::invalid_argument, "a question about " + std::to_string(inquiry.shards.size()) + " shards");
  }
  return {};
}

Message pack_inquiry(MessageKind kind, const ShardInquiry& inquiry) {
  pb::ShardInquiry proto;
  proto.set_order(wire::text_of(inquiry.order.serialize()));
  core::Buffer ids(inquiry.shards.size() * core::ShardId::kSize);
  std::size_t at = 0;
  for (const auto& shard : inquiry.shards) {
    std::ranges::copy(shard.view(), ids.data() + at);
    at += core::ShardId::kSize;
  }
  return {kind, wire::serialize(proto), core::SharedBytes(std::move(ids))};
}

Result<ShardInquiry> unpack_inquiry(const Message& message) {
  EPHFS_TRY(const auto proto, parse<pb::ShardInquiry>(message.body, "a question about shards"));
  ShardInquiry inquiry;
  EPHFS_TRY(inquiry.order, wire::parse_envelope(proto.order()));
  const core::ByteView ids = message.payload.view();
  if (ids.size() % core::ShardId::kSize != 0 || ids.size() / core::ShardId::kSize > kInquiryShardsMax) {
    return malformed("a list of shards");
  }
  inquiry.shards.reserve(ids.size() / core::ShardId::kSize);
  for (std::size_t at = 0; at < ids.size(); at += core::ShardId::kSize) {
    inquiry.shards.push_back(*core::ShardId::from_bytes(ids.subspan(at, core::ShardId::kSize)));
  }
  EPHFS_TRY_VOID(check_inquiry(inquiry));
  return inquiry;
}

Message pack_receipts(const std::vector<core::Envelope>& receipts) {
  pb::ReceiptList list;
  for (const auto& receipt : receipts) list.add_receipts(wire::text_of(receipt.serialize()));
  return {MessageKind::reply, {}, payload_of(list)};
}

Result<std::vector<core::Envelope>> unpack_receipts(const Message& message) {
  EPHFS_TRY(const auto list,
            parse<pb::ReceiptList>(message.payload.view(), "a list of receipts", kReceiptListBytesMax));
  if (static_cast<std::size_t>(list.receipts_size()) > kInquiryShardsMax) return malformed("a list of receipts");
  std::vector<core::Envelope> receipts;
  receipts.reserve(static_cast<std::size_t>(list.receipts_size()));
  for (const auto& entry : list.receipts()) {
    EPHFS_TRY(auto receipt, wire::parse_envelope(entry));
    receipts.push_back(std::move(receipt));
  }
  return receipts;
}

Message pack_holdings(const std::vector<Holding>& holdings) {
  pb::HoldingList list;
  for (const auto& holding : holdings) {
    auto* entry = list.add_holdings();
    entry->set_shard(holding.shard.text());
    entry->set_bytes(holding.bytes);
    entry->set_serial(holding.serial);
    entry->set_deadline_ms(holding.deadline.raw());
    entry->set_missing(!holding.present);
  }
  return {MessageKind::reply, {}, payload_of(list)};
}

Result<std::vector<Holding>> unpack_holdings(const Message& message) {
  EPHFS_TRY(const auto list,
            parse<pb::HoldingList>(message.payload.view(), "a list of holdings", kHoldingListBytesMax));
  if (static_cast<std::size_t>(list.holdings_size()) > kHoldingsMax) return malformed("a list of holdings");
  std::vector<Holding> holdings;
  holdings.reserve(static_cast<std::size_t>(list.holdings_size()));
  for (const auto& entry : list.holdings()) {
    EPHFS_TRY(const auto holding, parse_holding(entry));
    if (!holdings.empty() && holding.shard <= holdings.back().shard) return malformed("the order of holdings");
    holdings.push_back(holding);
  }
  return holdings;
}

}  // namespace ephfs::net
