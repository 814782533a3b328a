// SPDX-License-Identifier: Apache-2.0
#include "fs/ttl_audit.hpp"

#include <algorithm>
#include <charconv>
#include <functional>
#include <set>

namespace ephfs::fs {
namespace {

using core::Error;

constexpr std::size_t kPage = 1024;
constexpr std::size_t kRemovalsMax = std::size_t{1} << 16U;

void add(TtlAudit& audit, std::string_view kind, std::string subject, std::string detail) {
  if (audit.faults.size() < kTtlFaultsMax) audit.faults.push_back({kind, std::move(subject), std::move(detail)});
}

std::string since(Deadline deadline) {
  return "since " + core::format_instant(deadline.instant());
}

using EachPlacement = std::function<void(const meta::StripeRecord&, const meta::PlacementRecord&)>;

Result<> for_each_placement(const meta::Catalog& catalog, const EachPlacement& each) {
  for (StripeNumber after{0};;) {
    EPHFS_TRY(const auto stripes, catalog.stripes_after(after, kPage));
    for (const auto& stripe : stripes) {
      EPHFS_TRY(const auto rows, catalog.placements(stripe.number));
      for (const auto& row : rows) each(stripe, row);
    }
    if (stripes.size() < kPage) return {};
    after = stripes.back().number;
  }
}

/// The stripe a file of staging or cache is of: N-ID.stripe and the like; none for another name.
std::optional<StripeNumber> stripe_of_file(const std::string& name) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc{} || end == name.data() + name.size() || *end != '-') return std::nullopt;
  return StripeNumber{number};
}

Result<> audit_files(const EngineState& state, core::Instant before, TtlAudit& audit) {
  for (const char* folder : {"staging", "cache"}) {
    std::error_code error;
    const auto directory = state.options.directory / folder;
    for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
         entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      const auto number = stripe_of_file(name);
      if (!number) continue;
      EPHFS_TRY(const auto stripe, state.catalog->stripe(*number));
      std::error_code gone;
      if (!stripe && std::filesystem::exists(entry->path(), gone)) {
        add(audit, kExpiredLocalData, std::string(folder) + "/" + name, "of a stripe that is no more");
      } else if (stripe && stripe->deadline.passed(before)) {
        add(audit, kExpiredLocalData, std::string(folder) + "/" + name, since(stripe->deadline));
      }
    }
    if (error) return core::fail_errno("listing " + directory.string(), error.value());
  }
  return {};
}

/// What the catalog says that one node has, and what it is to give up.
struct NodeRecords {
  std::map<core::ShardId, meta::PlacementRecord> placed;
  std::set<core::ShardId> removals;
  Deadline last_lease = Deadline::from_raw(0);
};

Result<NodeRecords> records_of(const EngineState& state, const core::NodeId& node) {
  NodeRecords records;
  EPHFS_TRY_VOID(for_each_placement(*state.catalog, [&](const auto&, const meta::PlacementRecord& row) {
    if (row.node != node) return;
    records.last_lease = std::max(records.last_lease, row.lease_deadline);
    records.placed.emplace(row.shard, row);
  }));
  EPHFS_TRY(const auto removals, state.catalog->removals(kRemovalsMax));
  for (const auto& removal : removals) {
    if (removal.node != node) continue;
    records.last_lease = std::max(records.last_lease, removal.lease_deadline);
    records.removals.insert(removal.shard);
  }
  return records;
}

awaitable<Result<std::map<core::ShardId, net::Holding>>> holdings_of(EngineState& state,
                                                                     std::shared_ptr<net::Peer> peer,
                                                                     net::CallLimits limits) {
  std::map<core::ShardId, net::Holding> held;
  for (core::ShardId after;;) {
    core::Inquiry asked;
    asked.kind = core::InquiryKind::holdings;
    asked.node = peer->id();
    asked.owner = *core::OwnerId::from_bytes(state.owner.public_key().view());
    net::ShardInquiry inquiry;
    inquiry.shards = {after};
    asked.subject = core::subject_of(inquiry.shards);
    inquiry.order = core::sign_inquiry(asked, state.owner);
    const auto page = co_await peer->holdings(std::move(inquiry), limits);
    if (!page) co_return page.error();
    for (const auto& holding : *page) held.emplace(holding.shard, holding);
    if (page->size() < net::kHoldingsMax) co_return held;
    after = page->back().shard;
  }
}

