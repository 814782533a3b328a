// SPDX-License-Identifier: Apache-2.0
// Where volumes are, and which volume is mounted where.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

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

/// A mounted ephfs as /proc/self/mountinfo shows it. A volume that is bound to other places too is there more than
/// once.
struct MountedVolume {
  std::filesystem::path directory;  // the volume's
  std::filesystem::path mountpoint;
  std::filesystem::path root;  // what of the volume is to be seen there: "/", but for what is bound
  dev_t device = 0;            // st_dev of all that is in it
};
/// In the order of mounting.
[[nodiscard]] std::vector<MountedVolume> mounted_volumes();

/// What is mounted on just this place, the uppermost of several.
struct Mount {
  std::string type;
  std::string source;
};
[[nodiscard]] std::optional<Mount> mount_on(const std::filesystem::path& mountpoint);

/// The volume with that device; none when the device is no ephfs.
[[nodiscard]] std::optional<MountedVolume> mounted_volume_on(dev_t device);
/// The volume that is mounted on just this path, however it is written; also of a daemon that has died.
[[nodiscard]] std::optional<MountedVolume> mounted_volume_at(const std::string& mountpoint);
/// The volume that has what a path leads to, by its device, and where that is mounted on the way there.
[[nodiscard]] std::optional<MountedVolume> mounted_volume_of(const std::string& path);
/// The device of the volume that was mounted last on `mountpoint`, which is canonical. Asks the file system nothing.
/// not_found when there is none.
[[nodiscard]] core::Result<dev_t> device_mounted_on(const std::filesystem::path& mountpoint);

/// Whether what somebody asks a volume's daemon for by number is on that volume; invalid_argument when it is not.
[[nodiscard]] core::Result<> check_device(std::uint64_t asked, dev_t volume);

/// The volume directory that `what` means: a word is the name of a volume, else a mountpoint; what has a slash in it
/// (and . and ..) is a path on a mounted volume, else a volume's directory. "": the only volume that is mounted.
[[nodiscard]] core::Result<std::filesystem::path> find_volume(const std::string& what);

/// Tries for `patience` to lock the open file; true when that was had.
[[nodiscard]] bool lock_within(const core::FileDescriptor& file, std::chrono::milliseconds patience);
/// Takes the volume for this process until the descriptor is closed. busy, naming the mountpoint where it is mounted;
/// a daemon that is still ending is waited for, for six seconds at most.
[[nodiscard]] core::Result<core::FileDescriptor> lock_volume(const std::filesystem::path& directory);
/// Whether no process has the volume, waiting for that as long as `patience`.
[[nodiscard]] bool wait_until_free(const std::filesystem::path& directory, std::chrono::milliseconds patience);

}  // namespace ephfs::cli
