// SPDX-License-Identifier: Apache-2.0
// What a daemon says of its clock, and the owner's word for it: shared by volumes and nodes.
#pragma once

#include <filesystem>
#include <string>

#include <boost/json/object.hpp>

#include "core/guarded_clock.hpp"
#include "mount-helpers/loop.hpp"
#include "node/control_server.hpp"
#include "node/node.hpp"

namespace ephfs::cli {

/// wall, believed, confirmed, held, held_since, behind_ms, kernel_synchronized.
[[nodiscard]] boost::json::object describe_clock(const core::GuardedClock& clock);
/// Adds "clock" to a status, and "warnings": lines for people, of which a held clock is one.
void add_clock(const core::GuardedClock& clock, boost::json::object& status);
/// GET /clock, with what the peers say it is (without them where the query is "alone"), and POST /clock/accept. All
/// three outlive the handlers.
void add_clock_handlers(core::GuardedClock& clock, node::Node& node, Loop& loop, node::ControlHandlers& handlers);

/// What time it is for the daemon of the volume or node in `directory`; the system clock's where none answers us.
[[nodiscard]] core::Instant time_in(const std::filesystem::path& directory);
/// The same for whatever `path` is on: the mounted volume's daemon, or the system clock.
[[nodiscard]] core::Instant time_on(const std::string& path);

}  // namespace ephfs::cli
