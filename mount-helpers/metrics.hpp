// SPDX-License-Identifier: Apache-2.0
// What the daemon measures of itself, as the control socket shows it: /profile (JSON) and /metrics (Prometheus text
// format 0.0.4).
#pragma once

#include <string>

#include <boost/json/fwd.hpp>

#include "core/profile.hpp"
#include "node/control_server.hpp"

namespace ephfs::cli {

/// {"running", "seconds", "operations": [...], "stages": [...]}; durations in microseconds.
[[nodiscard]] std::string profile_json(const core::ProfileReading& profile);
/// Every number and truth value in `status`, named by its keys, and the histograms of `profile`.
[[nodiscard]] std::string metrics_text(const boost::json::object& status, const core::ProfileReading& profile);

/// GET /profile: what was counted. /profile?start=SECONDS: forgets that and counts, for so long at most. /profile?stop.
[[nodiscard]] node::ControlHandler profile_handler();

}  // namespace ephfs::cli
