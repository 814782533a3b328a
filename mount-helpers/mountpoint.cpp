// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/mountpoint.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

namespace ephfs::cli {
namespace {

using core::Error;
using core::fail;
using core::Result;

/// What others need to mount once they have claimed the mountpoint.
constexpr std::chrono::seconds kOthersPatience{6};
/// A mountpoint of automount has this on it, waiting for who mounts the volume over it.
constexpr const char* kAutomountType = "autofs";

Result<> check_not_mounted(const std::filesystem::path& mountpoint) {
  const auto there = mount_on(mountpoint);
  if (!there || there->type == kAutomountType) return {};
  return fail(Error::busy,
              "mountpoint " + mountpoint.string() + " has " + there->source + " on it (" + there->type + ")");
}

}  // namespace

Result<> check_mountpoint(const std::filesystem::path& mountpoint, const std::filesystem::path& volume) {
  for (const auto& mounted : mounted_volumes()) {
    if (mounted.mountpoint == mountpoint && is_dead(mounted)) {
      return fail(Error::unreachable, "mountpoint " + mountpoint.string() + ": " + describe_dead(mounted));
    }
  }
  EPHFS_TRY_VOID(check_not_mounted(mountpoint));
  struct stat status {};
  if (::stat(mountpoint.c_str(), &status) != 0) return core::fail_errno("mountpoint " + mountpoint.string());
  if (!S_ISDIR(status.st_mode)) return fail(Error::not_directory, "mountpoint " + mountpoint.string());
  if (is_within(volume, mountpoint)) {
    return fail(Error::invalid_argument,
                "mountpoint " + mountpoint.string() + " would cover the volume's own directory " + volume.string());
  }
  return {};
}

Result<core::FileDescriptor> claim_mountpoint(const std::filesystem::path& mountpoint) {
  EPHFS_TRY_VOID(check_not_mounted(mountpoint));
  // Opening what automount waits at would wait for this very mount; there nobody else mounts.
  if (mount_on(mountpoint)) return core::FileDescriptor();
  EPHFS_TRY(auto claim, core::open_file(mountpoint, O_RDONLY | O_DIRECTORY));
  if (!lock_within(claim, kOthersPatience)) {
    return fail(Error::busy, "mountpoint " + mountpoint.string() + " is being mounted on by another process");
  }
  EPHFS_TRY_VOID(check_not_mounted(mountpoint));
  return claim;
}

bool is_dead(const MountedVolume& volume) {
  // A daemon that is there but slow is not asked.
  if (!wait_until_free(volume.directory, std::chrono::milliseconds{0})) return false;
  // What the kernel never answers by itself.
  struct statvfs status {};
  return ::statvfs(volume.mountpoint.c_str(), &status) != 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

std::string describe_dead(const MountedVolume& volume) {
  return "the daemon of " + volume.directory.string() + " has died and left its mount; ephfs umount " +
         volume.mountpoint.string() + " takes it away";
}

std::optional<MountedVolume> dead_mount_of(const std::filesystem::path& directory) {
  for (auto& mounted : mounted_volumes()) {
    if (mounted.directory == directory && is_dead(mounted)) return std::move(mounted);
  }
  return std::nullopt;
}

}  // namespace ephfs::cli
