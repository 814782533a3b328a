// SPDX-License-Identifier: Apache-2.0
#include "fs/collector.hpp"

#include <algorithm>

#include "fs/death_record.hpp"
#include "fs/placer.hpp"
#include "fs/receipt_collector.hpp"

namespace ephfs::fs {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kStripesAtOnce = 256;
constexpr std::size_t kRemovalsMin = 1024;
constexpr std::size_t kRemovalsMax = std::size_t{1} << 16U;
constexpr core::Nanoseconds kGathering = 50ms;
constexpr core::Nanoseconds kLookAgain = 1s;
constexpr core::Nanoseconds kLongestPause = 30s;

template <class Time>
void take_earlier(std::optional<Time>& next, const std::optional<Time>& other) {
  if (other && (!next || *other < *next)) next = other;
}

}  // namespace

void Collector::soon() {
  within(kGathering);
}

void Collector::within(core::Nanoseconds span) {
  const core::Boottime at = state_.context.clock.boot_now() + span;
  {
    const std::lock_guard lock(mutex_);
    if (due_ && *due_ <= at) return;
    due_ = at;
  }
  wake_.notify();
}

awaitable<void> Collector::run(std::stop_token stop) {
  within(0s);
  while (!stop.stop_requested()) {
    Next due;
    {
      const std::lock_guard lock(mutex_);
      due = due_;
      if (due && *due <= state_.context.clock.boot_now()) due_.reset();
    }
    if (due && *due <= state_.context.clock.boot_now()) {
      Next next = collect_stripes();
      const Next removals = co_await send_removals(stop);
      take_earlier(next, removals);
      if (next) within(*next - state_.context.clock.boot_now());
      continue;
    }
    co_await wake_.wait(state_.context.clock, due);
  }
}

Collector::Next Collector::boottime_of(core::Deadline deadline, core::Instant now) const {
  if (deadline.is_never()) return std::nullopt;
  const auto left = std::max(deadline.instant() - now, core::Milliseconds(0));
  // Far deadlines are looked at again before they could pass the range of nanoseconds.
  return state_.context.clock.boot_now() + std::min<core::Nanoseconds>(left, 24h);
}

Collector::Next Collector::collect_stripes() {
  const core::Instant now = state_.context.clock.destruction_now();
  const Next next = boottime_of(state_.files->remove_expired(now), now);
  const std::size_t limit = kStripesAtOnce + stripes_skipped_;
  const auto dead = state_.context.catalog.dead_stripes(now, limit);
  const Next again = state_.context.clock.boot_now() + kLookAgain;
  if (!dead) {
    state_.say("looking for dead stripes: " + dead.error().message());
    return again;
  }
  if (const auto safe = sync_successors(*dead, now); !safe) {
    state_.say("before deleting dead stripes: " + safe.error().message());
    return again;
  }
  stripes_skipped_ = 0;
  for (const auto& record : *dead) {
    if (!collect(record)) ++stripes_skipped_;
  }
  if (dead->size() == limit && stripes_skipped_ < limit) return state_.context.clock.boot_now();
  if (stripes_skipped_ > 0) return again;
  return next;
}

/// A loss of power may take the catalog back to its last sync. Bytes that were written over or moved go only when what
/// took their place, and the commit that says so, would survive it; what died at its deadline has no successor.
Result<> Collector::sync_successors(const std::vector<meta::StripeRecord>& dead, core::Instant now) {
  const bool all_died = std::ranges::all_of(dead, [now](const auto& record) { return record.deadline.passed(now); });
  if (all_died) return {};
  EPHFS_TRY_VOID(state_.log.sync_all());
  return state_.context.catalog.sync();
}

