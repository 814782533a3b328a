// SPDX-License-Identifier: Apache-2.0
// The changes that file operations make, and bytes kept with them, as bytes, for the journal. Format: docs/formats.md,
// "Catalog journal". Private to meta/.
#pragma once

#include "meta/catalog.hpp"

namespace ephfs::meta {

/// Whether the journal has a form for each of them: changes of inodes, names, xattrs, extents and dead files, and
/// stripes that are put.
[[nodiscard]] bool is_encodable(const Changes& changes);
/// All changes must be encodable.
[[nodiscard]] core::Bytes encode_commit(const Changes& changes, const std::vector<StagedBytes>& staged);

struct JournaledCommit {
  Changes changes;
  std::vector<StagedBytes> staged;
};
/// What encode_commit() was given; damaged for bytes that it does not make.
[[nodiscard]] Result<JournaledCommit> decode_commit(core::ByteView bytes);

}  // namespace ephfs::meta
