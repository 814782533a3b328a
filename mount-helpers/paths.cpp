// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/paths.hpp"

#include <cstdlib>
#include <thread>

#include <fcntl.h>
#include <mntent.h>
#include <sys/file.h>
#include <unistd.h>

namespace ephfs::cli {
namespace {

using core::Error;
using core::fail;
using core::Result;
using std::chrono::milliseconds;

constexpr milliseconds kEndingDaemonPatience{6000};
constexpr milliseconds kLookAgain{20};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool is_within(const std::filesystem::path& path, const std::filesystem::path& directory) {
  const auto [end, rest] = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return end == directory.end();
}

/// Tries for `patience` to take the lock; true when it was had.
bool try_lock(int fd, milliseconds patience) {
  for (milliseconds waited{0};; waited += kLookAgain) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    if (waited >= patience) return false;
    std::this_thread::sleep_for(kLookAgain);
  }
}

}  // namespace

std::filesystem::path state_directory() {
  if (const auto given = environment("EPHFS_STATE_DIR"); !given.empty()) return given;
  if (::geteuid() == 0) return "/var/lib/ephfs";
  if (const auto given = environment("XDG_STATE_HOME"); !given.empty()) return std::filesystem::path(given) / "ephfs";
  return std::filesystem::path(environment("HOME")) / ".local/state/ephfs";
}

Result<std::filesystem::path> volume_directory(const std::string& volume) {
  if (volume.empty()) return fail(Error::invalid_argument, "the volume has no name");
  if (volume.find('/') != std::string::npos) return std::filesystem::absolute(volume).lexically_normal();
  if (volume == "." || volume == "..") {
    return fail(Error::invalid_argument, "volume " + volume + ": write ./ in front to mean a directory");
  }
  return state_directory() / volume;
}

std::vector<MountedVolume> mounted_volumes() {
  std::vector<MountedVolume> volumes;
  const std::unique_ptr<FILE, int (*)(FILE*)> table(setmntent("/proc/self/mounts", "r"), endmntent);
  if (!table) return volumes;
  mntent entry{};
  std::array<char, 16384> room{};
  while (getmntent_r(table.get(), &entry, room.data(), static_cast<int>(room.size())) != nullptr) {
    if (std::string_view(entry.mnt_type) == "fuse.ephfs") volumes.push_back({entry.mnt_fsname, entry.mnt_dir});
  }
  return volumes;
}

std::optional<MountedVolume> mounted_volume_of(const std::string& path) {
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  if (error) return std::nullopt;
  for (auto& volume : mounted_volumes()) {
    if (is_within(real, volume.mountpoint)) return std::move(volume);
  }
  return std::nullopt;
}

Result<std::filesystem::path> find_volume(const std::string& what) {
  const auto mounted = mounted_volumes();
  if (what.empty()) {
    if (mounted.size() == 1) return mounted.front().directory;
    return fail(Error::invalid_argument,
                mounted.empty() ? "no volume is mounted" : "several volumes are mounted: name one");
  }
  const auto absolute = std::filesystem::absolute(what).lexically_normal();
  for (const auto& volume : mounted) {
    if (is_within(absolute, volume.mountpoint)) return volume.directory;
  }
  return volume_directory(what);
}

Result<core::FileDescriptor> lock_volume(const std::filesystem::path& directory) {
  const auto path = directory / "volume.lock";
  EPHFS_TRY(auto lock, core::open_file(path, O_RDWR | O_CREAT));
  for (const auto& volume : mounted_volumes()) {
    if (volume.directory == directory && !try_lock(lock.get(), milliseconds{0})) {
      return fail(Error::busy, "volume " + directory.string() + " is already mounted on " + volume.mountpoint.string());
    }
  }
  if (!try_lock(lock.get(), kEndingDaemonPatience)) {
    return fail(Error::busy, "volume " + directory.string() + " is in use by another process");
  }
  // Who holds it, for those who look for the daemon.
  const std::string holder = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock.get(), 0) != 0) return core::fail_errno(path.string());
  EPHFS_TRY_VOID(core::write_all(lock, 0, core::as_bytes(holder)));
  return lock;
}

bool wait_until_free(const std::filesystem::path& directory, milliseconds patience) {
  auto lock = core::open_file(directory / "volume.lock", O_RDWR);
  return !lock || try_lock(lock->get(), patience);
}

}  // namespace ephfs::cli
