// SPDX-License-Identifier: Apache-2.0
// A Catalog in front of another one, for commits at the speed of memory: a commit of what file operations change is
// checked, appended to a journal, and kept in an overlay that readers look into first; a thread gives what has gathered
// to the catalog below, many commits in one. Other commits, and reads of what is rarely sought, wait until the catalog
// below has everything, and are its own. Promises and order: docs/ARCHITECTURE.md, "The journal".
#pragma once

#include <filesystem>
#include <memory>

#include "meta/catalog.hpp"

namespace ephfs::meta {

/// `below` with the journal at `path`, made when there is none; what the journal holds is given to `below`
/// first. damaged, naming the file, for a journal that cannot be read; busy and version as well. `path`'s
/// directory must be there.
[[nodiscard]] Result<std::unique_ptr<Catalog>> open_journaled_catalog(std::unique_ptr<Catalog> below,
                                                                      const std::filesystem::path& path);

/// The catalog of the volume in `directory`, made when there is none: catalog.db with catalog.journal in front of it.
/// Errors: those of open_sqlite_catalog and open_journaled_catalog.
[[nodiscard]] Result<std::unique_ptr<Catalog>> open_volume_catalog(const std::filesystem::path& directory);

}  // namespace ephfs::meta
