// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/paths.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

/// A field of mountinfo, where blanks and backslashes are octal.
std::string unescaped(std::string_view field) {
  const auto digit = [&](std::size_t at) { return static_cast<unsigned char>(field[at] - '0'); };
  std::string text;
  for (std::size_t at = 0; at < field.size(); ++at) {
    if (field[at] == '\\' && at + 3 < field.size() && digit(at + 1) < 4 && digit(at + 2) < 8 && digit(at + 3) < 8) {
      text.push_back(static_cast<char>(digit(at + 1) * 64 + digit(at + 2) * 8 + digit(at + 3)));
      at += 3;
    } else {
      text.push_back(field[at]);
    }
  }
  return text;
}

/// One line of mountinfo: id, parent, major:minor, root, mountpoint, options, more of them, "-", type, source, options.
std::optional<MountedVolume> read_mount(const std::string& line) {
  std::istringstream words(line);
  std::string id;
  std::string parent;
  std::string device;
  std::string root;
  std::string mountpoint;
  std::string word;
  words >> id >> parent >> device >> root >> mountpoint;
  while (words >> word && word != "-") {
  }
  std::string type;
  std::string source;
  unsigned major = 0;
  unsigned minor = 0;
  const bool is_ours = words >> type >> source && type == "fuse.ephfs";
  if (!is_ours || std::sscanf(device.c_str(), "%u:%u", &major, &minor) != 2) return std::nullopt;
  return MountedVolume{unescaped(source), unescaped(mountpoint), unescaped(root), makedev(major, minor)};
}

/// The volume whose mountpoint `path` is. One whose daemon has died answers no stat(2), and is known by its name.
std::optional<MountedVolume> volume_mounted_at(const std::string& path) {
  std::error_code error;
  auto real = std::filesystem::canonical(path, error);
  if (error) real = std::filesystem::absolute(path).lexically_normal();
  struct stat status {};
  const bool answers = ::stat(real.c_str(), &status) == 0;
  std::optional<MountedVolume> topmost;
  for (auto& volume : mounted_volumes()) {
    if (volume.mountpoint != real || (answers && volume.device != status.st_dev)) continue;
    topmost = std::move(volume);
  }
  return topmost;
}

Result<std::filesystem::path> only_mounted_volume() {
  std::set<std::filesystem::path> directories;
  for (auto& volume : mounted_volumes()) directories.insert(std::move(volume.directory));
  if (directories.size() == 1) return *directories.begin();
  return fail(Error::invalid_argument,
              directories.empty() ? "no volume is mounted" : "several volumes are mounted: name one");
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
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    if (auto volume = read_mount(line)) volumes.push_back(*std::move(volume));
  }
  return volumes;
}

std::optional<MountedVolume> mounted_volume_on(dev_t device) {
  for (auto& volume : mounted_volumes()) {
    if (volume.device == device) return std::move(volume);
  }
  return std::nullopt;
}

std::optional<MountedVolume> mounted_volume_of(const std::string& path) {
  struct stat status {};
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  if (error || ::stat(real.c_str(), &status) != 0) return std::nullopt;
  std::optional<MountedVolume> nearest;
  for (auto& volume : mounted_volumes()) {
    if (volume.device != status.st_dev || !is_within(real, volume.mountpoint)) continue;
    if (!nearest || is_within(volume.mountpoint, nearest->mountpoint)) nearest = std::move(volume);
  }
  return nearest;
}

Result<dev_t> device_mounted_on(const std::filesystem::path& mountpoint) {
  std::optional<dev_t> device;
  for (const auto& volume : mounted_volumes()) {
    if (volume.mountpoint == mountpoint) device = volume.device;
  }
  if (!device) return fail(Error::not_found, mountpoint.string() + " in /proc/self/mountinfo");
  return *device;
}

Result<> check_device(std::uint64_t asked, dev_t volume) {
  if (asked == volume) return {};
  return fail(Error::invalid_argument, "the file is on another device than this volume's");
}

Result<std::filesystem::path> find_volume(const std::string& what) {
  if (what.empty()) return only_mounted_volume();
  if (what.find('/') == std::string::npos && what != "." && what != "..") {
    EPHFS_TRY(auto named, volume_directory(what));
    std::error_code ignored;
    if (std::filesystem::is_directory(named, ignored)) return named;
    const auto mounted = volume_mounted_at(what);
    return mounted ? mounted->directory : named;
  }
  const auto absolute = std::filesystem::absolute(what).lexically_normal();
  for (const auto& volume : mounted_volumes()) {
    if (volume.directory == absolute) return absolute;
  }
  auto mounted = mounted_volume_of(what);
  if (!mounted) mounted = volume_mounted_at(what);
  if (mounted) return mounted->directory;
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
