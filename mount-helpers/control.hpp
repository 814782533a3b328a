// SPDX-License-Identifier: Apache-2.0
// How commands ask a running volume or node.
#pragma once

#include <string>

#include "mount-helpers/commands.hpp"

namespace ephfs::cli {

/// Asks the daemon that the arguments name (a volume, a mountpoint, --dir DIR, or the only volume that is mounted) for
/// `target`. invalid_argument with `usage_line` for other words; unreachable when nobody serves there; else as
/// node::control_get().
[[nodiscard]] core::Result<std::string> ask_daemon(const ParsedArguments& parsed, const std::string& target,
                                                   const std::string& usage_line);

}  // namespace ephfs::cli
