// SPDX-License-Identifier: Apache-2.0
// What user.ephfs.state, .health, .placement and .manifest say of a regular file.
#include <algorithm>
#include <map>

#include <boost/json.hpp>

#include "fs/ephfs_xattrs.hpp"
#include "meta/manifest.hpp"
#include "meta/proof.hpp"

namespace ephfs::fs {
namespace {

namespace json = boost::json;

/// What an xattr's value can be at most.
constexpr std::size_t kValueBytesMax = std::size_t{64} << 10U;
/// At under 256 bytes each, with the nodes before them, these stay within it.
constexpr std::size_t kShardsListedMax = 200;
constexpr std::size_t kNodesListedMax = 100;

struct Content {
  bool dirty = false;
  std::vector<StripeHealth> stripes;
};

Result<Content> content_of(EngineState& state, Inode& inode) {
  if (!inode.is_regular()) return core::fail(core::Error::no_attribute);
  Content content;
  std::vector<StripeNumber> numbers;
  {
    const std::shared_lock lock(inode.mutex);
    if (inode.data) {
      content.dirty = !inode.data->dirty().empty();
      numbers = inode.data->extents().stripes();
    } else {
      EPHFS_TRY(const auto extents, state.catalog->extents(inode.number));
      for (const auto& extent : extents) numbers.push_back(extent.stripe);
    }
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  for (const StripeNumber number : numbers) {
    auto health = state.stripes->health(number);
    if (!health && health.error().code == core::Error::not_found) continue;  // moved on meanwhile
    if (!health) return std::move(health).error();
    content.stripes.push_back(*std::move(health));
  }
  return content;
}

bool is_placed(const StripeHealth& health) {
  return health.stripe.state == meta::StripeState::placed;
}
bool is_degraded(const StripeHealth& health) {
  return is_placed(health) && health.reachable < health.stripe.profile.width();
}
bool is_readable(const StripeHealth& health) {
  return health.local || health.reachable >= health.stripe.profile.k;
}

template <class Which>
std::int64_t count(const Content& content, Which which) {
  return std::count_if(content.stripes.begin(), content.stripes.end(), which);
}

/// busy while what the catalog says of the file is not all there is.
Result<> check_settled(Inode& inode) {
  const std::shared_lock lock(inode.mutex);
  if (inode.record_dirty || (inode.data && !inode.data->dirty().empty())) {
    return core::fail(core::Error::busy, "the file has changes that are not placed");
  }
  return {};
}

meta::ProofContext proof_context(const EngineState& state) {
  // Read before the clock: what has been destroyed is never of a time after the proof's.
  const auto punctured = state.epoch_keys->punctured();
  return {*state.catalog, state.keys.volume, state.owner, state.clock.now(), punctured};
}

}  // namespace

Result<std::string> describe_state(EngineState& state, Inode& inode) {
  EPHFS_TRY(const auto content, content_of(state, inode));
  for (const auto& health : content.stripes) {
    if (is_readable(health)) continue;
    return "failed: " + std::to_string(health.reachable) + " of " + std::to_string(health.stripe.profile.k) +
           " needed shards of a stripe can be reached";
  }
  if (content.dirty) return std::string("dirty");
  if (count(content, is_placed) < static_cast<std::int64_t>(content.stripes.size())) {
    const std::string error = state.stripes->counters().last_error;
    return error.empty() ? std::string("staged") : "failed: " + error;
  }
  return std::string(count(content, is_degraded) > 0 ? "degraded" : "placed");
}

Result<std::string> describe_health(EngineState& state, Inode& inode) {
  EPHFS_TRY(const auto content, content_of(state, inode));
  json::object report;
  report["stripes"] = content.stripes.size();
  report["placed"] = count(content, is_placed);
  report["degraded"] = count(content, is_degraded);
  report["unreadable"] = count(content, [](const auto& health) { return !is_readable(health); });
  report["local"] = count(content, [](const auto& health) { return health.local; });
  report["dirty"] = content.dirty;
  // How many nodes may still be lost before something of the file cannot be read from nodes; null when
  // nothing is placed.
  json::value spare = nullptr;
  for (const auto& health : content.stripes) {
    if (!is_placed(health)) continue;
    const std::int64_t left = std::int64_t{health.reachable} - health.stripe.profile.k;
    if (spare.is_null() || left < spare.as_int64()) spare = left;
  }
  report["spare_nodes"] = std::move(spare);
  return json::serialize(report);
}

Result<std::string> describe_placement(EngineState& state, Inode& inode) {
  EPHFS_TRY(const auto content, content_of(state, inode));
  std::map<core::NodeId, std::int64_t> by_node;
  json::array shards;
  std::size_t omitted = 0;
  for (const auto& health : content.stripes) {
    for (const auto& placement : health.placements) {
      ++by_node[placement.node];
      if (shards.size() >= kShardsListedMax) {
        ++omitted;
        continue;
      }
      json::object shard;
      shard["stripe"] = health.stripe.number.value;
      shard["index"] = placement.index;
      shard["shard"] = placement.shard.hex();
      shard["node"] = placement.node.hex();
      shard["stored"] = placement.stored;
      shards.push_back(std::move(shard));
    }
  }
  json::object nodes;
  for (const auto& [node, held] : by_node) {
    if (nodes.size() < kNodesListedMax) nodes[node.hex()] = held;
  }
  json::object report;
  report["stripes"] = content.stripes.size();
  report["nodes"] = std::move(nodes);
  report["shards"] = std::move(shards);
  if (omitted > 0) report["shards_not_listed"] = omitted;
  return json::serialize(report);
}

Result<std::string> signed_manifest(EngineState& state, Inode& inode) {
  if (!inode.is_regular()) return core::fail(core::Error::no_attribute);
  EPHFS_TRY_VOID(check_settled(inode));
  EPHFS_TRY(const auto manifest, meta::build_manifest(*state.catalog, inode.number, state.keys.volume));
  EPHFS_TRY(const auto bytes, meta::sign_manifest(manifest, state.owner));
  if (bytes.size() > kValueBytesMax) return core::fail(core::Error::file_too_large, "the manifest is past 64 KiB");
  return std::string(core::as_text(bytes));
}

Result<std::string> signed_proof(EngineState& state, Inode& inode) {
  if (!inode.is_regular()) return core::fail(core::Error::no_attribute);
  EPHFS_TRY_VOID(check_settled(inode));
  EPHFS_TRY(auto text, meta::prove_file(proof_context(state), inode.number));
  if (text.size() > kValueBytesMax) {
    return core::fail(core::Error::file_too_large, "the proof is past 64 KiB: ephfs proof gives it");
  }
  return text;
}

Result<std::string> Engine::proof(InodeNumber number) const {
  EPHFS_TRY(const auto inode, live_inode(*state_, number));
  EPHFS_TRY_VOID(check_settled(*inode));
  return meta::prove_file(proof_context(*state_), number);
}

Result<std::string> Engine::proof_of_dead(const core::FileId& file) const {
  return meta::prove_dead_file(proof_context(*state_), file);
}

}  // namespace ephfs::fs
