// SPDX-License-Identifier: Apache-2.0
// One change, applied inside the writer's transaction. Private to meta/.
#pragma once

#include "meta/catalog.hpp"
#include "meta/sqlite_db.hpp"

namespace ephfs::meta {

/// invalid_argument for a record that no catalog may hold (a number past its range, an empty name or extent);
/// the transaction is then to be rolled back, as after any failure.
[[nodiscard]] Result<> apply_change(SqliteConnection& connection, const Change& change);

}  // namespace ephfs::meta
