// SPDX-License-Identifier: Apache-2.0
// The catalog on SQLite: one writer connection, a pool of reader connections, write-ahead log. Format: docs/formats.md.
#pragma once

#include <filesystem>
#include <memory>

#include "meta/catalog.hpp"

namespace ephfs::meta {

/// Opens the catalog at `path`, making it when there is none, and brings an older version up to date. damaged, naming
/// the file, when SQLite finds it damaged or it is no catalog; version when a newer program made it; busy when another
/// process has it open for writing.
[[nodiscard]] Result<std::unique_ptr<Catalog>> open_sqlite_catalog(const std::filesystem::path& path);

/// Whether a catalog was ever made at `path`: false where nothing is there, an empty file, or a database with nothing
/// in it. Whether it is a sound one, opening it says. Changes nothing; nobody has the catalog open.
[[nodiscard]] bool holds_catalog(const std::filesystem::path& path);

}  // namespace ephfs::meta
