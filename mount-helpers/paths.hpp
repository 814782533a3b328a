// SPDX-License-Identifier: Apache-2.0
// Where volumes are, and which volume is mounted where.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/files.hpp"
#include "core/result.hpp"

namespace ephfs::cli {

/// `path` as the kernel resolves it, without a slash at the end; also where it leads to what is not there yet, or into
/// the mount of a daemon that has died.
[[nodiscard]] std::filesystem::path resolved(const std::filesystem::path& path);
/// Whether `path` is `directory` or below it; both resolved.
[[nodiscard]] bool is_within(const std::filesystem::path& path, const std::filesystem::path& directory);

/// $EPHFS_STATE_DIR, else /var/lib/ephfs for root, else $XDG_STATE_HOME/ephfs or ~/.local/state/ephfs.
[[nodiscard]] std::filesystem::path state_directory();
/// A volume as users name it: a directory (anything with a slash in it) or a name below the state directory; resolved.
/// invalid_argument for a name that is none.
[[nodiscard]] core::Result<std::filesystem::path> volume_directory(const std::string& volume);

/// A mounted ephfs as /proc/self/mounts shows it.
struct MountedVolume {
  std::filesystem::path directory;  // the volume's
  std::filesystem::path mountpoint;
};
[[nodiscard]] std::vector<MountedVolume> mounted_volumes();

/// What is mounted on just this place, the uppermost of several.
struct Mount {
  std::string type;
  std::string source;
};
[[nodiscard]] std::optional<Mount> mount_on(const std::filesystem::path& mountpoint);

/// The volume that is mounted on just this path, however it is written.
[[nodiscard]] std::optional<MountedVolume> mounted_volume_at(const std::string& mountpoint);
/// The volume that a path, as it resolves, lies in; none for one that lies in none.
[[nodiscard]] std::optional<MountedVolume> mounted_volume_of(const std::string& path);

/// The volume directory that `what` means: a mountpoint or path inside one, a directory, or a name; "" when exactly one
/// volume is mounted.
[[nodiscard]] core::Result<std::filesystem::path> find_volume(const std::string& what);

/// Tries for `patience` to lock the open file; true when that was had.
[[nodiscard]] bool lock_within(const core::FileDescriptor& file, std::chrono::milliseconds patience);
/// Takes the volume for this process until the descriptor is closed. busy, naming the mountpoint where it is mounted;
/// a daemon that is still ending is waited for, for six seconds at most.
[[nodiscard]] core::Result<core::FileDescriptor> lock_volume(const std::filesystem::path& directory);
/// Whether no process has the volume, waiting for that as long as `patience`.
[[nodiscard]] bool wait_until_free(const std::filesystem::path& directory, std::chrono::milliseconds patience);

}  // namespace ephfs::cli
