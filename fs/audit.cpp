// SPDX-License-Identifier: Apache-2.0
#include "fs/audit.hpp"

#include <algorithm>

#include "core/secret.hpp"

namespace ephfs::fs {
namespace {

using core::Error;
using core::fail;

constexpr std::size_t kLeavesAsked = 4;

std::uint64_t random_number() {
  std::uint64_t number = 0;
  core::fill_random({reinterpret_cast<std::byte*>(&number), sizeof number});
  return number;
}

/// The node's receipt for serving these leaves, when they are the shard's.
awaitable<Result<core::Envelope>> prove_leaves(std::shared_ptr<net::Peer> peer, meta::PlacementRecord row,
                                               core::OwnerId owner, net::CallLimits limits) {
  net::Challenge challenge;
  challenge.shard = row.shard;
  core::fill_random(challenge.nonce.mutable_view());
  const std::size_t count = core::leaf_count(row.shard_bytes);
  for (std::size_t i = 0; i < std::min(count, kLeavesAsked); ++i) {
    challenge.leaves.push_back(static_cast<std::uint32_t>(random_number() % count));
  }
  const auto proof = co_await peer->prove(challenge, std::move(limits));
  if (!proof) co_return proof.error();
  if (proof->shard_bytes != row.shard_bytes || proof->leaves.size() != challenge.leaves.size()) {
    co_return fail(Error::damaged, "it proved another shard");
  }
  for (std::size_t i = 0; i < challenge.leaves.size(); ++i) {
    const auto& leaf = proof->leaves[i];
    if (!core::verify_range(row.shard, row.shard_bytes, challenge.leaves[i], leaf.bytes.view(), leaf.path)) {
      co_return fail(Error::damaged, "leaf " + std::to_string(challenge.leaves[i]) + " is not the shard's");
    }
  }
  const auto receipt = core::open_receipt(proof->receipt);
  if (!receipt || receipt->kind != core::ReceiptKind::served || receipt->shard != row.shard ||
      receipt->node != row.node || receipt->owner != owner) {
    co_return fail(Error::protocol, "its receipt is for something else");
  }
  co_return proof->receipt;
}

/// An empty envelope's bytes: a fetch is not signed for.
awaitable<Result<>> fetch_whole(std::shared_ptr<net::Peer> peer, meta::PlacementRecord row, net::CallLimits limits) {
  net::FetchRequest request{row.shard, 0, row.shard_bytes, false};
  const auto range = co_await peer->fetch(request, std::move(limits));
  if (!range) co_return range.error();
  if (range->bytes.size() != row.shard_bytes || core::MerkleTree::of_data(range->bytes.view()).root() != row.shard) {
    co_return fail(Error::damaged, "it gave other bytes");
  }
  co_return Result<>();
}

AuditVerdict verdict_of(Error code) {
  switch (code) {
    case Error::not_found:
    case Error::damaged:
    case Error::protocol:
    case Error::io:
    case Error::invalid_argument:
    case Error::not_permitted:
      return AuditVerdict::failed;
    default:
      return AuditVerdict::unreachable;
  }
}

struct Audited {
  AuditFinding finding;
  core::Bytes receipt;
};

awaitable<Audited> audit_row(EngineState& state, core::StripeId stripe, meta::PlacementRecord row, AuditDepth depth,
                             net::CallLimits limits) {
  Audited audited;
  audited.finding = {stripe, row.index, row.shard, row.node, AuditVerdict::passed, {}};
  const auto peer = state.peers.find(row.node);
  Result<> outcome;
  if (!peer) {
    outcome = fail(Error::unreachable, "the node is not in the pool");
  } else if (depth == AuditDepth::whole) {
    outcome = co_await fetch_whole(peer, row, limits);
  } else {
    const auto owner = *core::OwnerId::from_bytes(state.owner.public_key().view());
    const auto receipt = co_await prove_leaves(peer, row, owner, limits);
    if (receipt) audited.receipt = receipt->serialize();
    if (!receipt) outcome = receipt.error();
  }
  if (!outcome) {
    audited.finding.verdict = verdict_of(outcome.error().code);
    audited.finding.detail = outcome.error().message();
  }
  co_return audited;
}

/// Keeps what was learnt; the stripe may have gone meanwhile, and its audits with it.
void keep_audits(EngineState& state, StripeNumber number, AuditDepth depth, const std::vector<Audited>& audited) {
  meta::Changes changes;
  for (const auto& one : audited) {
    if (one.finding.verdict == AuditVerdict::unreachable) continue;
    // Only an audit by leaves has a receipt to show for it.
    if (depth == AuditDepth::whole && one.finding.verdict == AuditVerdict::passed) continue;
    changes.emplace_back(meta::PutAudit{{number, one.finding.index, one.finding.shard, one.finding.node,
                                         state.clock.now(), one.finding.verdict == AuditVerdict::passed, one.receipt}});
  }
  const auto committed = state.catalog->commit(changes);
  if (!committed && committed.error().code != Error::invalid_argument) {
    state.log("noting audits: " + committed.error().message());
  }
}

}  // namespace

std::string_view to_string(AuditVerdict verdict) {
  switch (verdict) {
    case AuditVerdict::passed:
      return "passed";
    case AuditVerdict::failed:
      return "failed";
    case AuditVerdict::unreachable:
      return "unreachable";
  }
  return "unreachable";
}

awaitable<std::vector<AuditFinding>> audit_stripes(EngineState& state, std::vector<StripeNumber> stripes,
                                                   AuditDepth depth, AuditWidth width, net::CallLimits limits) {
  std::vector<AuditFinding> findings;
  core::TaskGroup tasks;
  for (const StripeNumber number : stripes) {
    const auto stripe = state.catalog->stripe(number);
    if (!stripe || !*stripe || (*stripe)->state != meta::StripeState::placed) continue;
    if ((*stripe)->deadline.passed(state.clock.now())) continue;
    auto rows = state.catalog->placements(number);
    if (!rows) continue;
    std::erase_if(*rows, [](const auto& row) { return !row.stored || row.shard_bytes == 0; });
    if (rows->empty()) continue;
    if (width == AuditWidth::one_shard) rows = std::vector{(*rows)[random_number() % rows->size()]};
    const core::Mailbox<Audited> answers;
    for (const auto& row : *rows) {
      std::function<awaitable<void>()> task = [&state, id = (*stripe)->id, row, depth, limits,
                                               answers]() -> awaitable<void> {
        auto audited = co_await audit_row(state, id, row, depth, limits);
        answers.post(std::move(audited));
      };
      tasks.spawn(state.executor, std::move(task));
    }
    std::vector<Audited> audited;
    for (std::size_t i = 0; i < rows->size(); ++i) audited.push_back(co_await answers.receive());
    keep_audits(state, number, depth, audited);
    for (auto& one : audited) findings.push_back(std::move(one.finding));
  }
  co_await tasks.join();
  co_return findings;
}

}  // namespace ephfs::fs
