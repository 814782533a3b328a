// SPDX-License-Identifier: Apache-2.0
// Shards, owners and signed leases for tests, made from a seed.
#pragma once

#include <memory>

#include "core/records.hpp"
#include "node/shard_store.hpp"
#include "tests/support/seeded.hpp"

namespace ephfs::testing {

/// Room for the shards of a test.
constexpr std::uint64_t kSampleCapacity = 16U << 20U;

/// A shard with its tree, ready to be stored.
struct SampleShard {
  net::ShardSource source;
  core::ShardId id;

  [[nodiscard]] std::uint64_t bytes() const { return source.bytes.size(); }
  [[nodiscard]] const core::MerkleTree& tree() const { return *source.tree; }
};

inline SampleShard make_shard(Random& random, std::size_t bytes) {
  SampleShard shard;
  shard.source.bytes = core::SharedBytes::copy_of(random.bytes(bytes));
  shard.source.tree = std::make_shared<const core::MerkleTree>(core::MerkleTree::of_data(shard.source.bytes.view()));
  shard.id = shard.source.tree->root();
  return shard;
}

inline core::Signer make_signer(Random& random) {
  return core::Signer(core::SigningSeed::copy_of(random.bytes(core::SigningSeed::kSize)));
}

inline core::OwnerId owner_id_of(const core::Signer& signer) {
  return *core::OwnerId::from_bytes(signer.public_key().view());
}

inline core::Lease make_lease(const SampleShard& shard, const core::NodeId& node, const core::Signer& owner,
                              core::Instant deadline, std::uint64_t serial = 1) {
  core::Lease lease;
  lease.shard = shard.id;
  lease.node = node;
  lease.owner = owner_id_of(owner);
  lease.bytes = shard.bytes();
  lease.deadline = core::Deadline(deadline);
  lease.serial = serial;
  return lease;
}

inline node::HeldLease make_held(const core::Lease& lease, const core::Signer& owner) {
  return {lease, core::sign_lease(lease, owner)};
}

}  // namespace ephfs::testing
