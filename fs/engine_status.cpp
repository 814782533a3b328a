// SPDX-License-Identifier: Apache-2.0
// What statfs(2) and `ephfs status` say of a volume.
#include <algorithm>
#include <array>

#include <boost/json.hpp>
#include <sys/statvfs.h>

#include "fs/engine_state.hpp"

namespace ephfs::fs {
namespace {

namespace json = boost::json;

constexpr std::string_view name_of(Durability durability) {
  switch (durability) {
    case Durability::local:
      return "local";
    case Durability::quorum:
      return "quorum";
    case Durability::full:
      return "full";
  }
  return "local";
}

std::string format_limit(Milliseconds span) {
  return span == kPermanentTtl ? "never" : core::format_span(span);
}

json::object describe_policy(const EngineOptions& options) {
  json::object policy;
  policy["ttl"] = format_limit(options.ttl.initial);
  policy["min_ttl"] = format_limit(options.ttl.shortest);
  policy["max_ttl"] = format_limit(options.ttl.longest);
  if (options.warn.count() > 0) policy["warn"] = core::format_span(options.warn);
  policy["allow_permanent"] = options.ttl.allow_permanent;
  policy["profile"] = options.profile ? core::format_profile(*options.profile) : "auto";
  policy["durability"] = name_of(options.durability);
  return policy;
}

json::object describe_stripes(const StripeCounters& counters) {
  json::object stripes;
  stripes["staged_bytes"] = counters.staged_bytes;
  stripes["cached_bytes"] = counters.cached_bytes;
  stripes["open"] = counters.open_stripes;
  stripes["sealed"] = counters.sealed_stripes;
  stripes["shards_owed"] = counters.shards_owed;
  stripes["removals_owed"] = counters.removals_owed;
  stripes["last_error"] = counters.last_error;
  return stripes;
}

json::array describe_peers(const net::PeerDirectory& directory) {
  json::array peers;
  for (const auto& peer : directory.all()) {
    json::object described;
    described["node"] = peer->id().hex();
    described["reachable"] = peer->reachable();
    described["local"] = peer->is_local();
    peers.push_back(std::move(described));
  }
  return peers;
}

json::object describe_expiring(const meta::Catalog& catalog, core::Instant now) {
  struct Horizon {
    std::string_view name;
    Milliseconds span;
  };
  constexpr std::array kHorizons{Horizon{"1m", std::chrono::minutes(1)}, Horizon{"1h", std::chrono::hours(1)},
                                 Horizon{"1d", std::chrono::hours(24)}, Horizon{"7d", std::chrono::hours(24 * 7)}};
  json::object expiring;
  for (const auto& horizon : kHorizons) {
    const auto totals = catalog.expiring(now, now + horizon.span);
    if (!totals) continue;
    json::object within;
    within["files"] = totals->files;
    within["bytes"] = totals->bytes;
    expiring[horizon.name] = std::move(within);
  }
  return expiring;
}

}  // namespace

Result<VolumeStatistics> Engine::statistics() const {
  EPHFS_TRY(const auto totals, state_->catalog->totals());
  struct statvfs disk {};
  if (::statvfs(state_->options.directory.c_str(), &disk) != 0) {
    return core::fail_errno("statvfs " + state_->options.directory.string());
  }
  VolumeStatistics statistics;
  statistics.inodes = totals.inodes;
  const std::uint64_t unit = disk.f_frsize;
  const std::uint64_t used = totals.bytes + state_->dirty.bytes;
  if (state_->options.capacity > 0) {
    statistics.bytes_total = state_->options.capacity;
    statistics.bytes_free = statistics.bytes_total - std::min(used, statistics.bytes_total);
  } else {
    statistics.bytes_total = disk.f_blocks * unit;
    statistics.bytes_free = disk.f_bavail * unit;
  }
  return statistics;
}

std::string Engine::status_json() const {
  const core::Instant now = state_->clock.now();
  json::object status;
  status["volume"] = state_->keys.volume.hex();
  status["directory"] = state_->options.directory.string();
  status["now"] = core::format_instant(now);
  status["policy"] = describe_policy(state_->options);
  if (const auto totals = state_->catalog->totals()) {
    status["inodes"] = totals->inodes;
    status["live_bytes"] = totals->bytes;
    status["stripe_count"] = totals->stripes;
  }
  if (const auto statistics = this->statistics()) {
    status["total_bytes"] = statistics->bytes_total;
    status["free_bytes"] = statistics->bytes_free;
  }
  status["dirty_bytes"] = state_->dirty.bytes.load();
  status["inodes_in_memory"] = state_->inodes.size();
  status["stripes"] = describe_stripes(state_->stripes->counters());
  const auto next = state_->catalog->next_deadline();
  status["next_deadline"] = next && !next->is_never() ? json::value(core::format_instant(next->instant())) : nullptr;
  status["expiring"] = describe_expiring(*state_->catalog, now);
  status["peers"] = describe_peers(state_->peers);
  return json::serialize(status);
}

}  // namespace ephfs::fs
