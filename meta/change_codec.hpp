// SPDX-License-Identifier: Apache-2.0
// The changes that file operations make, as bytes, for the journal. Format: docs/formats.md, "Catalog journal".
// Private to meta/.
#pragma once

#include "meta/catalog.hpp"

namespace ephfs::meta {

/// Whether the journal has a form for each of them: changes of inodes, names, xattrs, extents and dead files, and
/// stripes that are put.
[[nodiscard]] bool is_encodable(const Changes& changes);
/// All of them must be encodable.
[[nodiscard]] core::Bytes encode_changes(const Changes& changes);
/// What encode_changes was given; damaged for bytes that it does not make.
[[nodiscard]] Result<Changes> decode_changes(core::ByteView bytes);

}  // namespace ephfs::meta
