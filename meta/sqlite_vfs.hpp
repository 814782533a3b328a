// SPDX-License-Identifier: Apache-2.0
// SQLite's way to the disk, changed in two places so that what was deleted is in no file. `secure_delete`
// overwrites a deleted row where it stands; two kinds of copies it does not reach:
//
// - A row that moves to another page when the tree is balanced leaves its bytes behind in the unallocated
// part of the
//   page it was on (SQLite's file format, "B-tree Pages": between the cell pointers and the cells). Nothing
//   there means anything, so that part of each page is written to the database file as zeros.
// - The log holds pages as they were. Where SQLite cuts it off or deletes it, its bytes are overwritten with
// zeros and
//   synced first. SQLite does either only when all of the log is in the database file and synced, and nobody
//   reads it.
//
// Everything else is the default VFS's. Private to meta/.
#pragma once

#include <cstdint>

namespace ephfs::meta {

/// The name to open databases with; registered on first use. Thread-safe.
[[nodiscard]] const char* clean_vfs();

/// The largest catalog, in pages. Below it, the first byte of a page tells a page of a tree from all others:
/// those begin with a page number in big-endian, or are zeros.
constexpr std::uint32_t kCatalogPagesMax = (1U << 25U) - 1;

}  // namespace ephfs::meta
