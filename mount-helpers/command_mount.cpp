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
#include "mount-helpers/mountpoint.hpp"
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

Result<VolumeRequest> understand(const ParsedArguments& parsed, bool sloppy) {
  if (parsed.words.size() != 2) return usage(kMount);
  VolumeRequest request;
  EPHFS_TRY(request.directory, volume_directory(parsed.words[0]));
  request.mountpoint = resolved(parsed.words[1]).string();
  // As with other file systems, what root mounts is for everybody whom permissions allow.
  request.options.allow_other = ::geteuid() == 0;
  request.options.sloppy = sloppy;
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

bool is_mounted(const VolumeRequest& request) {
  return std::ranges::any_of(mounted_volumes(), [&](const MountedVolume& mounted) {
    return mounted.directory == request.directory && mounted.mountpoint == request.mountpoint && !is_dead(mounted);
  });
}

Result<> run_fusermount(const std::string& mountpoint, bool at_once) {
  std::array<const char*, 5> words{"fusermount3", at_once ? "-uz" : "-u", "--", mountpoint.c_str(), nullptr};
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

int run_mount(const Arguments& arguments, const MountManner& manner) {
  const auto refuse = [](const core::Failure& failure, int status) {
    std::fprintf(stderr, "ephfs: %s\n", line_of(failure).c_str());
    return status;
  };
  const auto parsed = parse_arguments(arguments, kMount);
  if (!parsed) return refuse(parsed.error(), kUsageStatus);
  auto request = understand(*parsed, manner.sloppy);
  if (!request) return refuse(request.error(), kUsageStatus);
  if (manner.again_is_fine && is_mounted(*request)) return 0;
  const auto fit = check_mountpoint(request->mountpoint, request->directory);
  if (!fit) return refuse(fit.error(), kMountFailedStatus);
  const bool foreground = parsed->has("--foreground") || parsed->has("-f");
  return run_daemon(foreground, kMountFailedStatus,
                    [&request](const Ready& ready) { return serve_volume(*std::move(request), ready); });
}

Result<> run_umount(const Arguments& arguments) {
  constexpr std::chrono::seconds kPatience{10};
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kUmount));
  if (parsed.words.size() != 1) return usage(kUmount);
  const auto mounted = mounted_volume_at(parsed.words[0]);
  if (!mounted) return fail(Error::invalid_argument, parsed.words[0] + " is no mounted ephfs volume");
  const std::string mountpoint = mounted->mountpoint.string();
  // Whoever still uses a mount that nobody serves has lost it already.
  const bool dead = is_dead(*mounted);
  if (::umount2(mountpoint.c_str(), UMOUNT_NOFOLLOW | (dead ? MNT_DETACH : 0)) != 0) {
    if (errno != EPERM) return core::fail_errno("unmounting " + mountpoint);
    EPHFS_TRY_VOID(run_fusermount(mountpoint, dead));
  }
  // What is bound elsewhere goes on.
  const auto left = mounted_volumes();
  if (std::ranges::find(left, mounted->directory, &MountedVolume::directory) != left.end()) return {};
  // The daemon stages and syncs what it has; the volume is whole on disk, and free for the next mount, when it has
  // ended.
  if (!wait_until_free(mounted->directory, kPatience)) {
    return fail(Error::busy, "the daemon of " + mounted->directory.string() + " goes on");
  }
  return {};
}

}  // namespace ephfs::cli
