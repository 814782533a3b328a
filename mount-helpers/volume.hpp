// SPDX-License-Identifier: Apache-2.0
// A mounted volume: the one place where the engine (fs/) and the embedded node (node/) meet.
#pragma once

#include <filesystem>
#include <string>

#include "core/guarded_clock.hpp"
#include "mount-helpers/daemon.hpp"
#include "mount-helpers/mount_options.hpp"

namespace ephfs::cli {

struct VolumeRequest {
  std::filesystem::path directory;
  std::string mountpoint;
  MountOptions options;  // complete and checked, but for what the volume itself says
};

/// Opens the volume, making it on first use, mounts it, says ready, and serves until it is unmounted or the process is
/// told to end. Everything staged is on disk when it returns. Of a first mount that fails before it is ready nothing is
/// left: no decision is made for good by an option that was refused.
[[nodiscard]] core::Result<> serve_volume(VolumeRequest request, const Ready& ready);

/// The embedded node's directory.
[[nodiscard]] std::filesystem::path node_directory_of(const std::filesystem::path& volume);
/// Makes `directory` (mode 0700) and what is above it.
[[nodiscard]] core::Result<> make_private_directory(const std::filesystem::path& directory);
/// Where its clock file is, a volume's or a node's.
[[nodiscard]] std::filesystem::path clock_file_of(const std::filesystem::path& directory);
/// Opens it for this process; `base` outlives the clock. busy while a daemon has it.
[[nodiscard]] core::Result<std::unique_ptr<core::GuardedClock>> open_clock(const std::filesystem::path& directory,
                                                                           core::Clock& base);
/// Where its control socket is, a volume's or a node's.
[[nodiscard]] std::filesystem::path control_socket(const std::filesystem::path& directory);
/// With a pool id from the configuration: writes it down as `directory`'s pool. Nothing for an empty id, but
/// invalid_argument where peers are listed at `peers_at` (FILE:LINE; empty without peers) and the directory is in
/// nobody's pool yet: they would refuse it.
[[nodiscard]] core::Result<> belong_to_pool(const std::filesystem::path& directory, const std::string& pool,
                                            const std::string& peers_at);

}  // namespace ephfs::cli
