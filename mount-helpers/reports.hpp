// SPDX-License-Identifier: Apache-2.0
// What the control socket of a volume or a node tells, as JSON.
#pragma once

#include <sys/stat.h>

#include "core/guarded_clock.hpp"
#include "fs/engine.hpp"
#include "mount-helpers/loop.hpp"
#include "node/control_server.hpp"
#include "node/node.hpp"

namespace ephfs::cli {

/// /status, /peers, /expiring, /clock, /proof, /audit, /verify and /audit_ttl of a volume that is mounted as `device`.
/// All four outlive the handlers.
[[nodiscard]] node::ControlHandlers volume_handlers(fs::Engine& engine, node::Node& node, core::GuardedClock& clock,
                                                    Loop& loop, dev_t device);
/// /status, /peers and /clock of a node.
[[nodiscard]] node::ControlHandlers node_handlers(node::Node& node, core::GuardedClock& clock, Loop& loop);

/// How a file is named to /proof and /verify: "inode=NUMBER&device=NUMBER". An inode's number alone is that of some
/// file on every volume.
[[nodiscard]] std::string inode_query(const struct stat& status);

/// Lines of a volume's event stream: a file that dies soon, and what the administrator is told.
[[nodiscard]] std::string warning_event(const fs::DyingFile& file);
[[nodiscard]] std::string log_event(const std::string& line);

}  // namespace ephfs::cli
