// SPDX-License-Identifier: Apache-2.0
// The TTL audit: what should be gone and is not, or should be there and is not, in the volume and on its nodes. Each
// kind of fault has a name, which `ephfs audit --ttl` prints (docs/proofs.md). Reads only.
#pragma once

#include <string>
#include <vector>

#include "fs/engine_state.hpp"

namespace ephfs::fs {

struct TtlFault {
  std::string_view kind;  // one of the names below
  std::string subject;    // an inode, stripe, file or shard, as a person would look for it
  std::string detail;
};

// In the volume.
constexpr std::string_view kExpiredFile = "expired_file";      // a record past its deadline
constexpr std::string_view kExpiredStripe = "expired_stripe";  // the same of a stripe
constexpr std::string_view kExpiredLocalData =
    "expired_local_data";  // a staged or cached file of an expired or unknown one
constexpr std::string_view kExpiredProviderRecord =
    "expired_provider_record";  // a placement or removal, its lease over
// Of a node.
constexpr std::string_view kExpiredPeer = "expired_peer";  // named in the catalog, not answering, all leases over
constexpr std::string_view kShardWithoutLease = "shard_without_lease";  // a node has it, and its lease is over
constexpr std::string_view kUnknownShard = "unknown_shard";  // a node has it, and the catalog names it nowhere
constexpr std::string_view kLeaseWithoutShard = "lease_without_shard";  // a lease runs, and the node has not the bytes
constexpr std::string_view kUnreachableNode = "unreachable_node";       // could not be asked, and holds leases that run

struct TtlAudit {
  std::vector<TtlFault> faults;     // at most kTtlFaultsMax
  std::vector<core::NodeId> nodes;  // of the volume's own: those to be asked next
};
constexpr std::size_t kTtlFaultsMax = 1000;
/// What is past its deadline for less than this is not yet a fault: its removal is under way.
constexpr Milliseconds kTtlGrace{10'000};

/// What the catalog and the local disk say.
[[nodiscard]] Result<TtlAudit> audit_ttl_of_volume(EngineState& state);
/// What one node says, against the catalog.
[[nodiscard]] awaitable<Result<TtlAudit>> audit_ttl_of_node(EngineState& state, core::NodeId node,
                                                            net::CallLimits limits);

}  // namespace ephfs::fs
