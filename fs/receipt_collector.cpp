// SPDX-License-Identifier: Apache-2.0
#include "fs/receipt_collector.hpp"

#include <algorithm>
#include <unordered_map>

namespace ephfs::fs {
namespace {

using namespace std::chrono_literals;
using core::Error;

constexpr std::size_t kForgottenAtOnce = 512;
constexpr core::Nanoseconds kUnreachablePause = 30s;
constexpr core::Nanoseconds kRefusedPause = 10min;
constexpr core::Nanoseconds kForgetEvery = 1h;
constexpr core::Nanoseconds kLookAgain = 5s;
/// A node that has no receipt yet may be about to sign it; one that has had ten minutes will hardly ever.
constexpr Milliseconds kAskAgainSoon = 30s;
constexpr Milliseconds kAskAgainLate = 1h;
constexpr Milliseconds kHope = 10min;

void take_earlier(std::optional<core::Boottime>& next, const std::optional<core::Boottime>& other) {
  if (other && (!next || *other < *next)) next = other;
}

}  // namespace

awaitable<void> ReceiptCollector::run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    Next next = forget_old();
    for (const auto& peer : state_.context.peers.all()) {
      if (stop.stop_requested()) co_return;
      const Next again = co_await ask(peer, stop);
      take_earlier(next, again);
    }
    if (stop.stop_requested()) co_return;
    co_await wake_.wait(state_.context.clock, next);
  }
}

awaitable<ReceiptCollector::Next> ReceiptCollector::ask(std::shared_ptr<net::Peer> peer, std::stop_token stop) {
  auto& clock = state_.context.clock;
  const core::NodeId node = peer->id();
  for (;;) {
    const auto due = state_.context.catalog.next_unproven(node);
    if (!due) co_return clock.boot_now() + kLookAgain;
    if (!*due) co_return std::nullopt;
    const core::Instant now = clock.now();
    if (**due > now) co_return clock.boot_now() + std::min<core::Nanoseconds>(**due - now, kForgetEvery);
    const auto alone = left_alone_.find(node);
    if (alone != left_alone_.end() && alone->second > clock.boot_now()) co_return alone->second;
    if (!state_.nodes.ready(node)) co_return clock.boot_now() + kUnreachablePause;
    auto rows = state_.context.catalog.unproven(node, now, net::kInquiryShardsMax);
    if (!rows || rows->empty()) co_return clock.boot_now() + kLookAgain;
    const auto asked = co_await ask_about(peer, *std::move(rows), stop);
    if (asked) continue;
    const Error code = asked.error().code;
    if (code == Error::cancelled) co_return std::nullopt;
    const bool is_away = code == Error::unreachable || code == Error::timed_out;
    if (is_away) state_.nodes.failed(node, code);
    left_alone_[node] = clock.boot_now() + (is_away ? kUnreachablePause : kRefusedPause);
  }
}

awaitable<Result<>> ReceiptCollector::ask_about(std::shared_ptr<net::Peer> peer,
                                                std::vector<meta::DeadShardRecord> rows, std::stop_token stop) {
  core::Inquiry asked;
  asked.kind = core::InquiryKind::deletions;
  asked.node = peer->id();
  asked.owner = *core::OwnerId::from_bytes(state_.context.owner.public_key().view());
  net::ShardInquiry inquiry;
  for (const auto& row : rows) inquiry.shards.push_back(row.shard);
  asked.subject = core::subject_of(inquiry.shards);
  inquiry.order = core::sign_inquiry(asked, state_.context.owner);
  auto limits = state_.call_limits(stop);
  const auto receipts = co_await peer->deletions(std::move(inquiry), std::move(limits));
  if (!receipts) co_return receipts.error();
  state_.nodes.answered(peer->id());

  std::unordered_map<core::ShardId, const core::Envelope*> given;
  for (const auto& envelope : *receipts) {
    EPHFS_CO_TRY(const auto receipt, core::open_receipt(envelope));
    given.emplace(receipt.shard, &envelope);
  }
  const core::Instant now = state_.context.clock.now();
  meta::Changes changes;
  for (auto& row : rows) {
    const auto found = given.find(row.shard);
    row.ask_at = now + (row.lease_deadline.passed(now - kHope) ? kAskAgainLate : kAskAgainSoon);
    if (found != given.end()) {
      EPHFS_CO_TRY(const auto receipt, core::read_receipt(*found->second));
      if (is_receipt_of(receipt, row)) {
        row.deletion = found->second->serialize();
        row.ask_at.reset();
      }
    }
    changes.emplace_back(meta::PutDeadShard{std::move(row)});
  }
  co_return state_.context.catalog.commit(changes);
}

bool ReceiptCollector::is_receipt_of(const core::Receipt& receipt, const meta::DeadShardRecord& row) const {
  return receipt.kind == core::ReceiptKind::deleted && receipt.node == row.node && receipt.bytes == row.shard_bytes &&
         core::as_text(receipt.owner.view()) == core::as_text(state_.context.owner.public_key().view());
}

/// When to look again; none when nothing is remembered.
ReceiptCollector::Next ReceiptCollector::forget_old() {
  auto& catalog = state_.context.catalog;
  const core::Boottime later = state_.context.clock.boot_now() + kForgetEvery;
  const core::Instant before = state_.context.clock.confirmed_now() - state_.context.options.proof_keep;
  for (;;) {
    const auto old = catalog.dead_before(before, kForgottenAtOnce);
    if (!old) return later;
    if (old->files.empty() && old->stripes.empty()) break;
    meta::Changes changes;
    for (const auto number : old->files) changes.emplace_back(meta::DropDeadFile{number});
    for (const auto number : old->stripes) changes.emplace_back(meta::DropDeadStripe{number});
    if (!catalog.commit(changes)) return later;
  }
  const auto any = catalog.dead_before(core::kInstantMax, 1);
  if (any && any->files.empty() && any->stripes.empty()) return std::nullopt;
  return later;
}

}  // namespace ephfs::fs
