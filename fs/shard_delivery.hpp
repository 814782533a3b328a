// SPDX-License-Identifier: Apache-2.0
// One shard's dealings with one node: the lease is signed, the call made, and the receipt checked, in every field,
// before it counts. Used by placing and by repair.
#pragma once

#include "core/async.hpp"
#include "core/signing.hpp"
#include "fs/stripe_coding.hpp"
#include "net/peer.hpp"

namespace ephfs::fs {

using core::awaitable;
using core::Deadline;
using core::Result;

/// Stores a shard under a lease until `deadline`. The row as it is then: stored, with the receipt. The row's serial is
/// used as it is: commit it before, larger than any before, so that a lease is never older than what the node has.
[[nodiscard]] awaitable<Result<meta::PlacementRecord>> deliver_shard(std::shared_ptr<net::Peer> peer,
                                                                     meta::PlacementRecord row, Deadline deadline,
                                                                     net::ShardSource source, const core::Signer* owner,
                                                                     net::CallLimits limits);

/// Gives the lease of a shard that the node holds another deadline.
[[nodiscard]] awaitable<Result<meta::PlacementRecord>> renew_shard(std::shared_ptr<net::Peer> peer,
                                                                   meta::PlacementRecord row, Deadline deadline,
                                                                   const core::Signer* owner, net::CallLimits limits);

/// A shard that a node may hold and need not: its removal, for the catalog.
[[nodiscard]] meta::RemovalRecord removal_of(const meta::PlacementRecord& row, Deadline stripe_deadline);

/// Has the node delete a shard. Done too when it is not there, or held under a newer lease.
[[nodiscard]] awaitable<Result<>> remove_shard(std::shared_ptr<net::Peer> peer, meta::RemovalRecord removal,
                                               const core::Signer* owner, net::CallLimits limits);

/// The row of a shard that its node does not have, as far as is known: owed, with no lease to count on.
void mark_owed(meta::PlacementRecord& row);

/// A row's standing: the shard may be read from its node.
[[nodiscard]] inline bool may_hold(const meta::PlacementRecord& row, core::Instant now) {
  return row.stored || !row.lease_deadline.passed(now);
}

}  // namespace ephfs::fs
