// SPDX-License-Identifier: Apache-2.0
#include "fs/repairer.hpp"

#include <algorithm>

namespace ephfs::fs {

using core::Error;
using core::fail;

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kLimitMin = 256;
constexpr std::size_t kLimitMax = std::size_t{1} << 16U;
constexpr core::Nanoseconds kLongestPause = 30s;
constexpr std::size_t kRenewalsAtOnce = 128;  // stripes
/// Two nodes that lose what they are given would otherwise keep the repairs of one another's shards going for ever.
constexpr core::Nanoseconds kPaidAgainAfter = 10s;

}  // namespace

awaitable<void> Repairer::run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    const bool left = co_await pass(stop);
    std::optional<core::Boottime> next;
    if (left) {
      next = state_.context.clock.boot_now() + kLongestPause;
      if (const auto ready = state_.nodes.next_ready()) next = std::min(*next, *ready);
    }
    co_await wake_.wait(state_.context.clock, next);
  }
}

awaitable<bool> Repairer::pass(std::stop_token stop) {
  const auto owed = state_.context.catalog.owed(std::max(limit_, kLimitMin));
  if (!owed) {
    state_.say("reading what is owed: " + owed.error().message());
    co_return true;
  }
  std::vector<StripeNumber> stripes;
  for (const auto& row : *owed) {
    if (stripes.empty() || stripes.back() != row.stripe) stripes.push_back(row.stripe);
  }
  for (const StripeNumber number : stripes) {
    if (renewals_running_ >= kRenewalsAtOnce) break;
    ++renewals_running_;
    std::function<awaitable<void>()> task = [this, number, stop]() -> awaitable<void> {
      co_await renew(number, stop);
      --renewals_running_;
    };
    state_.tasks.spawn(state_.context.executor, std::move(task));
  }
  bool left = false;
  bool paid = false;
  const core::Boottime now = state_.context.clock.boot_now();
  std::erase_if(paid_, [now](const auto& entry) { return now - entry.second >= kPaidAgainAfter; });
  for (const StripeNumber number : stripes) {
    if (stop.stop_requested()) co_return true;
    if (paid_.contains(number)) {
      left = true;
      continue;
    }
    const Repair outcome = co_await repair(number, stop);
    if (outcome == Repair::paid) paid_[number] = state_.context.clock.boot_now();
    paid = paid || outcome == Repair::paid;
    left = left || outcome == Repair::left;
  }
  state_.log.changes().notify_all();
  // A full list of debts that cannot be paid may hide others that can.
  const bool more = owed->size() >= std::max(limit_, kLimitMin);
  limit_ = more && !paid ? std::min(std::max(limit_, kLimitMin) * 2, kLimitMax) : kLimitMin;
  if (more && (paid || limit_ < kLimitMax)) wake_.notify();
  co_return left;
}

/// A renewal that comes after the old lease's end is too late, and the shard is lost. So a stripe's renewals go to all
/// its nodes at once, those of many stripes together, and a silent node keeps nobody waiting but itself.
awaitable<void> Repairer::renew(StripeNumber number, std::stop_token stop) {
  const auto claim = state_.claims.try_claim(number);
  if (!claim) co_return;
  const auto rows = state_.table.find(number);
  if (!rows) co_return;
  const meta::StripeRecord record = (*rows)->record;
  if (record.state != meta::StripeState::placed || record.deadline.passed(state_.context.clock.now())) co_return;
  const auto debts = choose(**rows, Wanted::renewals);
  if (!debts || debts->empty()) co_return;
  const core::Mailbox<char> done;
  for (const auto& debt : *debts) {
    std::function<awaitable<void>()> task = [this, debt, deadline = record.deadline, stop, done]() -> awaitable<void> {
      auto limits = state_.call_limits(stop);
      const auto outcome = co_await renew_shard(debt.peer, debt.row, deadline, &state_.context.owner, limits);
      if (outcome) {
        state_.nodes.answered(debt.peer->id(), 0);
        (void)commit_paid(*outcome);
      } else if (outcome.error().code == Error::not_found) {
        (void)note_lost(debt.row);
      } else {
        state_.nodes.failed(debt.peer->id(), outcome.error().code);
      }
      done.post('d');
    };
    state_.tasks.spawn(state_.context.executor, std::move(task));
  }
  for (std::size_t i = 0; i < debts->size(); ++i) (void)co_await done.receive();
  // What a node no longer has must be made again, which is the pass's work.
  wake_.notify();
}

awaitable<Repairer::Repair> Repairer::repair(StripeNumber number, std::stop_token stop) {
  const auto claim = state_.claims.try_claim(number);
  if (!claim) co_return Repair::left;
  auto rows = state_.table.find(number);
  if (!rows) co_return Repair::none;
  // What is not placed yet is the Placer's; what has died needs nothing.
  const meta::StripeRecord record = (*rows)->record;
  if (record.state != meta::StripeState::placed || record.deadline.passed(state_.context.clock.now())) {
    co_return Repair::none;
  }
  auto debts = choose(**rows, Wanted::shards);
  if (!debts) co_return Repair::left;
  const auto owed =
      static_cast<std::size_t>(std::ranges::count((*rows)->placements, false, &meta::PlacementRecord::stored));
  std::size_t paid = 0;
  std::vector<CodedShard> shards;
  for (auto& debt : *debts) {
    const core::NodeId node = debt.peer->id();
    if (shards.empty()) {
      auto made = co_await make_shards(*rows, stop);
      if (!made) {
        state_.say("repairing stripe " + std::to_string(number.value) + ": " + made.error().message());
        co_return Repair::left;
      }
      shards = std::move(*made);
    }
    const CodedShard& shard = shards[debt.row.index];
    net::ShardSource source{shard.bytes, shard.tree, {}};
    auto limits = state_.call_limits(stop);
    auto outcome = co_await deliver_shard(debt.peer, debt.row, record.deadline, source, &state_.context.owner, limits);
    if (!outcome) {
      state_.nodes.failed(node, outcome.error().code);
      continue;
    }
    state_.nodes.answered(node, debt.row.shard_bytes);
    if (commit_paid(*outcome)) ++paid;
  }
  co_return paid == owed ? Repair::paid : Repair::left;
}

