// SPDX-License-Identifier: Apache-2.0
// One line for the administrator. It goes to standard error, where a terminal or systemd's journal picks it up, until a
// daemon that has left its terminal names another place. No secret belongs in one. Thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace ephfs::core {

void log_line(std::string_view line);

/// Where lines go from now on; null for standard error.
using LogSink = void (*)(const std::string& line);
void set_log_sink(LogSink sink);

}  // namespace ephfs::core
