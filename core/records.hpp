// SPDX-License-Identifier: Apache-2.0
// The signed statements that owners and nodes exchange. A statement is serialized once (core/records.proto), those very
// bytes are signed, and they are carried verbatim in an envelope: there is no canonical form to get wrong.
#pragma once

#include <span>
#include <string>

#include "core/bytes.hpp"
#include "core/ids.hpp"
#include "core/merkle.hpp"
#include "core/result.hpp"
#include "core/signing.hpp"
#include "core/time.hpp"

namespace ephfs::core {

/// A serialized statement, the key that signed it, and the signature. Comparable and storable as bytes.
struct Envelope {
  Bytes statement;
  PublicKey signer;
  Signature signature;

  [[nodiscard]] Bytes serialize() const;
  /// damaged for anything that is not one envelope of at most kEnvelopeBytesMax. Does not verify.
  [[nodiscard]] static Result<Envelope> parse(ByteView bytes);
  friend bool operator==(const Envelope&, const Envelope&) = default;
};
constexpr std::size_t kEnvelopeBytesMax = 4096;

/// The owner's permission for one node to hold one shard until a deadline.
struct Lease {
  ShardId shard;
  NodeId node;
  OwnerId owner;            // the key whose envelopes may extend or end it
  std::uint64_t bytes = 0;  // length of the shard
  Deadline deadline;
  std::uint64_t serial = 0;  // a renewal has a larger one
};

/// The owner's order to delete a shard now.
struct Removal {
  ShardId shard;
  NodeId node;
  OwnerId owner;
  std::uint64_t serial = 0;  // at least the lease's
};

enum class ReceiptKind : std::uint8_t { stored = 1, served = 2, deleted = 3, renewed = 4 };

/// A node's statement that it stored, served, renewed or deleted a shard at a time.
struct Receipt {
  ReceiptKind kind = ReceiptKind::stored;
  ShardId shard;
  NodeId node;
  OwnerId owner;
  Instant at;
  Deadline deadline;  // of the lease it is about
  std::uint64_t bytes = 0;
};

enum class InquiryKind : std::uint8_t { deletions = 1, holdings = 2 };

/// An owner's question to one node about his own shards. It names no time, since no other node answers it and the one
/// it names learns nothing by hearing it again.
struct Inquiry {
  InquiryKind kind = InquiryKind::deletions;
  NodeId node;
  OwnerId owner;
  Hash subject;  // SHA-256 of what is asked about: shard ids, one behind the other
};

/// The owner's statement that a volume can no longer make any epoch key for a deadline before `until`.
struct Puncture {
  VolumeId volume;
  OwnerId owner;
  Instant until;
  Instant at;  // when they were destroyed; not before `until`
};

using ShareId = FixedId<struct ShareTag, 16>;  // random

/// The owner's permission for one node to give one share out until a deadline, to those who know its token.
struct ShareGrant {
  ShareId share;
  NodeId node;
  OwnerId owner;  // the key whose envelopes may end it
  Deadline deadline;
  std::uint32_t fetches_max = 0;  // 0: as many as there are
  Hash token_hash;                // SHA-256 of the token
  Hash content_hash;              // SHA-256 of what is given out
  std::uint64_t content_bytes = 0;
  friend bool operator==(const ShareGrant&, const ShareGrant&) = default;
};
constexpr std::uint32_t kShareFetchesMax = 1'000'000;
constexpr std::uint64_t kShareBytesMax = 8U << 20U;

/// The owner's order to give a share out no more.
struct ShareDrop {
  ShareId share;
  NodeId node;
  OwnerId owner;
};

[[nodiscard]] Envelope sign_share_grant(const ShareGrant& grant, const Signer& owner);
[[nodiscard]] Envelope sign_share_drop(const ShareDrop& drop, const Signer& owner);

[[nodiscard]] Envelope sign_lease(const Lease& lease, const Signer& owner);
[[nodiscard]] Envelope sign_removal(const Removal& removal, const Signer& owner);
[[nodiscard]] Envelope sign_receipt(const Receipt& receipt, const Signer& node);
[[nodiscard]] Envelope sign_inquiry(const Inquiry& inquiry, const Signer& owner);
[[nodiscard]] Envelope sign_puncture(const Puncture& puncture, const Signer& owner);

/// Each checks the signature, that the signer is the owner (or, for a receipt, the node) that the statement names, the
/// version, and every field's range. not_permitted for a signature or signer that does not match, damaged for bytes
/// that do not parse, version for another version.
[[nodiscard]] Result<Lease> open_lease(const Envelope& envelope);
[[nodiscard]] Result<Removal> open_removal(const Envelope& envelope);
[[nodiscard]] Result<Receipt> open_receipt(const Envelope& envelope);
[[nodiscard]] Result<Inquiry> open_inquiry(const Envelope& envelope);
[[nodiscard]] Result<Puncture> open_puncture(const Envelope& envelope);

/// What a lease, removal or receipt says, for somebody who knows that it is good: its signature is not checked, all
/// else is.
[[nodiscard]] Result<Lease> read_lease(const Envelope& envelope);
[[nodiscard]] Result<Removal> read_removal(const Envelope& envelope);
[[nodiscard]] Result<Receipt> read_receipt(const Envelope& envelope);

/// Inquiry::subject of a question about these shards.
[[nodiscard]] Hash subject_of(std::span<const ShardId> shards);
[[nodiscard]] Result<ShareGrant> open_share_grant(const Envelope& envelope);
[[nodiscard]] Result<ShareDrop> open_share_drop(const Envelope& envelope);

}  // namespace ephfs::core
