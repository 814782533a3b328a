// SPDX-License-Identifier: Apache-2.0
// Where a volume's passphrase comes from: a file, a descriptor, a systemd credential, or a prompt. Never an argument,
// which every process could read.
#pragma once

#include <optional>

#include "core/result.hpp"
#include "core/secret.hpp"
#include "mount-helpers/mount_options.hpp"

namespace ephfs::cli {

/// The passphrase, without its line end. None when no source is named and no credential "ephfs.passphrase" is there.
/// invalid_argument for an empty one; `confirm` asks twice at a prompt (a new volume).
[[nodiscard]] core::Result<std::optional<core::SecretText>> read_passphrase(const MountOptions& options, bool confirm);

/// Asks on the terminal, without echo.
[[nodiscard]] core::Result<core::SecretText> prompt_passphrase(const std::string& question);

}  // namespace ephfs::cli
