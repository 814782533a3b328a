// SPDX-License-Identifier: Apache-2.0
#include "core/records.hpp"

#include <limits>

#include "core/check.hpp"
#include "core/records.pb.h"

namespace ephfs::core {
namespace {

// docs/formats.md, "Signed statements", has the grammar of both.
constexpr std::byte kEnvelopeVersion{1};
constexpr std::uint32_t kStatementVersion = 1;
constexpr std::size_t kEnvelopeHeadBytes = 1 + PublicKey::kSize + Signature::kSize;

constexpr std::string_view kLeaseContext = "ephfs lease";
constexpr std::string_view kRemovalContext = "ephfs removal";
constexpr std::string_view kReceiptContext = "ephfs receipt";
constexpr std::string_view kInquiryContext = "ephfs inquiry";
constexpr std::string_view kPunctureContext = "ephfs puncture";
constexpr std::string_view kShareGrantContext = "ephfs share";
constexpr std::string_view kShareDropContext = "ephfs share drop";

constexpr std::uint64_t kShardBytesLimit = 8U << 20U;
// SQLite's integers hold it.
constexpr auto kSerialMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

template <class Statement>
Envelope sign_statement(const Statement& statement, std::string_view context, const Signer& signer) {
  Envelope envelope;
  envelope.statement.resize(statement.ByteSizeLong());
  EPHFS_CHECK(statement.SerializeToArray(envelope.statement.data(), static_cast<int>(envelope.statement.size())),
              "a statement of known size serializes");
  envelope.signer = signer.public_key();
  envelope.signature = signer.sign(context, envelope.statement);
  return envelope;
}

// The statement, when it is of a version that is understood in full.
template <class Statement>
Result<Statement> parse_statement(const Envelope& envelope, std::string_view context) {
  const std::string kind(context);
  Statement statement;
  if (envelope.statement.size() > kEnvelopeBytesMax ||
      !statement.ParseFromArray(envelope.statement.data(), static_cast<int>(envelope.statement.size()))) {
    return fail(Error::damaged, kind + ": does not parse");
  }
  if (statement.version() != kStatementVersion) {
    return fail(Error::version, kind + " of version " + std::to_string(statement.version()));
  }
  if (!statement.GetReflection()->GetUnknownFields(statement).empty()) {
    return fail(Error::damaged, kind + ": has an unknown field");
  }
  return statement;
}

Result<> check_signature(const Envelope& envelope, std::string_view context) {
  if (verify_signature(envelope.signer, context, envelope.statement, envelope.signature)) return {};
  return fail(Error::not_permitted, std::string(context) + ": the signature does not match");
}

// The same, once its signature is good.
template <class Statement>
Result<Statement> open_statement(const Envelope& envelope, std::string_view context) {
  EPHFS_TRY_VOID(check_signature(envelope, context));
  return parse_statement<Statement>(envelope, context);
}

template <class Id>
Result<Id> parse_id(std::string_view kind, std::string_view field, const std::string& bytes) {
  const auto id = Id::from_bytes(as_bytes(bytes));
  if (!id || id->is_zero()) return fail(Error::damaged, std::string(kind) + ": no " + std::string(field));
  return *id;
}

// The ids that every statement has.
template <class Record, class Statement>
Result<> parse_ids(std::string_view kind, const Statement& statement, Record& record) {
  EPHFS_TRY(record.shard, parse_id<ShardId>(kind, "shard", statement.shard()));
  EPHFS_TRY(record.node, parse_id<NodeId>(kind, "node", statement.node()));
  EPHFS_TRY(record.owner, parse_id<OwnerId>(kind, "owner", statement.owner()));
  return {};
}

Result<> check_owner_signed(std::string_view kind, const OwnerId& owner, const PublicKey& signer) {
  if (as_text(owner.view()) == as_text(signer.view())) return {};
  return fail(Error::not_permitted, std::string(kind) + ": signed by another than its owner");
}

Result<Deadline> parse_deadline(std::string_view kind, std::int64_t raw) {
  const Deadline deadline = Deadline::from_raw(raw);
  if (!deadline.is_never() && (raw <= 0 || deadline.instant() > kInstantMax)) {
    return fail(Error::damaged, std::string(kind) + ": deadline " + std::to_string(raw) + " is out of range");
  }
  return deadline;
}

Result<Instant> parse_instant_field(std::string_view kind, std::string_view field, std::int64_t ms) {
  if (ms >= 0 && ms <= kInstantMax.ms) return Instant{ms};
  return fail(Error::damaged,
              std::string(kind) + ": " + std::string(field) + " " + std::to_string(ms) + " is out of range");
}

Result<> check_range(std::string_view kind, std::string_view field, std::uint64_t value, std::uint64_t least,
                     std::uint64_t most) {
  if (value >= least && value <= most) return {};
  return fail(Error::damaged,
              std::string(kind) + ": " + std::string(field) + " " + std::to_string(value) + " is out of range");
}

}  // namespace

Bytes Envelope::serialize() const {
  EPHFS_CHECK(!statement.empty() && statement.size() <= kEnvelopeBytesMax - kEnvelopeHeadBytes,
              "a statement fits its envelope");
  Bytes bytes;
  bytes.reserve(kEnvelopeHeadBytes + statement.size());
  bytes.push_back(kEnvelopeVersion);
  bytes.insert(bytes.end(), signer.view().begin(), signer.view().end());
  bytes.insert(bytes.end(), signature.view().begin(), signature.view().end());
  bytes.insert(bytes.end(), statement.begin(), statement.end());
  return bytes;
}

Result<Envelope> Envelope::parse(ByteView bytes) {
  if (bytes.size() <= kEnvelopeHeadBytes || bytes.size() > kEnvelopeBytesMax) {
    return fail(Error::damaged, "an envelope of " + std::to_string(bytes.size()) + " bytes");
  }
  if (bytes[0] != kEnvelopeVersion) {
    return fail(Error::version, "an envelope of version " + std::to_string(std::to_integer<unsigned>(bytes[0])));
  }
  Envelope envelope;
  envelope.signer = *PublicKey::from_bytes(bytes.subspan(1, PublicKey::kSize));
  envelope.signature = *Signature::from_bytes(bytes.subspan(1 + PublicKey::kSize, Signature::kSize));
  envelope.statement = to_bytes(bytes.subspan(kEnvelopeHeadBytes));
  return envelope;
}

Envelope sign_lease(const Lease& lease, const Signer& owner) {
  proto::LeaseStatement statement;
  statement.set_version(kStatementVersion);
  statement.set_shard(lease.shard.text());
  statement.set_node(lease.node.text());
  statement.set_owner(lease.owner.text());
  statement.set_bytes(lease.bytes);
  statement.set_deadline_ms(lease.deadline.raw());
  statement.set_serial(lease.serial);
  return sign_statement(statement, kLeaseContext, owner);
}

Envelope sign_removal(const Removal& removal, const Signer& owner) {
  proto::RemovalStatement statement;
  statement.set_version(kStatementVersion);
  statement.set_shard(removal.shard.text());
  statement.set_node(removal.node.text());
  statement.set_owner(removal.owner.text());
  statement.set_serial(removal.serial);
  return sign_statement(statement, kRemovalContext, owner);
}

Envelope sign_receipt(const Receipt& receipt, const Signer& node) {
  proto::ReceiptStatement statement;
  statement.set_version(kStatementVersion);
  statement.set_kind(static_cast<std::uint32_t>(receipt.kind));
  statement.set_shard(receipt.shard.text());
  statement.set_node(receipt.node.text());
  statement.set_owner(receipt.owner.text());
  statement.set_at_ms(receipt.at.ms);
  statement.set_deadline_ms(receipt.deadline.raw());
  statement.set_bytes(receipt.bytes);
  return sign_statement(statement, kReceiptContext, node);
}

Envelope sign_inquiry(const Inquiry& inquiry, const Signer& owner) {
  proto::InquiryStatement statement;
  statement.set_version(kStatementVersion);
  statement.set_kind(static_cast<std::uint32_t>(inquiry.kind));
  statement.set_node(inquiry.node.text());
  statement.set_owner(inquiry.owner.text());
  statement.set_subject(inquiry.subject.text());
  return sign_statement(statement, kInquiryContext, owner);
}

Envelope sign_puncture(const Puncture& puncture, const Signer& owner) {
  proto::PunctureStatement statement;
  statement.set_version(kStatementVersion);
  statement.set_volume(puncture.volume.text());
  statement.set_owner(puncture.owner.text());
  statement.set_until_ms(puncture.until.ms);
  statement.set_at_ms(puncture.at.ms);
  return sign_statement(statement, kPunctureContext, owner);
}

Result<Lease> open_lease(const Envelope& envelope) {
  EPHFS_TRY_VOID(check_signature(envelope, kLeaseContext));
  return read_lease(envelope);
}

Result<Lease> read_lease(const Envelope& envelope) {
  constexpr auto kKind = kLeaseContext;
  EPHFS_TRY(const auto statement, parse_statement<proto::LeaseStatement>(envelope, kKind));
  Lease lease;
  EPHFS_TRY_VOID(parse_ids(kKind, statement, lease));
  EPHFS_TRY_VOID(check_owner_signed(kKind, lease.owner, envelope.signer));
  EPHFS_TRY_VOID(check_range(kKind, "length", statement.bytes(), 1, kShardBytesLimit));
  EPHFS_TRY_VOID(check_range(kKind, "serial", statement.serial(), 0, kSerialMax));
  EPHFS_TRY(lease.deadline, parse_deadline(kKind, statement.deadline_ms()));
  lease.bytes = statement.bytes();
  lease.serial = statement.serial();
  return lease;
}

Result<Removal> open_removal(const Envelope& envelope) {
  EPHFS_TRY_VOID(check_signature(envelope, kRemovalContext));
  return read_removal(envelope);
}

Result<Removal> read_removal(const Envelope& envelope) {
  constexpr auto kKind = kRemovalContext;
  EPHFS_TRY(const auto statement, parse_statement<proto::RemovalStatement>(envelope, kKind));
  Removal removal;
  EPHFS_TRY_VOID(parse_ids(kKind, statement, removal));
  EPHFS_TRY_VOID(check_owner_signed(kKind, removal.owner, envelope.signer));
  EPHFS_TRY_VOID(check_range(kKind, "serial", statement.serial(), 0, kSerialMax));
  removal.serial = statement.serial();
  return removal;
}

Result<Receipt> open_receipt(const Envelope& envelope) {
  EPHFS_TRY_VOID(check_signature(envelope, kReceiptContext));
  return read_receipt(envelope);
}

Result<Receipt> read_receipt(const Envelope& envelope) {
  constexpr auto kKind = kReceiptContext;
  EPHFS_TRY(const auto statement, parse_statement<proto::ReceiptStatement>(envelope, kKind));
  Receipt receipt;
  EPHFS_TRY_VOID(parse_ids(kKind, statement, receipt));
  if (node_id_of(envelope.signer) != receipt.node) {
    return fail(Error::not_permitted, std::string(kKind) + ": signed by another than its node");
  }
  EPHFS_TRY_VOID(check_range(kKind, "kind", statement.kind(), static_cast<std::uint32_t>(ReceiptKind::stored),
                             static_cast<std::uint32_t>(ReceiptKind::renewed)));
  EPHFS_TRY_VOID(check_range(kKind, "length", statement.bytes(), 1, kShardBytesLimit));
  EPHFS_TRY(receipt.at, parse_instant_field(kKind, "time", statement.at_ms()));
  EPHFS_TRY(receipt.deadline, parse_deadline(kKind, statement.deadline_ms()));
  receipt.kind = static_cast<ReceiptKind>(statement.kind());
  receipt.bytes = statement.bytes();
  return receipt;
}

Result<Inquiry> open_inquiry(const Envelope& envelope) {
  constexpr auto kKind = kInquiryContext;
  EPHFS_TRY(const auto statement, open_statement<proto::InquiryStatement>(envelope, kKind));
  Inquiry inquiry;
  EPHFS_TRY_VOID(check_range(kKind, "kind", statement.kind(), static_cast<std::uint32_t>(InquiryKind::deletions),
                             static_cast<std::uint32_t>(InquiryKind::holdings)));
  inquiry.kind = static_cast<InquiryKind>(statement.kind());
  EPHFS_TRY(inquiry.node, parse_id<NodeId>(kKind, "node", statement.node()));
  EPHFS_TRY(inquiry.owner, parse_id<OwnerId>(kKind, "owner", statement.owner()));
  EPHFS_TRY_VOID(check_owner_signed(kKind, inquiry.owner, envelope.signer));
  EPHFS_TRY(inquiry.subject, parse_id<Hash>(kKind, "subject", statement.subject()));
  return inquiry;
}

Result<Puncture> open_puncture(const Envelope& envelope) {
  constexpr auto kKind = kPunctureContext;
  EPHFS_TRY(const auto statement, open_statement<proto::PunctureStatement>(envelope, kKind));
  Puncture puncture;
  EPHFS_TRY(puncture.volume, parse_id<VolumeId>(kKind, "volume", statement.volume()));
  EPHFS_TRY(puncture.owner, parse_id<OwnerId>(kKind, "owner", statement.owner()));
  EPHFS_TRY_VOID(check_owner_signed(kKind, puncture.owner, envelope.signer));
  EPHFS_TRY(puncture.until, parse_instant_field(kKind, "time", statement.until_ms()));
  EPHFS_TRY(puncture.at, parse_instant_field(kKind, "time", statement.at_ms()));
  if (puncture.at < puncture.until) return fail(Error::damaged, std::string(kKind) + ": of a time to come");
  return puncture;
}

Hash subject_of(std::span<const ShardId> shards) {
  Bytes bytes;
  bytes.reserve(shards.size() * ShardId::kSize);
  for (const ShardId& shard : shards) bytes.insert(bytes.end(), shard.view().begin(), shard.view().end());
  return *Hash::from_bytes(sha256(bytes).view());
}

Envelope sign_share_grant(const ShareGrant& grant, const Signer& owner) {
  proto::ShareGrantStatement statement;
  statement.set_version(kStatementVersion);
  statement.set_share(grant.share.text());
  statement.set_node(grant.node.text());
  statement.set_owner(grant.owner.text());
  statement.set_deadline_ms(grant.deadline.raw());
  statement.set_fetches_max(grant.fetches_max);
  statement.set_token_hash(grant.token_hash.text());
  statement.set_content_hash(grant.content_hash.text());
  statement.set_content_bytes(grant.content_bytes);
  return sign_statement(statement, kShareGrantContext, owner);
}

Envelope sign_share_drop(const ShareDrop& drop, const Signer& owner) {
  proto::ShareDropStatement statement;
  statement.set_version(kStatementVersion);
  statement.set_share(drop.share.text());
  statement.set_node(drop.node.text());
  statement.set_owner(drop.owner.text());
  return sign_statement(statement, kShareDropContext, owner);
}

Result<ShareGrant> open_share_grant(const Envelope& envelope) {
  constexpr auto kKind = kShareGrantContext;
  EPHFS_TRY(const auto statement, open_statement<proto::ShareGrantStatement>(envelope, kKind));
  ShareGrant grant;
  EPHFS_TRY(grant.share, parse_id<ShareId>(kKind, "share", statement.share()));
  EPHFS_TRY(grant.node, parse_id<NodeId>(kKind, "node", statement.node()));
  EPHFS_TRY(grant.owner, parse_id<OwnerId>(kKind, "owner", statement.owner()));
  EPHFS_TRY_VOID(check_owner_signed(kKind, grant.owner, envelope.signer));
  EPHFS_TRY(grant.deadline, parse_deadline(kKind, statement.deadline_ms()));
  // What is given to others ends, whatever the file itself does.
  if (grant.deadline.is_never()) return fail(Error::damaged, std::string(kKind) + ": no deadline");
  EPHFS_TRY_VOID(check_range(kKind, "count", statement.fetches_max(), 0, kShareFetchesMax));
  EPHFS_TRY(grant.token_hash, parse_id<Hash>(kKind, "token", statement.token_hash()));
  EPHFS_TRY(grant.content_hash, parse_id<Hash>(kKind, "content", statement.content_hash()));
  EPHFS_TRY_VOID(check_range(kKind, "length", statement.content_bytes(), 1, kShareBytesMax));
  grant.fetches_max = statement.fetches_max();
  grant.content_bytes = statement.content_bytes();
  return grant;
}

Result<ShareDrop> open_share_drop(const Envelope& envelope) {
  constexpr auto kKind = kShareDropContext;
  EPHFS_TRY(const auto statement, open_statement<proto::ShareDropStatement>(envelope, kKind));
  ShareDrop drop;
  EPHFS_TRY(drop.share, parse_id<ShareId>(kKind, "share", statement.share()));
  EPHFS_TRY(drop.node, parse_id<NodeId>(kKind, "node", statement.node()));
  EPHFS_TRY(drop.owner, parse_id<OwnerId>(kKind, "owner", statement.owner()));
  EPHFS_TRY_VOID(check_owner_signed(kKind, drop.owner, envelope.signer));
  return drop;
}

}  // namespace ephfs::core