/// Which debts can be paid now, and to whom; commits the new serials and nodes.
Result<std::vector<Repairer::Debt>> Repairer::choose(const StripeRows& rows, Wanted wanted) {
  const core::Instant now = state_.context.clock.confirmed_now();
  auto candidates = state_.nodes.rank(state_.context.peers.all(), rows.record.id);
  for (const auto& row : rows.placements) {
    std::erase_if(candidates, [&row](const PeerPtr& peer) { return peer->id() == row.node; });
  }
  std::vector<Debt> debts;
  std::vector<meta::RemovalRecord> removals;
  for (const auto& owed : rows.placements) {
    if (owed.stored) continue;
    Debt debt{owed, state_.context.peers.find(owed.node), may_hold(owed, now)};
    if (wanted == Wanted::renewals) {
      if (!debt.renew) continue;
    } else if (debt.renew && debt.peer && !state_.nodes.given_up(owed.node)) {
      continue;
    } else if (!debt.peer || state_.nodes.given_up(owed.node)) {
      const auto other = std::ranges::find_if(candidates, [this](const PeerPtr& peer) {
        return state_.nodes.trusted(*peer) && !state_.nodes.given_up(peer->id());
      });
      if (other != candidates.end()) {
        removals.push_back(removal_of(owed, rows.record.deadline));
        debt.peer = *other;
        debt.renew = false;
        mark_owed(debt.row);
        debt.row.node = debt.peer->id();
        candidates.erase(other);
      }
    }
    if (!debt.peer || !state_.nodes.ready(debt.peer->id())) continue;
    ++debt.row.lease_serial;
    debts.push_back(std::move(debt));
  }
  if (debts.empty()) return debts;
  EPHFS_TRY_VOID(state_.table.update(rows.record.number, [&](StripeRows& fresh, meta::Changes& changes) -> Result<> {
    for (const auto& removal : removals) changes.emplace_back(meta::PutRemoval{removal});
    for (const auto& debt : debts) {
      changes.emplace_back(meta::DropRemoval{debt.row.shard, debt.row.node});
      changes.emplace_back(meta::PutPlacement{debt.row});
      for (auto& row : fresh.placements) {
        if (row.index == debt.row.index) row = debt.row;
      }
    }
    return {};
  }));
  return debts;
}

awaitable<Result<std::vector<CodedShard>>> Repairer::make_shards(std::shared_ptr<const StripeRows> rows,
                                                                 std::stop_token stop) {
  const meta::StripeRecord record = rows->record;
  const std::uint64_t padded = padded_length(record);
  const StripeName name{record.number, record.id};
  const auto matches = [&rows](const std::vector<CodedShard>& shards) {
    return std::ranges::all_of(rows->placements,
                               [&](const auto& row) { return shards[row.index].tree->root() == row.shard; });
  };
  const auto buffer = state_.buffers.take();
  if (const auto file = state_.files->cached(name)) {
    if (core::read_exactly(*file, 0, buffer->view().first(padded))) {
      auto shards = code_stripe(shared_part(buffer, 0, padded), record.profile, state_.parity);
      if (matches(shards)) co_return shards;
    }
    state_.say("cached copy of stripe " + std::to_string(record.number.value) + " is damaged; dropped");
    state_.files->remove_cached(name);
  }
  GatherRequest request;
  request.rows = rows;
  request.length = core::shard_bytes(record.length, record.profile);
  for (unsigned index = 0; index < record.profile.k; ++index) request.wanted.push_back(index);
  request.verified = true;
  auto limits = state_.call_limits(stop);
  auto gathered = co_await state_.gatherer.gather(std::move(request), std::move(limits));
  state_.report_faults(record.number, gathered.faults);
  if (!gathered.ranges) co_return gathered.ranges.error();
  const auto whole = state_.buffers.take();
  std::uint64_t at = 0;
  for (const auto& range : *gathered.ranges) {
    std::ranges::copy(range.view(), whole->data() + at);
    at += range.size();
  }
  auto shards = code_stripe(shared_part(whole, 0, padded), record.profile, state_.parity);
  if (!matches(shards)) co_return fail(Error::damaged, "its shards do not fit one another");
  co_return shards;
}

Result<> Repairer::note_lost(const meta::PlacementRecord& lost) {
  return state_.table.update(lost.stripe, [&](StripeRows& rows, meta::Changes& changes) -> Result<> {
    for (auto& row : rows.placements) {
      if (row.index != lost.index || row.node != lost.node) continue;
      mark_owed(row);
      changes.emplace_back(meta::PutPlacement{row});
    }
    return {};
  });
}

Result<> Repairer::commit_paid(const meta::PlacementRecord& paid) {
  return state_.table.update(paid.stripe, [&](StripeRows& rows, meta::Changes& changes) -> Result<> {
    for (auto& row : rows.placements) {
      if (row.index != paid.index || row.node != paid.node) continue;
      row = paid;
      if (rows.record.deadline != paid.lease_deadline) {
        row.stored = false;
        row.receipt.clear();
      }
      changes.emplace_back(meta::PutPlacement{row});
    }
    return {};
  });
}

}  // namespace ephfs::fs
