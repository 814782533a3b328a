// SPDX-License-Identifier: Apache-2.0
// What a volume remembers of its dead for a while, so that their deaths can be proven: no name, no key, only which
// bytes lay in which stripe, on which nodes, and what these signed. Part of the Catalog seam (catalog.hpp).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/block_format.hpp"
#include "core/bytes.hpp"
#include "core/erasure.hpp"
#include "core/ids.hpp"
#include "core/time.hpp"

namespace ephfs::meta {

using core::Deadline;
using core::InodeNumber;
using core::StripeNumber;

/// A run of a file's bytes. An extent is encrypted as it was written (its origin); a later write over part of it leaves
/// a slice of it, so `offset` and `length` say what of it still counts.
struct ExtentRecord {
  InodeNumber inode;
  std::uint64_t offset = 0;  // in the file
  std::uint64_t length = 0;
  StripeNumber stripe;
  std::uint64_t stripe_offset = 0;  // of the origin's first block in the stripe
  std::uint64_t origin_offset = 0;  // of the extent as it was encrypted, in the file
  std::uint64_t origin_length = 0;

  friend bool operator==(const ExtentRecord&, const ExtentRecord&) = default;
};

enum class DeathCause : std::uint8_t { expired = 1, removed = 2 };

struct DeadFileRecord {
  InodeNumber number;  // the inode it was: never used again
  core::FileId file;
  DeathCause cause = DeathCause::expired;
  core::Instant died;
  Deadline deadline;
  std::uint64_t size = 0;
  bool complete = true;               // false: of the extents only one a stripe is kept, there were so many
  std::vector<ExtentRecord> extents;  // with the inode's number

  friend bool operator==(const DeadFileRecord&, const DeadFileRecord&) = default;
};
constexpr std::size_t kDeadExtentsMax = 16384;

struct DeadStripeRecord {
  StripeNumber number;
  core::StripeId id;
  core::BlockFormat format = core::BlockFormat::aes_256_gcm_4k;
  core::Profile profile;
  std::uint64_t length = 0;
  Deadline deadline;
  core::Instant died;

  friend bool operator==(const DeadStripeRecord&, const DeadStripeRecord&) = default;
};

/// A shard that a node had, and what the node signed when it took and when it deleted it.
struct DeadShardRecord {
  StripeNumber stripe;
  std::uint8_t index = 0;
  core::ShardId shard;
  core::NodeId node;
  std::uint64_t shard_bytes = 0;
  Deadline lease_deadline;
  core::Bytes receipt;                  // envelope: stored or renewed; empty when none came
  core::Bytes deletion;                 // envelope; empty until the node has given one
  std::optional<core::Instant> ask_at;  // when the node is to be asked for it; none: no more

  friend bool operator==(const DeadShardRecord&, const DeadShardRecord&) = default;
};

/// The last audit of a placement.
struct AuditRecord {
  StripeNumber stripe;
  std::uint8_t index = 0;
  core::ShardId shard;
  core::NodeId node;
  core::Instant at;
  bool passed = false;
  core::Bytes receipt;  // envelope: served; empty when it failed

  friend bool operator==(const AuditRecord&, const AuditRecord&) = default;
};

/// The dead that may be forgotten.
struct DeadNumbers {
  std::vector<InodeNumber> files;
  std::vector<StripeNumber> stripes;
};

}  // namespace ephfs::meta
