// SPDX-License-Identifier: Apache-2.0
#include "fs/placement_attempt.hpp"

#include <algorithm>

#include "fs/collector.hpp"
#include "fs/repairer.hpp"

namespace ephfs::fs {

using core::Error;
using core::fail;

namespace {

using namespace std::chrono_literals;

/// How much longer the last nodes get once a stripe is placed without them.
constexpr core::Nanoseconds kStragglersGrace = 500ms;
/// How long nodes that are likely to answer are waited for alone.
constexpr core::Nanoseconds kSilence = 1s;

}  // namespace

bool is_placed(const StripeRows& rows, const net::PeerDirectory& peers) {
  const core::Profile profile = rows.record.profile;
  unsigned stored = 0;
  unsigned elsewhere = 0;
  for (const auto& row : rows.placements) {
    if (!row.stored) continue;
    ++stored;
    const auto peer = peers.find(row.node);
    if (!peer || !peer->is_local()) ++elsewhere;
  }
  return stored == profile.width() || (profile.m > 0 && elsewhere > profile.k);
}

awaitable<PlacementAttempt::Outcome> PlacementAttempt::run() {
  Outcome outcome;
  auto staged = state_.log.find(number_);
  if (!staged || staged->open) {
    outcome.over = true;
    outcome.result = fail(Error::not_found);
    co_return outcome;
  }
  record_ = staged->record;
  if (record_.deadline.passed(state_.context.clock.confirmed_now())) {
    state_.collector->soon();
    outcome.over = true;
    outcome.result = fail(Error::not_found, "stripe " + std::to_string(number_.value) + " has died");
    co_return outcome;
  }
  const auto peers = state_.context.peers.all();
  if (peers.size() < record_.profile.width()) {
    outcome.result = fail(Error::io, "profile " + core::format_profile(record_.profile) + " needs " +
                                         std::to_string(record_.profile.width()) + " nodes and the pool has " +
                                         std::to_string(peers.size()));
    outcome.certain = true;
    co_return outcome;
  }
  ask_statuses(peers);
  auto preparing = prepare(*std::move(staged));
  staged.reset();
  outcome.result = co_await core::asio::co_spawn(coding_, std::move(preparing), core::asio::use_awaitable);
  if (outcome.result) outcome.result = choose_nodes();
  if (!outcome.result) {
    outcome.certain = true;
    co_return outcome;
  }
  co_await send_all();
  if (!placed_) outcome = failed();
  co_return outcome;
}

/// Codes the stripe.
awaitable<Result<>> PlacementAttempt::prepare(StagedView staged) {
  EPHFS_CO_TRY(const auto padded, state_.log.load(staged));
  if (record_.profile.k == 1) {
    // The staged file may become the local node's shard: who links it counts on its being on the disk.
    EPHFS_CO_TRY_VOID(core::sync_data(*staged.file));
    file_ = state_.files->staged_path({number_, record_.id});
  }
  coded_ = code_stripe(padded, record_.profile, state_.parity);
  co_return Result<>();
}

/// Keeps what earlier attempts brought to nodes; gives the rest to nodes that are likely to take it.
Result<> PlacementAttempt::choose_nodes() {
  EPHFS_TRY(const auto rows, state_.table.find(number_));
  std::vector<meta::RemovalRecord> orphans;
  shards_.resize(coded_.size());
  candidates_ = state_.nodes.rank(state_.context.peers.all(), record_.id);
  for (unsigned index = 0; index < shards_.size(); ++index) {
    Shard& shard = shards_[index];
    shard.row.stripe = number_;
    shard.row.index = static_cast<std::uint8_t>(index);
    shard.row.shard = coded_[index].tree->root();
    shard.row.shard_bytes = coded_[index].bytes.size();
    mark_owed(shard.row);
    for (const auto& row : rows->placements) {
      if (row.index != index) continue;
      if (row.shard != shard.row.shard) {
        // Padded anew after a loss of power: what the node may have is of no use.
        orphans.push_back(removal_of(row, record_.deadline));
        continue;
      }
      shard.row = row;
      shard.stored = row.stored && row.lease_deadline == record_.deadline;
      shard.peer = state_.context.peers.find(row.node);
      if (!shard.stored && shard.peer && !state_.nodes.trusted(*shard.peer)) shard.peer = nullptr;
      if (shard.stored || shard.peer) {
        std::erase_if(candidates_, [&row](const PeerPtr& peer) { return peer->id() == row.node; });
      }
    }
  }
  if (!orphans.empty()) {
    EPHFS_TRY_VOID(state_.table.update(number_, [&orphans](StripeRows& now, meta::Changes& changes) -> Result<> {
      now.placements.clear();
      for (const auto& orphan : orphans) changes.emplace_back(meta::PutRemoval{orphan});
      return {};
    }));
  }
  std::vector<unsigned> missing;
  for (unsigned index = 0; index < shards_.size(); ++index) {
    if (!shards_[index].stored) missing.push_back(index);
  }
  for (const unsigned index : missing) {
    if (!shards_[index].peer) shards_[index].peer = take_candidate(true, {});
  }
  for (const unsigned index : missing) {
    Shard& shard = shards_[index];
    if (shard.peer) continue;
    shard.peer = take_candidate(false, shard.row.node);
    shard.held_back = true;
  }
  // When those that are likely to answer are not enough, the others are asked too.
  if (!quorum(true)) {
    for (auto& shard : shards_) shard.held_back = false;
  }
  return commit_assigned(missing);
}

/// The best node that no shard of this stripe is on, or `favourite` when it is one of them; null when none is left.
PlacementAttempt::PeerPtr PlacementAttempt::take_candidate(bool trusted_only, const core::NodeId& favourite) {
  auto found = std::ranges::find(candidates_, favourite, [](const PeerPtr& peer) { return peer->id(); });
  if (found == candidates_.end()) {
    found = std::ranges::find_if(candidates_, [&](const PeerPtr& peer) {
      return !trusted_only || (state_.nodes.trusted(*peer) && !state_.nodes.given_up(peer->id()));
    });
  }
  if (found == candidates_.end()) return nullptr;
  auto peer = *found;
  candidates_.erase(found);
  return peer;
}

/// Commits which node each of these shards goes to, under a new serial; what a node had before is to be removed there.
Result<> PlacementAttempt::commit_assigned(const std::vector<unsigned>& indexes) {
  std::vector<meta::RemovalRecord> removals;
  for (const unsigned index : indexes) {
    Shard& shard = shards_[index];
    if (!shard.peer) continue;
    if (shard.row.node != shard.peer->id()) {
      if (!shard.row.node.is_zero()) removals.push_back(removal_of(shard.row, record_.deadline));
      mark_owed(shard.row);
      shard.row.node = shard.peer->id();
    }
    ++shard.row.lease_serial;
  }
  return state_.table.update(number_, [&](StripeRows& rows, meta::Changes& changes) -> Result<> {
    for (const auto& removal : removals) changes.emplace_back(meta::PutRemoval{removal});
    for (const unsigned index : indexes) {
      const auto& row = shards_[index].row;
      if (!shards_[index].peer) continue;
      std::erase_if(rows.placements, [index](const auto& one) { return one.index == index; });
      rows.placements.push_back(row);
      changes.emplace_back(meta::DropRemoval{row.shard, row.node});
      changes.emplace_back(meta::PutPlacement{row});
    }
    std::ranges::sort(rows.placements, {}, &meta::PlacementRecord::index);
    return {};
  });
}

void PlacementAttempt::send(unsigned index) {
  Shard& shard = shards_[index];
  shard.sending = true;
  net::ShardSource source{coded_[index].bytes, coded_[index].tree, {}};
  if (index == 0) source.file = file_;
  auto limits = state_.call_limits(stop_.get_token());
  std::function<awaitable<void>()> task = [index, peer = shard.peer, row = shard.row, deadline = record_.deadline,
                                           source = std::move(source), owner = &state_.context.owner, limits,
                                           answers = answers_]() -> awaitable<void> {
    Answer answer;
    answer.index = index;
    answer.row = co_await deliver_shard(peer, row, deadline, source, owner, limits);
    answers.post(std::move(answer));
  };
  state_.tasks.spawn(state_.context.executor, std::move(task));
}

awaitable<void> PlacementAttempt::send_all() {
  std::function<void()> end = [this, answers = answers_] {
    stop_.request_stop();
    Answer over;
    over.over = true;
    answers.post(std::move(over));
  };
  const std::stop_callback<std::function<void()>> on_stop(state_.stop.get_token(), std::move(end));
  for (unsigned index = 0; index < shards_.size(); ++index) {
    const Shard& shard = shards_[index];
    if (shard.peer && !shard.stored && !shard.held_back) send(index);
  }
  auto& clock = state_.context.clock;
  core::Boottime until = state_.call_limits({}).until;
  const core::Boottime patience = clock.boot_now() + kSilence;
  if (quorum(false)) keep(commit_stored());
  while (!broken_ && sending() > 0 && clock.boot_now() < until && !stop_.stop_requested()) {
    const bool holding = !placed_ && std::ranges::any_of(shards_, &Shard::held_back);
    auto answer = co_await answers_.receive_until(clock, holding ? std::min(until, patience) : until);
    if (!answer && holding && clock.boot_now() < until) {
      send_held_back();
      continue;
    }
    if (!answer || answer->over) break;
    keep(take(std::move(*answer)));
    if (!placed_ && quorum(false)) {
      keep(commit_stored());
      until = std::min(until, clock.boot_now() + kStragglersGrace);
    }
  }
  for (const auto& shard : shards_) {
    if (shard.sending && !stop_.stop_requested()) {
      silent_ = true;
      state_.nodes.failed(shard.row.node, Error::timed_out);
    }
  }
  stop_.request_stop();
  if (!broken_) keep(commit_stored());
  const bool all = std::ranges::all_of(shards_, &Shard::stored);
  if (placed_ && !all) state_.repairer->soon();
}

/// A shard that was stored, or has to go elsewhere.
Result<> PlacementAttempt::take(Answer answer) {
  Shard& shard = shards_[answer.index];
  shard.sending = false;
  const core::NodeId node = shard.row.node;
  if (answer.row) {
    shard.row = std::move(*answer.row);
    shard.stored = shard.changed = true;
    state_.nodes.answered(node, shard.row.shard_bytes);
    return {};
  }
  const core::Failure& why = answer.row.error();
  state_.nodes.failed(node, why.code);
  if (why.code == Error::unreachable || why.code == Error::timed_out) {
    silent_ = true;
  } else if (why.code == Error::no_space || why.code == Error::quota_exceeded) {
    full_ = true;
  } else {
    refused_ = true;
    state_.say("node " + node.hex() + " does not take a shard: " + why.message());
  }
  last_failure_ = why;
  // Another in its place; those that seldom answer only while it takes them to have the stripe placed.
  if (auto other = take_candidate(placed_, {})) {
    shard.peer = std::move(other);
    EPHFS_TRY_VOID(commit_assigned({answer.index}));
    send(answer.index);
  }
  if (!placed_) send_held_back();
  return {};
}

/// It takes those that seldom answer, too.
void PlacementAttempt::send_held_back() {
  for (unsigned index = 0; index < shards_.size(); ++index) {
    if (std::exchange(shards_[index].held_back, false) && shards_[index].peer) send(index);
  }
}

void PlacementAttempt::keep(Result<> outcome) {
  if (!outcome && !broken_) broken_ = std::move(outcome).error();
}

std::size_t PlacementAttempt::sending() const {
  return static_cast<std::size_t>(std::ranges::count(shards_, true, &Shard::sending));
}

/// Whether what is stored, or with `hopefully` what is on its way too, makes the stripe placed.
bool PlacementAttempt::quorum(bool hopefully) const {
  StripeRows rows;
  rows.record = record_;
  for (const auto& shard : shards_) {
    rows.placements.push_back(shard.row);
    rows.placements.back().stored = shard.stored || (hopefully && shard.peer && !shard.held_back);
    if (shard.peer) rows.placements.back().node = shard.peer->id();
  }
  return is_placed(rows, state_.context.peers);
}

/// Commits what was stored since the last time; makes the stripe placed when that is enough.
Result<> PlacementAttempt::commit_stored() {
  const bool place = !placed_ && quorum(false);
  const bool any = std::ranges::any_of(shards_, &Shard::changed);
  if (!place && !any) return {};
  meta::StripeRecord record;
  EPHFS_TRY_VOID(state_.table.update(number_, [&](StripeRows& rows, meta::Changes& changes) -> Result<> {
    for (auto& row : rows.placements) {
      const Shard& shard = shards_[row.index];
      if (!shard.changed) continue;
      row = shard.row;
      // Given another deadline meanwhile: what was agreed stands, and the new lease is owed.
      if (rows.record.deadline != record_.deadline) {
        row.stored = false;
        row.receipt.clear();
      }
      changes.emplace_back(meta::PutPlacement{row});
    }
    if (place) {
      rows.record.state = meta::StripeState::placed;
      changes.emplace_back(meta::PutStripe{rows.record});
    }
    record = rows.record;
    return {};
  }));
  for (auto& shard : shards_) shard.changed = false;
  if (place) {
    placed_ = true;
    state_.log.placed(number_, record);
    if (record.deadline != record_.deadline) state_.repairer->soon();
  }
  return {};
}

PlacementAttempt::Outcome PlacementAttempt::failed() const {
  if (broken_) return {*broken_, true, false};
  if (state_.stop.stop_requested()) return {fail(Error::cancelled), false, false};
  const auto stored = static_cast<std::size_t>(std::ranges::count(shards_, true, &Shard::stored));
  std::string detail = "stripe " + std::to_string(number_.value) + ": " + std::to_string(stored) + " of " +
                       std::to_string(shards_.size()) + " shards placed";
  if (last_failure_) detail += "; " + last_failure_->message();
  const Error code = full_ && !silent_ && !refused_ ? Error::no_space : Error::io;
  return {fail(code, std::move(detail)), !silent_, false};
}

void PlacementAttempt::ask_statuses(const std::vector<PeerPtr>& peers) {
  for (const auto& peer : state_.nodes.to_be_asked(peers)) {
    const auto limits = state_.call_limits(state_.stop.get_token());
    std::function<awaitable<void>()> task = [peer, limits, nodes = &state_.nodes]() -> awaitable<void> {
      const auto status = co_await peer->status(limits);
      if (status && status->node == peer->id()) nodes->learn(*status);
    };
    state_.tasks.spawn(state_.context.executor, std::move(task));
  }
}

}  // namespace ephfs::fs
