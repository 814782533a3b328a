// SPDX-License-Identifier: Apache-2.0
// What audits say, as JSON: pages, so that whoever asks can bound his waiting and say how far he is.
#include <boost/json.hpp>

#include "fs/audit.hpp"
#include "fs/engine_state.hpp"
#include "fs/ttl_audit.hpp"

namespace ephfs::fs {
namespace {

namespace json = boost::json;

constexpr std::size_t kAuditStripes = 16;
constexpr std::size_t kVerifyStripes = 2;  // all of their bytes travel

/// `next`: what to go on after; null at the end.
std::string describe(const std::vector<AuditFinding>& findings, std::optional<StripeNumber> next) {
  json::array list;
  for (const auto& finding : findings) {
    json::object one;
    one["stripe"] = finding.stripe.hex();
    one["index"] = finding.index;
    one["shard"] = finding.shard.hex();
    one["node"] = finding.node.hex();
    one["result"] = to_string(finding.verdict);
    if (!finding.detail.empty()) one["detail"] = finding.detail;
    list.push_back(std::move(one));
  }
  json::object page;
  page["audited"] = std::move(list);
  page["next"] = next ? json::value(next->value) : json::value(nullptr);
  return json::serialize(page);
}

std::string describe(const TtlAudit& audit) {
  json::array faults;
  for (const auto& fault : audit.faults) {
    json::object one;
    one["kind"] = fault.kind;
    one["subject"] = fault.subject;
    one["detail"] = fault.detail;
    faults.push_back(std::move(one));
  }
  json::array nodes;
  for (const auto& node : audit.nodes) nodes.emplace_back(node.hex());
  json::object out;
  out["faults"] = std::move(faults);
  out["nodes"] = std::move(nodes);
  return json::serialize(out);
}

}  // namespace

awaitable<Result<std::string>> Engine::audit(StripeNumber after, bool all, net::CallLimits limits) {
  EPHFS_CO_TRY(const auto stripes, state_->catalog->stripes_after(after, kAuditStripes));
  std::vector<StripeNumber> numbers;
  for (const auto& stripe : stripes) numbers.push_back(stripe.number);
  const auto next = numbers.size() < kAuditStripes ? std::nullopt : std::optional(numbers.back());
  const auto width = all ? AuditWidth::all_shards : AuditWidth::one_shard;
  const auto findings =
      co_await audit_stripes(*state_, std::move(numbers), AuditDepth::leaves, width, std::move(limits));
  co_return describe(findings, next);
}

awaitable<Result<std::string>> Engine::verify(InodeNumber number, StripeNumber after, net::CallLimits limits) {
  EPHFS_CO_TRY_VOID(live_inode(*state_, number));
  EPHFS_CO_TRY(const auto extents, state_->catalog->extents(number));
  std::set<StripeNumber> all;
  for (const auto& extent : extents) all.insert(extent.stripe);
  std::vector<StripeNumber> numbers;
  for (auto at = all.upper_bound(after); at != all.end() && numbers.size() < kVerifyStripes; ++at)
    numbers.push_back(*at);
  const auto next = numbers.size() < kVerifyStripes ? std::nullopt : std::optional(numbers.back());
  const auto findings =
      co_await audit_stripes(*state_, std::move(numbers), AuditDepth::whole, AuditWidth::all_shards, std::move(limits));
  co_return describe(findings, next);
}

Result<std::string> Engine::audit_ttl() {
  EPHFS_TRY(const auto audit, audit_ttl_of_volume(*state_));
  return describe(audit);
}

awaitable<Result<std::string>> Engine::audit_ttl(core::NodeId node, net::CallLimits limits) {
  EPHFS_CO_TRY(const auto audit, co_await audit_ttl_of_node(*state_, node, std::move(limits)));
  co_return describe(audit);
}

}  // namespace ephfs::fs
