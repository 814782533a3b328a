// SPDX-License-Identifier: Apache-2.0
// Audits as commands see them: pages asked of a daemon, added up and printed.
#pragma once

#include <filesystem>
#include <string>

#include "core/result.hpp"

namespace ephfs::cli {

/// Asks `target` with "after=" behind it, page by page, and prints a table of the nodes and a line for each shard that
/// did not pass, or one JSON object. damaged when any did not.
[[nodiscard]] core::Result<> report_audit(const std::filesystem::path& volume, const std::string& target, bool as_json);
/// The TTL audit of a volume and all its nodes. damaged when it found a fault.
[[nodiscard]] core::Result<> report_ttl_audit(const std::filesystem::path& volume, bool as_json);

}  // namespace ephfs::cli
