// SPDX-License-Identifier: Apache-2.0
// A volume mounted by the real executable, in a directory of its own, for tests through the kernel.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace ephfs::mount_tests {

/// Runs a shell command and returns its exit status; `output` (when not null) gets what it printed on both streams.
int run(const std::string& command, std::string* output = nullptr);

/// The directory of the executables under test.
std::filesystem::path binaries();

class MountedVolume {
 public:
  /// Makes a volume and mounts it with `options`. Check mounted() before use.
  explicit MountedVolume(std::string options = {});
  ~MountedVolume();
  MountedVolume(const MountedVolume&) = delete;
  MountedVolume& operator=(const MountedVolume&) = delete;

  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] const std::string& error() const { return error_; }
  [[nodiscard]] const std::filesystem::path& root() const { return mountpoint_; }
  [[nodiscard]] const std::filesystem::path& volume() const { return volume_; }
  /// A directory beside the volume on a local file system.
  [[nodiscard]] const std::filesystem::path& local() const { return local_; }

  bool mount();
  bool unmount();
  bool remount() { return unmount() && mount(); }
  /// The daemon that serves it.
  [[nodiscard]] int daemon_pid() const;
  /// Ends the daemon as a crash would and takes the dead mount away.
  bool kill_daemon();

 private:
  std::string options_;
  std::filesystem::path base_, volume_, mountpoint_, local_;
  bool mounted_ = false;
  std::string error_;
};

}  // namespace ephfs::mount_tests
