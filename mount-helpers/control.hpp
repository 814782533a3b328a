// SPDX-License-Identifier: Apache-2.0
// How commands ask a running volume or node.
#pragma once

#include <filesystem>
#include <string>

#include "mount-helpers/commands.hpp"

namespace ephfs::cli {

/// Asks the daemon of the volume or node in `directory`. unreachable when nobody serves there, access_denied for whom
/// it does not serve, both in words for people; else as node::control_get().
[[nodiscard]] core::Result<std::string> ask_daemon_in(const std::filesystem::path& directory,
                                                      const std::string& target);
/// What node::control_get() and the like said of the daemon in `directory`, in the same words.
[[nodiscard]] core::Failure explained(const core::Failure& failure, const std::filesystem::path& directory);

/// Asks the daemon that the arguments name (a volume, a mountpoint, --dir DIR, or the only volume that is mounted) for
/// `target`. invalid_argument, the usage, for other words; else as ask_daemon_in().
[[nodiscard]] core::Result<std::string> ask_daemon(const ParsedArguments& parsed, const std::string& target,
                                                   const Synopsis& synopsis);

}  // namespace ephfs::cli
