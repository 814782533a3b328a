// SPDX-License-Identifier: Apache-2.0
// The Peer seam: somebody who stores, serves, renews, deletes and proves shards. A node implements it (node/), a
// session to another machine implements it (net/remote_peer.hpp), and the engine in fs/ knows nothing else of either.
// Every call ends by its limits: with an answer, timed_out, unreachable or cancelled. Implementations are thread-safe;
// a coroutine resumes on its caller's executor.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <stop_token>
#include <vector>

#include "core/async.hpp"
#include "core/bytes.hpp"
#include "core/erasure.hpp"
#include "core/ids.hpp"
#include "core/merkle.hpp"
#include "core/records.hpp"
#include "core/result.hpp"
#include "core/time.hpp"

namespace ephfs::net {

using core::awaitable;
using core::Result;

/// How long a call may take, and a way to give it up. A cancelled call may still have its effect on the node.
struct CallLimits {
  core::Boottime until;
  std::stop_token stop;
};

/// A shard to be stored. `bytes` is all of it. The rest is for an implementation in the same process, which may use it
/// instead of working again: `tree` over the bytes, and `file`, a synced file of exactly these bytes on the same file
/// system, which will not be written again and may be hard-linked.
struct ShardSource {
  core::SharedBytes bytes;
  std::shared_ptr<const core::MerkleTree> tree;
  std::filesystem::path file;
};

/// Shards are at most this long: a stripe of 4 MiB at 1+0, with room for padding.
constexpr std::size_t kShardBytesMax = (4U << 20U) + (64U << 10U);

struct FetchRequest {
  core::ShardId shard;
  std::uint64_t offset = 0;  // in the shard
  std::uint64_t length = 0;  // at least 1
  bool with_proof = false;   // whole leaves around the range, and their proof
};

/// Part of a shard. Without proof: exactly the bytes asked for, unchecked. With proof: the leaves that cover them,
/// checked before they are sent.
struct ShardRange {
  core::SharedBytes bytes;
  std::uint64_t offset = 0;       // of bytes, in the shard
  std::uint64_t shard_bytes = 0;  // the whole shard's length
  std::vector<core::Hash> proof;  // empty without proof, or when the range is the whole shard
};

/// A challenge that only a holder of the shard can answer: SHA-256(nonce || leaf) for each leaf asked, with inclusion.
struct Challenge {
  core::ShardId shard;
  core::Hash nonce;
  std::vector<std::uint32_t> leaves;  // 1 to kChallengeLeavesMax indexes
};
constexpr std::size_t kChallengeLeavesMax = 64;

struct ProvenLeaf {
  core::SharedBytes bytes;       // the leaf itself: at most 4 KiB
  std::vector<core::Hash> path;  // its inclusion path
};
struct Proof {
  std::vector<ProvenLeaf> leaves;  // in the order asked
  std::uint64_t shard_bytes = 0;
  core::Envelope receipt;  // "served", signed now
};

struct NodeStatus {
  core::NodeId node;
  std::uint64_t capacity = 0;  // bytes
  std::uint64_t used = 0;      // bytes in shards
  std::uint64_t shards = 0;
  core::Instant now;  // the node's confirmed time
};

/// A question of an owner to a node about shards of his own: `order` is his signed core::Inquiry over exactly `shards`.
struct ShardInquiry {
  core::Envelope order;
  std::vector<core::ShardId> shards;
};
constexpr std::size_t kInquiryShardsMax = 512;

/// What a node has of one owner's shards.
struct Holding {
  core::ShardId shard;
  std::uint64_t bytes = 0;   // of the shard, as its lease says
  std::uint64_t serial = 0;  // of its lease
  core::Deadline deadline;   // of its lease
  bool present = true;       // false: the lease is there and the shard's bytes are not
  friend bool operator==(const Holding&, const Holding&) = default;
};
constexpr std::size_t kHoldingsMax = 1024;

/// Who asks for a share: the token shows that he has its link.
struct ShareClaim {
  core::ShareId share;
  core::Hash token;
};
struct TakenShare {
  core::Envelope grant;
  core::SharedBytes content;       // what the grant's hash says
  std::uint32_t fetches_left = 0;  // of a counted one
};

/// A receipt that a peer returns is the node's word about the shard that was asked for; whoever keeps it as evidence
/// verifies its signature (core::open_receipt).
class Peer {
 public:
  virtual ~Peer() = default;

