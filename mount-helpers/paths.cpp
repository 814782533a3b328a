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

/// Links followed for one path: as many as the kernel follows.
constexpr int kLinksMax = 40;

std::filesystem::path resolve(std::filesystem::path path, int links_left) {
  std::error_code error;
  if (auto known = std::filesystem::canonical(path, error); !error) return known;
  while (path.has_relative_path() && (path.filename().empty() || path.filename() == ".")) path = path.parent_path();
  if (!path.has_relative_path() || links_left == 0) return path.lexically_normal();
  if (const auto target = std::filesystem::read_symlink(path, error); !error) {
    return resolve(path.parent_path() / target, links_left - 1);
  }
  const auto above = resolve(path.parent_path(), links_left);
  return path.filename() == ".." ? above.parent_path() : above / path.filename();
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

struct MountLine {
  std::string type;
  std::string source;
  std::string mountpoint;
  std::string root;
  dev_t device = 0;
};

/// id, parent, major:minor, root, mountpoint, options, more of them, "-", type, source, options.
std::optional<MountLine> read_mount(const std::string& text) {
  std::istringstream words(text);
  std::string id;
  std::string parent;
  std::string device;
  std::string word;
  MountLine line;
  words >> id >> parent >> device >> line.root >> line.mountpoint;
  while (words >> word && word != "-") {
  }
  if (!(words >> line.type >> line.source)) return std::nullopt;
  unsigned major = 0;
  unsigned minor = 0;
  char colon = 0;
  if (!(std::istringstream(device) >> major >> colon >> minor) || colon != ':') return std::nullopt;
  line.device = makedev(major, minor);
  for (auto* field : {&line.source, &line.mountpoint, &line.root}) *field = unescaped(*field);
  return line;
}

/// Calls visit(line) for each mount, in the order in which they were made.
template <class Visit>
void read_mounts(Visit visit) {
  std::ifstream table("/proc/self/mountinfo");
  for (std::string text; std::getline(table, text);) {
    if (const auto line = read_mount(text)) visit(*line);
  }
}

/// The innermost mounted volume that `path` lies in.
std::optional<MountedVolume> volume_around(const std::filesystem::path& path) {
  std::optional<MountedVolume> found;
  for (auto& volume : mounted_volumes()) {
    if (!is_within(path, volume.mountpoint)) continue;
    if (!found || is_within(volume.mountpoint, found->mountpoint)) found = std::move(volume);
  }
  return found;
}

/// `find` of the path as it is written, else of where it leads. It is looked up for that only, since the daemon there
/// may be the one that does not answer.
template <class Find>
std::optional<MountedVolume> written_or_resolved(const std::string& path, Find find) {
  auto written = std::filesystem::absolute(path).lexically_normal();
  if (!written.has_filename() && written.has_relative_path()) written = written.parent_path();
  auto found = find(written);
  if (!found) found = find(resolved(path));
  return found;
}

Result<std::filesystem::path> only_mounted_volume() {
  std::set<std::filesystem::path> directories;
  for (auto& volume : mounted_volumes()) directories.insert(std::move(volume.directory));
  if (directories.size() == 1) return *directories.begin();
  return fail(Error::invalid_argument,
              directories.empty() ? "no volume is mounted" : "several volumes are mounted: name one");
}

}  // namespace

std::filesystem::path resolved(const std::filesystem::path& path) {
  return resolve(std::filesystem::absolute(path), kLinksMax);
}

bool is_within(const std::filesystem::path& path, const std::filesystem::path& directory) {
  const auto [end, rest] = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return end == directory.end();
}

bool lock_within(const core::FileDescriptor& file, milliseconds patience) {
  for (milliseconds waited{0};; waited += kLookAgain) {
    if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return true;
    if (waited >= patience) return false;
    std::this_thread::sleep_for(kLookAgain);
  }
}

std::filesystem::path state_directory() {
  if (const auto given = environment("EPHFS_STATE_DIR"); !given.empty()) return given;
  if (::geteuid() == 0) return "/var/lib/ephfs";
  if (const auto given = environment("XDG_STATE_HOME"); !given.empty()) return std::filesystem::path(given) / "ephfs";
  return std::filesystem::path(environment("HOME")) / ".local/state/ephfs";
}

Result<std::filesystem::path> volume_directory(const std::string& volume) {
  if (volume.empty()) return fail(Error::invalid_argument, "the volume has no name");
  if (volume.find('/') != std::string::npos) return resolved(volume);
  if (volume == "." || volume == "..") {
    return fail(Error::invalid_argument, "volume " + volume + ": write ./ in front to mean a directory");
  }
  return resolved(state_directory() / volume);
}

std::vector<MountedVolume> mounted_volumes() {
  std::vector<MountedVolume> volumes;
  read_mounts([&](const MountLine& line) {
    if (line.type == "fuse.ephfs") volumes.push_back({line.source, line.mountpoint, line.root, line.device});
  });
  return volumes;
}

std::optional<Mount> mount_on(const std::filesystem::path& mountpoint) {
  std::optional<Mount> uppermost;
  read_mounts([&](const MountLine& line) {
    if (line.mountpoint == mountpoint.native()) uppermost = Mount{line.type, line.source};
  });
  return uppermost;
}

std::optional<MountedVolume> mounted_volume_on(dev_t device) {
  for (auto& volume : mounted_volumes()) {
    if (volume.device == device) return std::move(volume);
  }
  return std::nullopt;
}

std::optional<MountedVolume> mounted_volume_at(const std::string& mountpoint) {
  return written_or_resolved(mountpoint, [](const std::filesystem::path& path) {
    auto around = volume_around(path);
    if (around && around->mountpoint != path) around.reset();
    return around;
  });
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
    const auto mounted = mounted_volume_at(what);
    return mounted ? mounted->directory : named;
  }
  const auto directory = resolved(what);
  for (const auto& volume : mounted_volumes()) {
    if (volume.directory == directory) return directory;
  }
  auto mounted = mounted_volume_of(what);
  // One whose daemon has died answers no stat(2), and is known by its name.
  if (!mounted) mounted = written_or_resolved(what, volume_around);
  if (mounted) return mounted->directory;
  return volume_directory(what);
}

Result<core::FileDescriptor> lock_volume(const std::filesystem::path& directory) {
  const auto path = directory / "volume.lock";
  EPHFS_TRY(auto lock, core::open_file(path, O_RDWR | O_CREAT));
  for (const auto& volume : mounted_volumes()) {
    if (volume.directory == directory && !lock_within(lock, milliseconds{0})) {
      return fail(Error::busy, "volume " + directory.string() + " is already mounted on " + volume.mountpoint.string());
    }
  }
  if (!lock_within(lock, kEndingDaemonPatience)) {
    return fail(Error::busy, "volume " + directory.string() + " is in use by another process");
  }
  // A first mount that failed takes its directory away, with the lock that was waited for.
  struct stat locked {};
  struct stat named {};
  if (::fstat(lock.get(), &locked) != 0 || ::stat(path.c_str(), &named) != 0 || locked.st_ino != named.st_ino) {
    return fail(Error::busy, "volume " + directory.string() + " was being made by another process, which failed");
  }
  // Who holds it, for those who look for the daemon.
  const std::string holder = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock.get(), 0) != 0) return core::fail_errno(path.string());
  EPHFS_TRY_VOID(core::write_all(lock, 0, core::as_bytes(holder)));
  return lock;
}

bool wait_until_free(const std::filesystem::path& directory, milliseconds patience) {
  auto lock = core::open_file(directory / "volume.lock", O_RDWR);
  return !lock || lock_within(*lock, patience);
}

}  // namespace ephfs::cli