/// `before` and `after` are the records from before and after the node was asked: only what both say counts.
void compare(const NodeRecords& before, const NodeRecords& after, const std::map<core::ShardId, net::Holding>& held,
             core::Instant graced, const std::string& node, TtlAudit& audit) {
  for (const auto& [shard, holding] : held) {
    const std::string subject = "shard " + shard.hex() + " on node " + node;
    if (holding.deadline.passed(graced)) {
      add(audit, kShardWithoutLease, subject, since(holding.deadline));
    } else if (!holding.present) {
      add(audit, kLeaseWithoutShard, subject, "the node keeps its lease and has lost its bytes");
    } else if (!before.placed.contains(shard) && !after.placed.contains(shard) && !before.removals.contains(shard) &&
               !after.removals.contains(shard)) {
      add(audit, kUnknownShard, subject, "the catalog names it nowhere");
    }
  }
  for (const auto& [shard, row] : before.placed) {
    const auto still = after.placed.find(shard);
    if (!row.stored || still == after.placed.end() || !still->second.stored) continue;
    if (row.lease_deadline.passed(graced + 2 * kTtlGrace) || held.contains(shard)) continue;
    add(audit, kLeaseWithoutShard, "shard " + shard.hex() + " on node " + node, "the node does not hold it");
  }
}

}  // namespace

Result<TtlAudit> audit_ttl_of_volume(EngineState& state) {
  TtlAudit audit;
  const auto& catalog = *state.catalog;
  const core::Instant before = state.clock.confirmed_now() - kTtlGrace;
  EPHFS_TRY(const auto files, catalog.expired(before, kTtlFaultsMax));
  for (const auto number : files) {
    const auto inode = state.inodes.find(number);
    if (inode && !inode->is_gone(before)) continue;  // it slid on, in memory
    add(audit, kExpiredFile, "inode " + std::to_string(number.value), "its record is still there");
  }
  std::set<core::NodeId> nodes;
  EPHFS_TRY_VOID(for_each_placement(catalog, [&](const meta::StripeRecord& stripe, const meta::PlacementRecord& row) {
    nodes.insert(row.node);
    if (stripe.deadline.passed(before)) return;
    if (row.stored && row.lease_deadline.passed(before)) {
      add(audit, kExpiredProviderRecord, "shard " + row.shard.hex() + " on node " + row.node.hex(),
          "a placement whose lease is over " + since(row.lease_deadline));
    }
  }));
  EPHFS_TRY(const auto stripes, catalog.dead_stripes(before, kTtlFaultsMax));
  for (const auto& stripe : stripes) {
    if (!stripe.deadline.passed(before)) continue;
    add(audit, kExpiredStripe, "stripe " + std::to_string(stripe.number.value), since(stripe.deadline));
  }
  EPHFS_TRY(const auto removals, catalog.removals(kRemovalsMax));
  for (const auto& removal : removals) {
    nodes.insert(removal.node);
    if (!removal.lease_deadline.passed(before - 6 * kTtlGrace)) continue;
    add(audit, kExpiredProviderRecord, "shard " + removal.shard.hex() + " on node " + removal.node.hex(),
        "a removal whose lease is over " + since(removal.lease_deadline));
  }
  EPHFS_TRY_VOID(audit_files(state, before, audit));
  for (const auto& peer : state.peers.all()) nodes.insert(peer->id());
  audit.nodes.assign(nodes.begin(), nodes.end());
  return audit;
}

awaitable<Result<TtlAudit>> audit_ttl_of_node(EngineState& state, core::NodeId node, net::CallLimits limits) {
  TtlAudit audit;
  EPHFS_CO_TRY(const auto before, records_of(state, node));
  const auto peer = state.peers.find(node);
  std::optional<core::Failure> failure;
  std::map<core::ShardId, net::Holding> held;
  if (peer) {
    auto told = co_await holdings_of(state, peer, limits);
    if (told)
      held = *std::move(told);
    else
      failure = std::move(told).error();
  } else {
    failure = core::fail(Error::unreachable, "the node is not in the pool");
  }
  const core::Instant graced = state.clock.confirmed_now() - kTtlGrace;
  if (failure) {
    const bool has_records = !before.placed.empty() || !before.removals.empty();
    const std::string subject = "node " + node.hex();
    if (has_records && before.last_lease.passed(graced)) {
      add(audit, kExpiredPeer, subject,
          "its last lease is over " + since(before.last_lease) + "; " + failure->message());
    } else {
      add(audit, kUnreachableNode, subject, failure->message());
    }
    co_return audit;
  }
  EPHFS_CO_TRY(const auto after, records_of(state, node));
  compare(before, after, held, graced, node.hex(), audit);
  co_return audit;
}

}  // namespace ephfs::fs