  [[nodiscard]] virtual core::NodeId id() const = 0;
  /// Whether a call is likely to be answered: a hint for choosing, never a reason to fail by itself.
  [[nodiscard]] virtual bool reachable() const = 0;
  /// Whether the shards live in this process's own node.
  [[nodiscard]] virtual bool is_local() const = 0;

  /// Keeps the shard until the lease's deadline, on stable storage before the receipt ("stored") is signed. Storing
  /// what is there under the same owner renews its lease. damaged when the bytes are not the shard the lease names;
  /// not_permitted for a lease of another node, an expired lease, or another owner's shard; no_space past the capacity.
  [[nodiscard]] virtual awaitable<Result<core::Envelope>> store(core::Envelope lease, ShardSource shard,
                                                                CallLimits limits) = 0;
  /// not_found when the shard is not here or its lease has ended; damaged when it is here and, asked for with proof,
  /// fails its check; invalid_argument for a range outside it.
  [[nodiscard]] virtual awaitable<Result<ShardRange>> fetch(FetchRequest request, CallLimits limits) = 0;
  /// Replaces the lease by one with a larger serial (later or earlier deadline); "renewed". not_found when the old
  /// lease has ended; not_permitted for another owner or an older serial.
  [[nodiscard]] virtual awaitable<Result<core::Envelope>> renew(core::Envelope lease, CallLimits limits) = 0;
  /// Deletes the shard now; "deleted". not_found when it is not here; not_permitted for another owner.
  [[nodiscard]] virtual awaitable<Result<core::Envelope>> remove(core::Envelope removal, CallLimits limits) = 0;
  [[nodiscard]] virtual awaitable<Result<Proof>> prove(Challenge challenge, CallLimits limits) = 0;
  [[nodiscard]] virtual awaitable<Result<NodeStatus>> status(CallLimits limits) = 0;
  /// The receipts ("deleted") that the node has for the owner's shards among those asked about (1 to
  /// kInquiryShardsMax): the latest of each, in no order. A shard it still holds, never held or deleted long ago has
  /// none. not_permitted for a question of somebody else, to another node, or about other shards than were signed for.
  [[nodiscard]] virtual awaitable<Result<std::vector<core::Envelope>>> deletions(ShardInquiry inquiry,
                                                                                 CallLimits limits) = 0;
  /// The owner's shards that the node holds, by rising id, from the first above the one id asked about: kHoldingsMax,
  /// fewer at the end. What has expired and is still there is among them. not_permitted as above.
  [[nodiscard]] virtual awaitable<Result<std::vector<Holding>>> holdings(ShardInquiry inquiry, CallLimits limits) = 0;

  // Shares: what a node keeps for whoever brings the token of a link. A peer that keeps none says not_supported.
  /// Keeps the share until its deadline, on stable storage before it answers. The very same again is no failure.
  /// damaged when the content is not the grant's; not_permitted for a grant of another node or one that has ended;
  /// exists for another grant of the same id; no_space past the node's bounds.
  [[nodiscard]] virtual awaitable<Result<>> put_share(core::Envelope grant, core::SharedBytes content,
                                                      CallLimits limits);
  /// Gives a share out, counted on stable storage before it answers. not_found when it is not here or has ended;
  /// not_permitted for a wrong token, busy after too many of them; quota_exceeded when it was given out as often as it
  /// may.
  [[nodiscard]] virtual awaitable<Result<TakenShare>> take_share(ShareClaim claim, CallLimits limits);
  /// Forgets a share. not_found when it is not here; not_permitted for another owner.
  [[nodiscard]] virtual awaitable<Result<>> drop_share(core::Envelope drop, CallLimits limits);
};

/// The peers a volume may place shards on. Thread-safe; the list may grow while mounted.
class PeerDirectory {
 public:
  virtual ~PeerDirectory() = default;
  [[nodiscard]] virtual std::vector<std::shared_ptr<Peer>> all() const = 0;
  /// Null when no such peer is known.
  [[nodiscard]] virtual std::shared_ptr<Peer> find(const core::NodeId& id) const = 0;
};

}  // namespace ephfs::net
