// SPDX-License-Identifier: Apache-2.0
// The catalog's invariants, looked for one by one. Private to meta/.
#pragma once

#include <string>
#include <vector>

#include "meta/sqlite_db.hpp"

namespace ephfs::meta {

/// One line for each broken invariant (at most 100 of each kind), seen in one snapshot. What cannot be read
/// because the file is damaged is a line too.
[[nodiscard]] Result<std::vector<std::string>> check_records(SqliteConnection& connection);

}  // namespace ephfs::meta
