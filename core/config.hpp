// SPDX-License-Identifier: Apache-2.0
// Configuration files: YAML, read with yaml-cpp, every key known and every value checked. A mistake is one line that
// says the file, the line, the key and what was expected.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/ids.hpp"
#include "core/result.hpp"

namespace ephfs::core {

/// A peer named by hand.
struct PeerAddress {
  NodeId id;
  std::string address;  // HOST:PORT, [IPV6]:PORT
};

/// The file's content. Settings are kept as text, by key, and are understood by whoever owns them (mount options have
/// the same names and the same parser, so that `-o ttl=1d` and `ttl: 1d` cannot differ).
struct ConfigFile {
  struct Setting {
    std::string value;
    int line = 0;  // from 1
  };
  std::filesystem::path path;
  std::map<std::string, Setting> settings;
  std::vector<PeerAddress> peers;  // peers: [{id: HEX, address: HOST:PORT}, ...]
  int peers_line = 0;              // from 1; 0 without peers
};

/// Reads `path`. Scalars at the top level become settings when their key is in `known_keys`; `peers` is the one list.
/// invalid_argument with "FILE:LINE: ..." for bad YAML, an unknown or repeated key, a bad id or address, a value of the
/// wrong shape; not_found or access_denied when the file cannot be read.
[[nodiscard]] Result<ConfigFile> read_config(const std::filesystem::path& path,
                                             const std::vector<std::string>& known_keys);

/// HOST:PORT or [IPV6]:PORT, split; invalid_argument otherwise. Port 0 is allowed ("any") only when `allow_any_port`.
struct HostPort {
  std::string host;
  std::uint16_t port = 0;
};
[[nodiscard]] Result<HostPort> parse_address(std::string_view text, bool allow_any_port = false);

/// A size as people write one: 10G, 512M, 64K, 1T (powers of 1024), or bytes.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);
[[nodiscard]] std::string format_size(std::uint64_t bytes);

}  // namespace ephfs::core
