// SPDX-License-Identifier: Apache-2.0
// How the command line says names and deadlines, to people and in JSON.
#pragma once

#include <string>
#include <string_view>

#include <boost/json.hpp>

#include "core/time.hpp"

namespace ephfs::cli {

/// A name as one line of a terminal shows it: control characters, backslashes and what is no UTF-8 as \n, \t, \\, \xHH.
[[nodiscard]] std::string shown_name(std::string_view name);
/// Adds `key` to an object: the name as it is where it is UTF-8, else as shown_name() says it, and its bytes in
/// hexadecimal as `key`_hex.
void put_name(boost::json::object& object, std::string_view key, std::string_view name);
/// The inverse of put_name(); empty when there is none.
[[nodiscard]] std::string name_in(const boost::json::object& object, std::string_view key);

/// "dies in 1 h 59 min, at 2026-11-21T05:27:35.000Z", "has died at ...", or "never dies".
[[nodiscard]] std::string deadline_in_words(core::Deadline deadline, core::Instant now);

}  // namespace ephfs::cli
