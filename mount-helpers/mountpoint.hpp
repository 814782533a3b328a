// SPDX-License-Identifier: Apache-2.0
// What a volume can be mounted on, and mounts whose daemon has died.
#pragma once

#include <filesystem>

#include "core/files.hpp"
#include "core/result.hpp"
#include "mount-helpers/paths.hpp"

namespace ephfs::cli {

/// Refuses what `volume` cannot be mounted on, naming it: busy for what is a mount already, invalid_argument for what
/// would cover the volume itself, unreachable, with the way out, for the mount of a daemon that has died. Both
/// resolved.
[[nodiscard]] core::Result<> check_mountpoint(const std::filesystem::path& mountpoint,
                                              const std::filesystem::path& volume);

/// Takes the mountpoint until the descriptor is closed: of several who mount on it at once, one does, and the others
/// find it busy.
[[nodiscard]] core::Result<core::FileDescriptor> claim_mountpoint(const std::filesystem::path& mountpoint);

/// Whether the mount is there and its daemon is not.
[[nodiscard]] bool is_dead(const MountedVolume& volume);
/// What is wrong with it then, and what to do.
[[nodiscard]] std::string describe_dead(const MountedVolume& volume);
/// The dead mount of the volume in `directory`; none where it is well, or not mounted.
[[nodiscard]] std::optional<MountedVolume> dead_mount_of(const std::filesystem::path& directory);

}  // namespace ephfs::cli
