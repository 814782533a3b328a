// SPDX-License-Identifier: Apache-2.0
// Sharing over the control socket of a mounted volume: POST /share with {"inode", "device", "name" or "name_hex",
// "ttl_ms", "fetches_max"} gives {"link", "expires_ms", "ends_with_file", "nodes"}. The answer holds a secret.
#pragma once

#include <sys/types.h>

#include "fs/engine.hpp"
#include "node/control_server.hpp"
#include "node/node.hpp"

namespace ephfs::cli {

/// The action behind /share of a volume that is mounted as `device`. Both outlive it.
[[nodiscard]] node::ControlAction share_action(fs::Engine& engine, node::Node& node, dev_t device);

struct ShareQuestion {
  std::uint64_t inode = 0;
  dev_t device = 0;
  std::string name;
  std::optional<core::Milliseconds> ttl;
  std::uint32_t fetches_max = 0;
};
struct ShareAnswer {
  std::string link;
  core::Instant expires;
  bool ends_with_file = false;
  std::vector<std::string> nodes;
};
/// Asks the daemon behind `socket`. Blocks as long as placing the file may take.
[[nodiscard]] core::Result<ShareAnswer> ask_to_share(const std::filesystem::path& socket,
                                                     const ShareQuestion& question);

}  // namespace ephfs::cli
