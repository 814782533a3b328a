// SPDX-License-Identifier: Apache-2.0
#include "tests/mount/mounted_volume.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include <sys/mount.h>
#include <sys/wait.h>

namespace ephfs::mount_tests {

int run(const std::string& command, std::string* output) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return -1;
  std::array<char, 4096> room{};
  while (const std::size_t got = std::fread(room.data(), 1, room.size(), pipe)) {
    if (output != nullptr) output->append(room.data(), got);
  }
  const int status = ::pclose(pipe);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::filesystem::path binaries() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

MountedVolume::MountedVolume(std::string options) : options_(std::move(options)) {
  std::string pattern = (std::filesystem::temp_directory_path() / "ephfs-mount-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    error_ = "no temporary directory";
    return;
  }
  base_ = pattern;
  volume_ = base_ / "volume";
  mountpoint_ = base_ / "mnt";
  local_ = base_ / "local";
  std::filesystem::create_directory(mountpoint_);
  std::filesystem::create_directory(local_);
  mount();
}

MountedVolume::~MountedVolume() {
  if (mounted_ && !unmount()) ::umount2(mountpoint_.c_str(), MNT_DETACH);
  std::error_code ignored;
  if (!base_.empty()) std::filesystem::remove_all(base_, ignored);
}

bool MountedVolume::mount() {
  error_.clear();
  std::string command = (binaries() / "ephfs").string() + " mount " + volume_.string() + " " + mountpoint_.string();
  if (!options_.empty()) command += " -o " + options_;
  mounted_ = run(command, &error_) == 0;
  return mounted_;
}

bool MountedVolume::unmount() {
  error_.clear();
  if (run((binaries() / "ephfs").string() + " umount " + mountpoint_.string(), &error_) != 0) return false;
  mounted_ = false;
  return true;
}

int MountedVolume::daemon_pid() const {
  std::ifstream lock(volume_ / "volume.lock");
  int pid = 0;
  lock >> pid;
  return pid;
}

bool MountedVolume::kill_daemon() {
  const int pid = daemon_pid();
  if (pid <= 1 || ::kill(pid, SIGKILL) != 0) return false;
  while (::kill(pid, 0) == 0) ::usleep(1000);
  mounted_ = false;
  return ::umount2(mountpoint_.c_str(), MNT_DETACH) == 0;
}

}  // namespace ephfs::mount_tests
