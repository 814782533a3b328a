// SPDX-License-Identifier: Apache-2.0
// What a share gives to whoever has its link: the signed manifest of one file, the key that opens it, and what the file
// was called; sealed under keys that come from the link's secret (docs/formats.md, "Shares").
#pragma once

#include <string>

#include "core/bytes.hpp"
#include "core/result.hpp"
#include "core/share_secret.hpp"
#include "meta/catalog.hpp"

namespace ephfs::meta {

struct SharedFile {
  std::string name;        // a file name: 1 to 255 bytes, no slash, no zero, not "." or ".."
  std::uint32_t mode = 0;  // permission bits
  FileTime modified;
  core::Bytes manifest;  // signed
  core::Key key;         // of the file
};

/// file_too_large past core::kShareBytesMax: the manifest of a file that lies in very many pieces.
[[nodiscard]] Result<core::Bytes> seal_shared_file(const SharedFile& file, const core::ShareSecret& secret,
                                                   const core::ShareId& share);
/// damaged for what another secret or for another share was sealed, or was changed since; version. The manifest is as
/// it came: open_manifest() it.
[[nodiscard]] Result<SharedFile> open_shared_file(core::ByteView content, const core::ShareSecret& secret,
                                                  const core::ShareId& share);

}  // namespace ephfs::meta
