// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/audit_report.hpp"

#include <cstdio>
#include <map>

#include <boost/json.hpp>

#include "mount-helpers/control.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::Error;
using core::fail;
using core::Result;

constexpr std::size_t kFailuresShown = 1000;

Result<json::object> ask(const std::filesystem::path& volume, const std::string& target) {
  EPHFS_TRY(const auto answer, ask_daemon_in(volume, target));
  boost::system::error_code error;
  auto value = json::parse(answer, error);
  if (error || !value.is_object()) return fail(Error::protocol, "the daemon's answer to " + target);
  return std::move(value.get_object());
}

std::string text_of(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

struct Tally {
  std::uint64_t passed = 0, failed = 0, unreachable = 0;
};

struct Audit {
  std::map<std::string, Tally> nodes;
  Tally all;
  json::array failures;

  void take(const json::object& finding) {
    const std::string result = text_of(finding, "result");
    for (Tally* tally : {&nodes[text_of(finding, "node")], &all}) {
      ++(result == "passed" ? tally->passed : result == "failed" ? tally->failed : tally->unreachable);
    }
    if (result != "passed" && failures.size() < kFailuresShown) failures.push_back(finding);
  }
};

void print(const Audit& audit) {
  std::printf("%-18s %10s %10s %12s\n", "node", "passed", "failed", "unreachable");
  for (const auto& [node, tally] : audit.nodes) {
    std::printf("%-18s %10llu %10llu %12llu\n", node.substr(0, 16).c_str(),
                static_cast<unsigned long long>(tally.passed), static_cast<unsigned long long>(tally.failed),
                static_cast<unsigned long long>(tally.unreachable));
  }
  for (const auto& value : audit.failures) {
    const auto& finding = value.get_object();
    std::printf("%s: shard %s on node %s: %s\n", text_of(finding, "result").c_str(), text_of(finding, "shard").c_str(),
                text_of(finding, "node").substr(0, 16).c_str(), text_of(finding, "detail").c_str());
  }
}

json::object to_json(const Tally& tally) {
  json::object out;
  out["passed"] = tally.passed;
  out["failed"] = tally.failed;
  out["unreachable"] = tally.unreachable;
  return out;
}

void print_json(const Audit& audit) {
  json::object out = to_json(audit.all);
  json::object nodes;
  for (const auto& [node, tally] : audit.nodes) nodes[node] = to_json(tally);
  out["nodes"] = std::move(nodes);
  out["failures"] = audit.failures;
  std::puts(json::serialize(out).c_str());
}

}  // namespace

Result<> report_audit(const std::filesystem::path& volume, const std::string& target, bool as_json) {
  Audit audit;
  for (std::int64_t after = 0;;) {
    EPHFS_TRY(const auto page, ask(volume, target + "after=" + std::to_string(after)));
    const auto* found = page.if_contains("audited");
    if (found == nullptr || !found->is_array()) return fail(Error::protocol, "the daemon's answer to " + target);
    for (const auto& finding : found->get_array()) {
      if (finding.is_object()) audit.take(finding.get_object());
    }
    const auto* next = page.if_contains("next");
    if (next == nullptr || !next->is_int64() || next->get_int64() <= after) break;
    after = next->get_int64();
  }
  as_json ? print_json(audit) : print(audit);
  if (audit.all.failed + audit.all.unreachable == 0) return {};
  return fail(Error::damaged, std::to_string(audit.all.failed) + " shards failed, " +
                                  std::to_string(audit.all.unreachable) + " could not be asked for");
}

Result<> report_ttl_audit(const std::filesystem::path& volume, bool as_json) {
  json::array faults;
  const auto take = [&faults](const json::object& page) {
    const auto* found = page.if_contains("faults");
    if (found == nullptr || !found->is_array()) return;
    for (const auto& fault : found->get_array()) faults.push_back(fault);
  };
  EPHFS_TRY(const auto local, ask(volume, "/audit_ttl"));
  take(local);
  const auto* nodes = local.if_contains("nodes");
  if (nodes == nullptr || !nodes->is_array()) return fail(Error::protocol, "the daemon's answer to /audit_ttl");
  for (const auto& node : nodes->get_array()) {
    if (!node.is_string()) return fail(Error::protocol, "the daemon's list of nodes");
    EPHFS_TRY(const auto page, ask(volume, "/audit_ttl?node=" + std::string(node.get_string())));
    take(page);
  }
  if (as_json) {
    json::object out;
    out["nodes"] = nodes->get_array().size();
    out["faults"] = faults;
    std::puts(json::serialize(out).c_str());
  } else {
    for (const auto& value : faults) {
      const auto& fault = value.get_object();
      std::printf("%s: %s: %s\n", text_of(fault, "kind").c_str(), text_of(fault, "subject").c_str(),
                  text_of(fault, "detail").c_str());
    }
    if (faults.empty()) std::printf("clean: the volume and its %zu nodes\n", nodes->get_array().size());
  }
  if (faults.empty()) return {};
  return fail(Error::damaged, std::to_string(faults.size()) + " faults");
}

}  // namespace ephfs::cli
