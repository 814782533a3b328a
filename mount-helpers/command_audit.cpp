// SPDX-License-Identifier: Apache-2.0
// ephfs audit: whether nodes hold what they should, and nothing that they should not.
#include <array>

#include "mount-helpers/audit_report.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/paths.hpp"

namespace ephfs::cli {
namespace {

constexpr std::array kAuditOptions{
    ArgumentOption{"--all", "", "every shard, not one of a stripe"},
    ArgumentOption{"--ttl", "", "what outlived its time"},
    kJsonOption,
};

}  // namespace

const Synopsis kAudit{"ephfs audit", "[VOLUME | MOUNTPOINT] [--all | --ttl] [--json]",
                      "ask nodes to prove what they hold; find what outlived its time", kAuditOptions};

core::Result<> run_audit(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kAudit));
  if (parsed.words.size() > 1 || (parsed.has("--all") && parsed.has("--ttl"))) {
    return usage(kAudit);
  }
  EPHFS_TRY(const auto volume, find_volume(parsed.words.empty() ? "" : parsed.words[0]));
  if (parsed.has("--ttl")) return report_ttl_audit(volume, parsed.has("--json"));
  return report_audit(volume, parsed.has("--all") ? "/audit?all=1&" : "/audit?", parsed.has("--json"));
}

}  // namespace ephfs::cli
