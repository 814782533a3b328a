// SPDX-License-Identifier: Apache-2.0
// The ShardStore seam: where a node keeps shards and, beside each, its lease. FileShardStore is the real one;
// tests/support has one in memory that can lose what was not synced, damage bytes, and run full. A store knows nothing
// of signatures or time: LocalPeer (local_peer.hpp) decides, the store keeps. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "core/ids.hpp"
#include "core/merkle.hpp"
#include "core/records.hpp"
#include "core/result.hpp"
#include "net/peer.hpp"

namespace ephfs::node {

using core::Result;

/// A shard's lease as its store remembers it.
struct HeldLease {
  core::Lease lease;
  core::Envelope envelope;  // what the owner signed
};

/// The capacity of a store that only its disk bounds.
constexpr std::uint64_t kUnlimitedCapacity = std::numeric_limits<std::int64_t>::max();

struct StoreUsage {
  std::uint64_t capacity = 0;  // bytes, or kUnlimitedCapacity
  std::uint64_t used = 0;      // bytes in shards
  std::uint64_t shards = 0;
};

/// Whether a removal must survive a power cut before it is reported. What has expired need not: a restart sweeps it.
enum class RemovalSync : std::uint8_t { synced, lazy };

class ShardStore {
 public:
  virtual ~ShardStore() = default;

  /// Keeps the shard and its lease on stable storage: after a crash either both are whole or neither is there. The tree
  /// over its bytes is kept with it, for reading back: the source's, which is believed, or one that is made on the way.
  /// exists when the shard is held; damaged when the bytes are not the shard that the lease names; no_space past the
  /// capacity or on a full disk; with nothing left behind.
  [[nodiscard]] virtual Result<> put(const HeldLease& lease, const net::ShardSource& shard) = 0;
  /// The lease a shard is held under; none when it is not held.
  [[nodiscard]] virtual std::optional<HeldLease> find(const core::ShardId& shard) const = 0;
  /// Bytes of a held shard: with proof checked against its tree and its name before they are returned, without as the
  /// disk gives them, for a caller who finds by their encryption whether they are right. not_found, damaged (naming the
  /// shard), invalid_argument for a range outside it.
  [[nodiscard]] virtual Result<net::ShardRange> get(const net::FetchRequest& request) const = 0;
  /// The same of what is in memory; would_block where it would have to wait for the disk.
  [[nodiscard]] virtual Result<net::ShardRange> try_get(const net::FetchRequest& request) const = 0;
  /// The tree of a held shard, checked against its name.
  [[nodiscard]] virtual Result<core::MerkleTree> tree(const core::ShardId& shard) const = 0;
  /// Replaces the lease, on stable storage. not_found.
  [[nodiscard]] virtual Result<> set_lease(const HeldLease& lease) = 0;
  /// Deletes the shard. Its lease stays behind as a trace of it, also over a crash, until forget() or the next put of
  /// the same shard. not_found.
  [[nodiscard]] virtual Result<> remove(const core::ShardId& shard, RemovalSync sync) = 0;
  /// The lease of a shard that is gone and whose trace is there.
  [[nodiscard]] virtual std::optional<HeldLease> trace(const core::ShardId& shard) const = 0;
  /// Shards that are gone and whose traces are there: removed, or found so or expired by opening. At most `limit`.
  [[nodiscard]] virtual std::vector<HeldLease> traces(std::size_t limit) const = 0;
  /// Makes the removals of these shards survive a power cut, however they were made.
  [[nodiscard]] virtual Result<> sync_removals(const std::vector<core::ShardId>& shards) = 0;
  /// Drops the traces of these shards. A power cut may bring them back. What has no trace is passed over.
  [[nodiscard]] virtual Result<> forget(const std::vector<core::ShardId>& shards) = 0;

  /// The earliest deadline held; never when there is none. Costs O(1) or O(log n).
  [[nodiscard]] virtual core::Deadline next_deadline() const = 0;
  /// At most `limit` shards whose deadline has passed at `now`, earliest first. Costs by what it returns.
  [[nodiscard]] virtual std::vector<core::ShardId> expired(core::Instant now, std::size_t limit) const = 0;
  [[nodiscard]] virtual StoreUsage usage() const = 0;
  /// The shards held for an owner with ids above `after`, by rising id, at most `limit`, and whether their bytes are
  /// there. Costs by what is held.
  [[nodiscard]] virtual std::vector<net::Holding> held_for(const core::OwnerId& owner, const core::ShardId& after,
                                                           std::size_t limit) const = 0;
};

}  // namespace ephfs::node
