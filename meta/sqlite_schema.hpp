// SPDX-License-Identifier: Apache-2.0
// The catalog's tables and how a file of an older version is brought up to date: docs/formats.md, "Catalog".
// Private to meta/.
#pragma once

#include "meta/sqlite_db.hpp"

namespace ephfs::meta {

/// "ephf" in ASCII, in the header of every catalog.
constexpr std::int64_t kCatalogApplicationId = 0x65706866;
/// PRAGMA user_version of the tables as this program knows them.
extern const std::int64_t kCatalogVersion;

/// Makes the tables in an empty file, or brings older ones up to date, in one transaction. damaged for a
/// database that is no catalog or lacks a table, version for a newer one.
[[nodiscard]] Result<> prepare_schema(SqliteConnection& connection);

}  // namespace ephfs::meta
