// SPDX-License-Identifier: Apache-2.0
// What makes a directory a volume: which files are there from its first mount on.
#pragma once

#include <filesystem>

#include "core/result.hpp"

namespace ephfs::cli {

/// Whether anything that only a volume has is in `directory`.
[[nodiscard]] bool has_volume_files(const std::filesystem::path& directory);

/// Whether a volume is in `directory`. not_found, naming the file, where part of one is gone: what is as irreplaceable
/// as its keys, key wheel and catalog is made once, with the volume, and never anew. The caller has the volume's lock.
[[nodiscard]] core::Result<bool> holds_volume(const std::filesystem::path& directory);

}  // namespace ephfs::cli
