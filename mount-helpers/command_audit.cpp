// SPDX-License-Identifier: Apache-2.0
// ephfs audit: whether nodes hold what they should, and nothing that they should not.
#include "mount-helpers/audit_report.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/paths.hpp"

namespace ephfs::cli {

core::Result<> run_audit(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, {{"--all", false}, {"--ttl", false}, {"--json", false}}));
  if (parsed.words.size() > 1 || (parsed.has("--all") && parsed.has("--ttl"))) {
    return usage("ephfs audit [VOLUME | MOUNTPOINT] [--all | --ttl] [--json]");
  }
  EPHFS_TRY(const auto volume, find_volume(parsed.words.empty() ? "" : parsed.words[0]));
  if (parsed.has("--ttl")) return report_ttl_audit(volume, parsed.has("--json"));
  return report_audit(volume, parsed.has("--all") ? "/audit?all=1&" : "/audit?", parsed.has("--json"));
}

}  // namespace ephfs::cli
