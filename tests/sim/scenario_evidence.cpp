// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <boost/json.hpp>

#include "fs/inode.hpp"
#include "meta/proof.hpp"
#include "tests/sim/scenario.hpp"

namespace ephfs::sim {
namespace {

using namespace std::chrono_literals;
namespace json = boost::json;

constexpr std::size_t kAllOfThem = 1'000'000;
/// How long a file's stripe may live on, because of others in it.
constexpr core::Milliseconds kStripeOutlives = 10min;

}  // namespace

std::size_t Scenario::index_of(const core::NodeId& node) const {
  for (std::size_t i = 0; i < SimCluster::kNodes; ++i) {
    if (cluster_.node_id(i) == node) return i;
  }
  return SimCluster::kNodes;
}

void Scenario::take_proof(const std::string& path, const Descriptor& descriptor) {
  const auto number = descriptor.file()->inode->number;
  const auto text = descriptor.engine().proof(number);
  // Somebody may have written on, or it has just died.
  if (!text) return;
  const auto report = meta::check_proof(*text);
  for (const auto& fault : report.faults)
    judge_.findings.add(std::string("proof of ").append(path).append(": ").append(fault));
  proven_[report.file] = path;
}

/// Of all that died, what is proven holds. Where nobody lies and no disk was lost, the key of what expired is gone, and
/// whoever took a shard has signed that it is deleted, also who was away then.
void Scenario::look_at_proofs(core::Instant complete_before) {
  const bool all_honest = options_.lies.empty() && options_.lost_disks == 0;
  for (const auto& [file, path] : proven_) {
    const auto text = cluster_.mount()->engine->proof_of_dead(file);
    if (!text) continue;  // it lives
    ++judge_.tally().proofs;
    const auto report = meta::check_proof(*text);
    for (const auto& fault : report.faults) {
      judge_.findings.add(std::string("proof of the dead ").append(path).append(": ").append(fault));
    }
    const bool is_over = report.cause == meta::DeathCause::expired && report.died + kStripeOutlives < complete_before;
    if (!all_honest || !is_over) continue;
    ++judge_.tally().complete;
    const std::string which = "proof of " + path + ", dead since " + core::format_instant(report.died);
    if (!report.key_destroyed) judge_.findings.add(which + ": its key is there");
    if (report.deletions < report.receipts) {
      judge_.findings.add(which + ": " + std::to_string(report.deletions) + " of " + std::to_string(report.receipts) +
                          " shards are proven to be deleted");
    }
  }
}

/// Whether the node cannot prove that it has the shard: by what lies on its disk, or by what it lies about.
bool Scenario::is_missing(std::size_t node, const core::ShardId& shard) {
  if (const auto* liar = cluster_.liar(node)) return liar->fails_audit_of(shard);
  const std::string hex = shard.hex();
  return !std::filesystem::exists(cluster_.node_directory(node) / "shards" / hex.substr(0, 2) / (hex + ".shard"));
}

/// Every shard that a node says it has stored, while everybody is there.
awaitable<void> Scenario::audit_everything() {
  core::StripeNumber after{0};
  for (;;) {
    const net::CallLimits limits{cluster_.clock().boot_now() + 1min, {}};
    const auto page = co_await cluster_.mount()->engine->audit(after, true, limits);
    if (!page) {
      judge_.findings.add("audit: " + page.error().message());
      co_return;
    }
    const json::value said = json::parse(*page);
    for (const auto& one : said.at("audited").as_array()) {
      const auto shard = *core::ShardId::from_hex(std::string_view(one.at("shard").as_string()));
      const auto node = *core::NodeId::from_hex(std::string_view(one.at("node").as_string()));
      const std::string result(one.at("result").as_string());
      const bool missing = is_missing(index_of(node), shard);
      ++judge_.tally().audited;
      judge_.tally().missing += missing ? 1 : 0;
      if (result != (missing ? "failed" : "passed")) {
        judge_.findings.add("audit of a shard that node " + std::to_string(index_of(node)) +
                            (missing ? " has not got: " : " has: ") + result);
      }
    }
    if (said.at("next").is_null()) co_return;
    after = {said.at("next").to_number<std::int64_t>()};
  }
}

/// What the volume has accepted from a node: signed by it, about just this, and not what it forged.
void Scenario::look_at_receipt(const std::string& whose, const core::Bytes& bytes, const core::ShardId& shard,
                               std::size_t node) {
  if (bytes.empty()) return;
  const auto envelope = core::Envelope::parse(bytes);
  const auto receipt = envelope ? core::open_receipt(*envelope) : Result<core::Receipt>(envelope.error());
  if (!receipt) {
    judge_.findings.add(whose + " has a receipt that is none: " + receipt.error().message());
  } else if (receipt->shard != shard || receipt->node != cluster_.node_id(node)) {
    judge_.findings.add(whose + " has a receipt of something else");
  }
  const auto* liar = cluster_.liar(node);
  if (liar != nullptr && liar->forged().contains(bytes)) judge_.findings.add(whose + " has a forged receipt");
}

void Scenario::look_at_receipts(const meta::Catalog& catalog) {
  const auto living = catalog.stripes_after({0}, kAllOfThem).value();
  for (const auto& stripe : living) {
    const auto rows = catalog.placements(stripe.number).value();
    for (const auto& row : rows) {
      look_at_receipt("a living shard", row.receipt, row.shard, index_of(row.node));
    }
  }
  const auto dead = catalog.dead_before(core::kInstantMax, kAllOfThem).value();
  for (const auto number : dead.stripes) {
    const auto rows = catalog.dead_shards(number).value();
    for (const auto& row : rows) {
      const std::size_t node = index_of(row.node);
      look_at_receipt("a dead shard", row.receipt, row.shard, node);
      look_at_receipt("a deleted shard", row.deletion, row.shard, node);
      const auto* liar = cluster_.liar(node);
      if (liar == nullptr || !liar->holds(row.shard)) continue;
      ++judge_.tally().kept;
      if (liar->lie() == Lie::kept_for_ever && !row.deletion.empty()) {
        judge_.findings.add("the deletion of a shard is proven by the node that has it");
      }
    }
  }
}

}  // namespace ephfs::sim
