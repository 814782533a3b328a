// SPDX-License-Identifier: Apache-2.0
// ephfs mount and umount.
#include <algorithm>
#include <array>
#include <cstdio>

#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount-helpers/commands.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/volume.hpp"

namespace ephfs::cli {
namespace {

using core::Error;
using core::fail;
using core::Result;

// mount(8)'s exit statuses.
constexpr int kUsageStatus = 1;
constexpr int kMountFailedStatus = 32;

Result<VolumeRequest> understand(const ParsedArguments& parsed) {
  if (parsed.words.size() != 2) return usage(kMount);
  VolumeRequest request;
  EPHFS_TRY(request.directory, volume_directory(parsed.words[0]));
  request.mountpoint = std::filesystem::absolute(parsed.words[1]).lexically_normal().string();
  // As with other file systems, what root mounts is for everybody whom permissions allow.
  request.options.allow_other = ::geteuid() == 0;
  const std::string list = parsed.joined("-o");
  EPHFS_TRY_VOID(parse_mount_options(list, request.options));
  auto config = request.options.config;
  if (config.empty() && std::filesystem::exists(request.directory / "config.yaml")) {
    config = request.directory / "config.yaml";
  }
  EPHFS_TRY_VOID(apply_config(config, list, request.options));
  EPHFS_TRY_VOID(check_mount_options(request.options));
  return request;
}

/// A mountpoint that cannot be one is better said before a volume is made.
Result<> check_mountpoint(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return fail(Error::not_found, "mountpoint " + path);
  if (!std::filesystem::is_directory(status)) return fail(Error::not_directory, "mountpoint " + path);
  for (const auto& volume : mounted_volumes()) {
    if (volume.mountpoint == path) return fail(Error::busy, "mountpoint " + path + " has " + volume.directory.string());
  }
  return {};
}

Result<> run_fusermount(const std::string& mountpoint) {
  std::array<const char*, 5> words{"fusermount3", "-u", "--", mountpoint.c_str(), nullptr};
  pid_t helper = 0;
  if (const int error =
          ::posix_spawnp(&helper, words[0], nullptr, nullptr, const_cast<char* const*>(words.data()), environ)) {
    return core::fail_errno("fusermount3", error);
  }
  int status = 0;
  (void)::waitpid(helper, &status, 0);
  if (status != 0) return fail(Error::io, "fusermount3 could not unmount " + mountpoint);
  return {};
}

constexpr std::array kMountOptions{
    ArgumentOption{"-o", "OPTION,...", "mount options"},
    ArgumentOption{"--foreground", "", "stay in the foreground; messages on standard error"},
    ArgumentOption{"-f", "", "the same"},
};

}  // namespace

const Synopsis kMount{"ephfs mount", "VOLUME MOUNTPOINT [-o OPTION,...] [--foreground]",
                      "mount a volume; made on first use", kMountOptions};
const Synopsis kUmount{"ephfs umount", "MOUNTPOINT", "unmount, and wait until the volume is free", {}};

int run_mount(const Arguments& arguments) {
  const auto refuse = [](const core::Failure& failure, int status) {
    std::fprintf(stderr, "ephfs: %s\n", line_of(failure).c_str());
    return status;
  };
  const auto parsed = parse_arguments(arguments, kMount);
  if (!parsed) return refuse(parsed.error(), kUsageStatus);
  auto request = understand(*parsed);
  if (!request) return refuse(request.error(), kUsageStatus);
  if (const auto fit = check_mountpoint(request->mountpoint); !fit) return refuse(fit.error(), kMountFailedStatus);
  const bool foreground = parsed->has("--foreground") || parsed->has("-f");
  return run_daemon(foreground, kMountFailedStatus,
                    [&request](const Ready& ready) { return serve_volume(*std::move(request), ready); });
}

Result<> run_umount(const Arguments& arguments) {
  constexpr std::chrono::seconds kPatience{10};
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kUmount));
  if (parsed.words.size() != 1) return usage(kUmount);
  const std::string mountpoint = std::filesystem::absolute(parsed.words[0]).lexically_normal().string();
  std::filesystem::path directory;
  for (const auto& volume : mounted_volumes()) {
    if (volume.mountpoint == mountpoint) directory = volume.directory;
  }
  if (directory.empty()) return fail(Error::invalid_argument, mountpoint + " is no mounted ephfs volume");
  if (::umount2(mountpoint.c_str(), UMOUNT_NOFOLLOW) != 0) {
    if (errno != EPERM) return core::fail_errno("unmounting " + mountpoint);
    EPHFS_TRY_VOID(run_fusermount(mountpoint));
  }
  // What is bound elsewhere goes on.
  const auto left = mounted_volumes();
  if (std::ranges::find(left, directory, &MountedVolume::directory) != left.end()) return {};
  // The daemon stages and syncs what it has; the volume is whole on disk, and free for the next mount, when it has
  // ended.
  if (!wait_until_free(directory, kPatience))
    return fail(Error::busy, "the daemon of " + directory.string() + " goes on");
  return {};
}

}  // namespace ephfs::cli