/// Whether the stripe is gone; else somebody works on it, or has extents in it still.
bool Collector::collect(const meta::StripeRecord& record) {
  const core::Instant now = state_.context.clock.confirmed_now();
  const StripeNumber number = record.number;
  if (const auto staged = state_.log.find(number); staged && staged->open) {
    state_.log.close(number);
    return false;
  }
  const auto claim = state_.claims.try_claim(number);
  if (!claim) return false;
  const auto placements = state_.context.catalog.placements(number);
  if (!placements) return false;
  meta::Changes changes;
  for (const auto& row : *placements) {
    const auto removal = removal_of(row, record.deadline);
    if (!removal.lease_deadline.passed(now)) changes.emplace_back(meta::PutRemoval{removal});
  }
  const bool is_remembered = state_.context.options.proof_keep > Milliseconds{0};
  if (is_remembered) remember_stripe(record, *placements, now, changes);
  const auto dropped = state_.table.drop(number, std::move(changes));
  // Extents that are still there died with it; they are their file's to drop. Its bytes go now.
  if (!dropped && !record.deadline.passed(now)) return false;
  state_.log.discard(number);
  state_.placer->forget(number);
  state_.files->remove_cached({number, record.id});
  if (dropped && is_remembered) state_.receipts->wake();
  return dropped.has_value();
}

awaitable<Collector::Next> Collector::send_removals(std::stop_token stop) {
  auto& catalog = state_.context.catalog;
  const core::Instant now = state_.context.clock.confirmed_now();
  const std::size_t limit = std::max(removals_limit_, kRemovalsMin);
  const auto owed = catalog.removals(limit);
  if (!owed) co_return state_.context.clock.boot_now() + kLookAgain;

  Next next;
  meta::Changes over;
  std::map<core::NodeId, std::vector<meta::RemovalRecord>> by_node;
  for (const auto& removal : *owed) {
    if (removal.lease_deadline.passed(now)) {
      over.emplace_back(meta::DropRemoval{removal.shard, removal.node});
      continue;
    }
    take_earlier(next, boottime_of(removal.lease_deadline, now));
    if (state_.nodes.ready(removal.node) && state_.context.peers.find(removal.node)) {
      by_node[removal.node].push_back(removal);
    }
  }
  if (!over.empty()) (void)catalog.commit(over);
  const core::Mailbox<char> done;
  for (auto& [node, removals] : by_node) {
    std::function<awaitable<void>()> task = [this, node = node, removals = std::move(removals), stop,
                                             done]() -> awaitable<void> {
      co_await send_to(node, removals, stop);
      done.post('d');
    };
    state_.tasks.spawn(state_.context.executor, std::move(task));
  }
  for (std::size_t i = 0; i < by_node.size(); ++i) (void)co_await done.receive();

  const bool more = owed->size() == limit;
  removals_limit_ = more && by_node.empty() && over.empty() ? std::min(limit * 2, kRemovalsMax) : kRemovalsMin;
  if (more && (!by_node.empty() || !over.empty() || limit < kRemovalsMax)) {
    co_return state_.context.clock.boot_now() + std::chrono::milliseconds(10);
  }
  const auto left = catalog.removals(1);
  if (left && left->empty()) co_return std::nullopt;
  take_earlier(next, Next(state_.context.clock.boot_now() + kLongestPause));
  take_earlier(next, state_.nodes.next_ready());
  co_return next;
}

awaitable<void> Collector::send_to(core::NodeId node, std::vector<meta::RemovalRecord> removals, std::stop_token stop) {
  meta::Changes done;
  for (const auto& removal : removals) {
    const auto peer = state_.context.peers.find(node);
    if (!peer || stop.stop_requested()) break;
    auto limits = state_.call_limits(stop);
    const auto outcome = co_await remove_shard(peer, removal, &state_.context.owner, std::move(limits));
    if (!outcome) {
      state_.nodes.failed(node, outcome.error().code);
      break;
    }
    state_.nodes.answered(node);
    done.emplace_back(meta::DropRemoval{removal.shard, removal.node});
  }
  if (done.empty()) co_return;
  if (const auto committed = state_.context.catalog.commit(done); !committed) {
    state_.say("noting removed shards: " + committed.error().message());
  }
}

}  // namespace ephfs::fs
