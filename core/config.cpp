// SPDX-License-Identifier: Apache-2.0
#include "core/config.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <set>

#include <arpa/inet.h>
#include <yaml-cpp/yaml.h>

#include "core/files.hpp"

namespace ephfs::core {
namespace {

constexpr std::size_t kConfigBytesMax = 1 << 20;
constexpr std::size_t kHostLengthMax = 253;  // of a domain name, RFC 1035
constexpr std::string_view kPeersKey = "peers";

// yaml-cpp counts lines from 0, and gives -1 where there is nothing to point at.
int line_of(const YAML::Mark& mark) {
  return mark.is_null() ? 1 : mark.line + 1;
}

std::string in_quotes(std::string_view text) {
  return "'" + std::string(text) + "'";
}

// Understands one file. yaml-cpp throws; read_config catches.
class ConfigReader {
 public:
  ConfigReader(const std::filesystem::path& path, const std::vector<std::string>& known_keys)
      : known_keys_(known_keys) {
    file_.path = path;
  }

  Result<> read(const std::string& text) {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) return mistake(documents[1].Mark(), "a second YAML document");
    if (documents.empty() || documents[0].IsNull()) return {};
    const YAML::Node& root = documents[0];
    if (!root.IsMap()) return mistake(root.Mark(), "expected lines of 'key: value'");
    std::set<std::string> seen;
    for (const auto& entry : root) {
      EPHFS_TRY(const std::string key, read_key(entry.first, seen));
      if (key == kPeersKey) {
        EPHFS_TRY_VOID(read_peers(entry.second, entry.first.Mark()));
      } else {
        EPHFS_TRY_VOID(read_setting(key, entry.first, entry.second));
      }
    }
    return {};
  }
  [[nodiscard]] Failure mistake(const YAML::Mark& mark, const std::string& what) const {
    return fail(Error::invalid_argument, file_.path.string() + ":" + std::to_string(line_of(mark)) + ": " + what);
  }
  ConfigFile take() { return std::move(file_); }

 private:
  Result<std::string> read_key(const YAML::Node& node, std::set<std::string>& seen) const {
    if (!node.IsScalar()) return mistake(node.Mark(), "a key is a word");
    if (!seen.insert(node.Scalar()).second) return mistake(node.Mark(), "repeated key " + in_quotes(node.Scalar()));
    return node.Scalar();
  }

  Result<std::string> read_scalar(const std::string& key, const YAML::Mark& mark, const YAML::Node& value) const {
    if (value.IsNull()) return mistake(mark, "key " + in_quotes(key) + " has no value");
    if (!value.IsScalar()) return mistake(mark, "key " + in_quotes(key) + " takes one value, not a list or map");
    return value.Scalar();
  }

  Result<> read_setting(const std::string& key, const YAML::Node& name, const YAML::Node& value) {
    if (std::find(known_keys_.begin(), known_keys_.end(), key) == known_keys_.end()) {
      return mistake(name.Mark(), "unknown key " + in_quotes(key));
    }
    EPHFS_TRY(std::string text, read_scalar(key, name.Mark(), value));
    file_.settings.emplace(key, ConfigFile::Setting{std::move(text), line_of(name.Mark())});
    return {};
  }

  Result<> read_peers(const YAML::Node& list, const YAML::Mark& mark) {
    if (!list.IsSequence()) return mistake(mark, "key 'peers' takes a list of {id: HEX, address: HOST:PORT}");
    file_.peers_line = line_of(mark);
    std::set<NodeId> seen;
    for (const YAML::Node& item : list) {
      EPHFS_TRY(PeerAddress peer, read_peer(item));
      if (!seen.insert(peer.id).second) return mistake(item.Mark(), "peer " + peer.id.hex() + " is named twice");
      file_.peers.push_back(std::move(peer));
    }
    return {};
  }

