// SPDX-License-Identifier: Apache-2.0
// A lease file as a node finds it after anything happened to its disk.
#include "core/secret.hpp"
#include "node/lease_file.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace ephfs::fuzz {

std::vector<core::Bytes> samples() {
  const core::Signer signer(core::SigningSeed::copy_of(core::Bytes(core::SigningSeed::kSize)));
  node::HeldLease held;
  held.lease = {core::random_id<core::ShardId>(),
                core::random_id<core::NodeId>(),
                *core::OwnerId::from_bytes(signer.public_key().view()),
                10'000,
                core::Deadline(core::Instant{1'800'000'000'000}),
                2};
  held.envelope = core::sign_lease(held.lease, signer);
  return {node::encode_lease_file(held, std::vector<core::Hash>(core::leaf_count(held.lease.bytes)))};
}

void try_bytes(core::ByteView bytes) {
  const auto prefix = bytes.first(std::min(bytes.size(), node::kLeaseHeadBytesMax));
  const auto head = node::parse_lease_head(prefix, bytes.size());
  const auto leaves = node::parse_leaf_hashes(bytes);
  if (!head) return;
  EPHFS_CHECK(head->head_bytes <= prefix.size(), "a head ends within the file");
  if (leaves) EPHFS_CHECK(leaves->size() == head->leaves, "the head says how many leaf hashes follow");
  const core::Bytes again = node::encode_lease_head(head->held);
  const auto same = node::parse_lease_head(again, bytes.size());
  EPHFS_CHECK(same && same->held.envelope == head->held.envelope, "a lease that was read is written as it is");
}

}  // namespace ephfs::fuzz
