// SPDX-License-Identifier: Apache-2.0
// The pool file and the invitations: text that a person may have edited.
#include "core/secret.hpp"
#include "node/pool_files.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace ephfs::fuzz {

std::vector<core::Bytes> samples() {
  node::PoolFile pool{core::random_id<core::PoolId>(), {core::random_id<core::NodeId>(), "a.example.org:7400"}, {}};
  pool.others.push_back({core::random_id<core::NodeId>(), "[2001:db8::1]:7400"});
  const std::vector<node::Invitation> invitations{
      {core::random_id<core::ShardId>(), core::Instant{1'800'000'000'000}, 3}};
  return {core::to_bytes(core::as_bytes(node::encode_pool_file(pool))),
          core::to_bytes(core::as_bytes(node::encode_invitations(invitations)))};
}

void try_bytes(core::ByteView bytes) {
  const std::string_view text = core::as_text(bytes);
  if (const auto pool = node::parse_pool_file(text)) {
    const std::string again = node::encode_pool_file(*pool);
    const auto same = node::parse_pool_file(again);
    EPHFS_CHECK(same && node::encode_pool_file(*same) == again, "a pool file that was read is written as it is");
  }
  if (const auto invitations = node::parse_invitations(text)) {
    const std::string again = node::encode_invitations(*invitations);
    EPHFS_CHECK(node::parse_invitations(again).has_value(), "invitations that were read can be written");
  }
}

}  // namespace ephfs::fuzz
