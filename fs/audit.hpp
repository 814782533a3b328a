// SPDX-License-Identifier: Apache-2.0
// Asking nodes to prove that they hold what they were given: some leaves of a shard, or all of it. Free functions over
// an engine's parts; each call is bounded by its limits and may be one of many that walk through a volume.
#pragma once

#include <string>
#include <vector>

#include "fs/engine_state.hpp"

namespace ephfs::fs {

enum class AuditVerdict : std::uint8_t {
  passed,
  failed,       // the node says that it has not got it, or gave bytes that are not the shard's
  unreachable,  // nobody can tell
};
[[nodiscard]] std::string_view to_string(AuditVerdict verdict);

struct AuditFinding {
  core::StripeId stripe;
  std::uint8_t index = 0;
  core::ShardId shard;
  core::NodeId node;
  AuditVerdict verdict = AuditVerdict::passed;
  std::string detail;  // of what did not pass
};

enum class AuditDepth : std::uint8_t {
  leaves,  // a few leaves at random, by Peer::prove: cheap
  whole,   // every byte, by Peer::fetch
};
enum class AuditWidth : std::uint8_t { one_shard, all_shards };  // of each stripe

/// Audits stored shards of these stripes; what is not placed, or gone by now, is passed over. A verdict that is certain
/// is kept as the placement's last audit.
[[nodiscard]] awaitable<std::vector<AuditFinding>> audit_stripes(EngineState& state, std::vector<StripeNumber> stripes,
                                                                 AuditDepth depth, AuditWidth width,
                                                                 net::CallLimits limits);

}  // namespace ephfs::fs