  Result<PeerAddress> read_peer(const YAML::Node& item) const {
    if (!item.IsMap()) return mistake(item.Mark(), "a peer is {id: HEX, address: HOST:PORT}");
    std::set<std::string> seen;
    PeerAddress peer;
    for (const auto& entry : item) {
      const YAML::Mark mark = entry.first.Mark();
      EPHFS_TRY(const std::string key, read_key(entry.first, seen));
      if (key != "id" && key != "address") return mistake(mark, "unknown key " + in_quotes(key) + " of a peer");
      EPHFS_TRY(std::string text, read_scalar(key, mark, entry.second));
      if (key == "id") {
        const auto id = NodeId::from_hex(text);
        if (!id) return mistake(mark, in_quotes(text) + " is not a node's id: 64 hexadecimal digits");
        peer.id = *id;
      } else {
        if (const auto address = parse_address(text); !address) return mistake(mark, address.error().detail);
        peer.address = std::move(text);
      }
    }
    for (const char* needed : {"id", "address"}) {
      if (!seen.contains(needed)) return mistake(item.Mark(), "a peer needs the key " + in_quotes(needed));
    }
    return peer;
  }

  const std::vector<std::string>& known_keys_;
  ConfigFile file_;
};

bool is_host_character(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_';
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kHostLengthMax && std::all_of(text.begin(), text.end(), is_host_character);
}

bool is_ipv6(std::string_view text) {
  // A link-local address may name its interface: fe80::1%eth0.
  const std::size_t percent = text.find('%');
  if (percent != std::string_view::npos && !is_name(text.substr(percent + 1))) return false;
  in6_addr address{};
  return ::inet_pton(AF_INET6, std::string(text.substr(0, percent)).c_str(), &address) == 1;
}

struct SizeUnit {
  char letter;
  unsigned shift;
};
constexpr std::array kSizeUnits{SizeUnit{'T', 40}, SizeUnit{'G', 30}, SizeUnit{'M', 20}, SizeUnit{'K', 10}};

}  // namespace

Result<ConfigFile> read_config(const std::filesystem::path& path, const std::vector<std::string>& known_keys) {
  auto content = read_file(path, kConfigBytesMax);
  if (!content) {
    Failure failure = std::move(content).error();
    // Too long is the writer's mistake, not the disk's.
    if (failure.code == Error::damaged) failure.code = Error::invalid_argument;
    return failure;
  }
  ConfigReader reader(path, known_keys);
  try {
    // The end marker makes a quote that was never closed a mistake: yaml-cpp lets the end of the file close it.
    EPHFS_TRY_VOID(reader.read(std::string(as_text(*content)) + "\n...\n"));
  } catch (const YAML::Exception& bad) {
    return reader.mistake(bad.mark, bad.msg);
  }
  return reader.take();
}

Result<HostPort> parse_address(std::string_view text, bool allow_any_port) {
  const auto refuse = [&](std::string_view why) {
    return fail(Error::invalid_argument, in_quotes(text) + " is not HOST:PORT or [IPV6]:PORT: " + std::string(why));
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return refuse("the port is missing");
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
    host = host.substr(1, host.size() - 2);
    if (!is_ipv6(host)) return refuse("the brackets hold no IPv6 address");
  } else if (!is_name(host)) {
    return refuse(host.find(':') == std::string_view::npos ? "the host is no name or address"
                                                           : "an IPv6 address stands in brackets");
  }

  const std::string_view digits = text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size()) return refuse("the port is 1 to 65535");
  if (port == 0 && !allow_any_port) return refuse("the port is 1 to 65535");
  return HostPort{std::string(host), port};
}

Result<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view suffix = text.substr(static_cast<std::size_t>(end - text.data()));
  bool good = error == std::errc{};
  unsigned shift = 0;
  if (good && !suffix.empty()) {
    const auto unit = std::find_if(kSizeUnits.begin(), kSizeUnits.end(), [&](const SizeUnit& candidate) {
      return suffix.front() == candidate.letter || suffix.front() == candidate.letter - 'A' + 'a';
    });
    good = suffix.size() == 1 && unit != kSizeUnits.end();
    if (good) shift = unit->shift;
  }
  if (!good || value > std::numeric_limits<std::uint64_t>::max() >> shift) {
    return fail(Error::invalid_argument, in_quotes(text) + " is not a size like 10G, 512M, 64K or a number of bytes");
  }
  return value << shift;
}

std::string format_size(std::uint64_t bytes) {
  for (const SizeUnit& unit : kSizeUnits) {
    if (bytes != 0 && bytes % (std::uint64_t{1} << unit.shift) == 0) {
      return std::to_string(bytes >> unit.shift) + unit.letter;
    }
  }
  return std::to_string(bytes);
}

}  // namespace ephfs::core
