// SPDX-License-Identifier: Apache-2.0
// Mount options, from -o and from the configuration file: one table says every key, what it means and how it is
// checked, so that the two cannot differ.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/result.hpp"
#include "fs/options.hpp"

namespace ephfs::cli {

struct MountOptions {
  fs::EngineOptions engine;       // directory is filled in by who knows the volume
  bool durability_given = false;  // else it follows from whether there are peers
  bool allow_other = false;
  bool sloppy = false;                    // unknown options of a list are passed over, as mount -s wants it
  std::string kernel_flags;               // nosuid,noexec and the like, for the kernel
  std::filesystem::path config;           // empty: the volume's own config.yaml, if there is one
  std::filesystem::path passphrase_file;  // empty: none
  int passphrase_fd = -1;                 // -1: none
  bool prompt = false;                    // ask on the terminal
  std::string listen;                     // the embedded node serves others at this address; empty: it does not
  std::vector<core::PeerAddress> peers;   // from the configuration file
  std::string peers_at;                   // FILE:LINE where they are; empty without any
  std::string pool;                       // id of a pool whose peers are all in the configuration; hexadecimal
};

/// What --help says of them: a line for each.
[[nodiscard]] std::string mount_options_text();

/// Adds a comma-separated list of options to `options`. invalid_argument names the option and what was expected,
/// not_supported what no volume does;
/// options that mount(8) passes for its own use (_netdev, nofail, noauto, x-systemd.*, ...) are accepted and change
/// nothing.
[[nodiscard]] core::Result<> parse_mount_options(const std::string& list, MountOptions& options);

/// Reads the configuration file into what the command line left open: what is given there already wins. `path` empty:
/// none.
[[nodiscard]] core::Result<> apply_config(const std::filesystem::path& path, const std::string& command_line,
                                          MountOptions& options);

/// Checks what only shows when all options are known: the bounds of TTLs against one another.
[[nodiscard]] core::Result<> check_mount_options(const MountOptions& options);

}  // namespace ephfs::cli
