// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/mount_options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>

namespace ephfs::cli {
namespace {

using core::Error;
using core::fail;
using core::Result;

/// An option of our own. `set` understands its value.
struct Option {
  std::string_view name;
  std::string_view value;  // for people; empty: a flag
  std::string_view help;   // what it is, and its default
  bool in_config;          // may also stand in the configuration file
  Result<> (*set)(MountOptions& options, const std::string& value);
};

Result<> set_span(core::Milliseconds& target, const std::string& value) {
  EPHFS_TRY(target, core::parse_span(value));
  return {};
}

Result<> set_initial_ttl(MountOptions& options, const std::string& value) {
  if (value != "never") return set_span(options.engine.ttl.initial, value);
  options.engine.ttl.initial = fs::kPermanentTtl;
  return {};
}

Result<> set_proof_keep(MountOptions& options, const std::string& value) {
  if (value != "0") return set_span(options.engine.proof_keep, value);
  options.engine.proof_keep = core::Milliseconds{0};
  return {};
}

Result<> set_warning_span(MountOptions& options, const std::string& value) {
  if (value != "off") return set_span(options.engine.warn, value);
  options.engine.warn = core::Milliseconds{0};
  return {};
}

Result<> set_size(std::uint64_t& target, const std::string& value) {
  EPHFS_TRY(target, core::parse_size(value));
  return {};
}

Result<> set_ttl_mode(MountOptions& options, const std::string& value) {
  if (value == "fixed")
    options.engine.ttl.mode = meta::TtlMode::fixed;
  else if (value == "modified")
    options.engine.ttl.mode = meta::TtlMode::modified;
  else if (value == "accessed")
    options.engine.ttl.mode = meta::TtlMode::accessed;
  else
    return fail(Error::invalid_argument, "expected fixed, modified or accessed");
  return {};
}

Result<> set_durability(MountOptions& options, const std::string& value) {
  if (value == "local")
    options.engine.durability = fs::Durability::local;
  else if (value == "quorum")
    options.engine.durability = fs::Durability::quorum;
  else if (value == "full")
    options.engine.durability = fs::Durability::full;
  else
    return fail(Error::invalid_argument, "expected local, quorum or full");
  options.durability_given = true;
  return {};
}

Result<> set_profile(MountOptions& options, const std::string& value) {
  options.engine.profile.reset();
  if (value == "auto") return {};
  EPHFS_TRY(options.engine.profile, core::parse_profile(value));
  return {};
}

Result<> set_passphrase_fd(MountOptions& options, const std::string& value) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), options.passphrase_fd);
  if (error != std::errc{} || end != value.data() + value.size() || options.passphrase_fd < 0) {
    return fail(Error::invalid_argument, "expected the number of an open descriptor");
  }
  return {};
}

Result<> set_listen(MountOptions& options, const std::string& value) {
  EPHFS_TRY_VOID(core::parse_address(value, true));
  options.listen = value;
  return {};
}

Result<> set_pool(MountOptions& options, const std::string& value) {
  if (!core::PoolId::from_hex(value)) return fail(Error::invalid_argument, "expected 32 hexadecimal digits");
  options.pool = value;
  return {};
}

Result<> set_flag(bool& target, const std::string& value) {
  if (value == "true" || value.empty())
    target = true;
  else if (value == "false")
    target = false;
  else
    return fail(Error::invalid_argument, "expected true or false");
  return {};
}

Result<> set_noatime(MountOptions& options, const std::string& value) {
  bool is_set = false;
  EPHFS_TRY_VOID(set_flag(is_set, value));
  options.engine.access_times = is_set ? fs::AccessTimes::none : fs::AccessTimes::relatime;
  return {};
}

using M = MountOptions;
using S = const std::string;
constexpr std::array kOptions{
    Option{"ttl", "SPAN", "what a file lives when nothing else says; 7d", true, set_initial_ttl},
    Option{"min_ttl", "SPAN", "the shortest TTL; 1s", true,
           [](M& o, S& v) { return set_span(o.engine.ttl.shortest, v); }},
    Option{"max_ttl", "SPAN", "the longest TTL; 365d", true,
           [](M& o, S& v) { return set_span(o.engine.ttl.longest, v); }},
    Option{"ttl_mode", "MODE", "what the TTL counts from: fixed, modified or accessed; fixed", true, set_ttl_mode},
    Option{"allow_permanent", "", "files may live for ever; only when the volume is made", true,
           [](M& o, S& v) { return set_flag(o.engine.ttl.allow_permanent, v); }},
    Option{"warn", "SPAN", "how long before its death a file is warned of, or off; off", true, set_warning_span},
    Option{"proof_keep", "SPAN", "how long the dead are remembered, 0 for not at all; 30d", true, set_proof_keep},
    Option{"profile", "K+M", "data and parity shards of a stripe, or auto; auto", true, set_profile},
    Option{"durability", "WHAT", "what fsync waits for: local, quorum or full; local alone, quorum with peers", true,
           set_durability},
    Option{"peer_timeout", "SPAN", "the longest that a call waits for the pool; 10s", true,
           [](M& o, S& v) { return set_span(o.engine.peer_timeout, v); }},
    Option{"cache_size", "SIZE", "ciphertext kept on this disk beside what is still to be placed; 10G", true,
           [](M& o, S& v) { return set_size(o.engine.cache_bytes, v); }},
    Option{"capacity", "SIZE", "bytes of living data; the disk's", true,
           [](M& o, S& v) { return set_size(o.engine.capacity, v); }},
    Option{"listen", "HOST:PORT", "serve the pool from this volume's own node too", true, set_listen},
    Option{"pool", "ID", "of a pool whose peers are all in the configuration file", true, set_pool},
    Option{"passphrase_file", "FILE", "its first line seals the volume's keys", true,
           [](M& o, S& v) {
             o.passphrase_file = v;
             return Result<>{};
           }},
    Option{"passphrase_fd", "N", "the same from an open descriptor", false, set_passphrase_fd},
    Option{"passphrase_prompt", "", "the same, asked for on the terminal", false,
           [](M& o, S& v) { return set_flag(o.prompt, v); }},
    Option{"config", "FILE", "options in YAML; VOLUME/config.yaml where that is there", false,
           [](M& o, S& v) {
             o.config = v;
             return Result<>{};
           }},
    Option{"allow_other", "", "not only for who mounted it; holds when root mounts", true,
           [](M& o, S& v) { return set_flag(o.allow_other, v); }},
    Option{"noatime", "", "reading moves no access time; else it does as with relatime", true, set_noatime},
    Option{"ro", "", "read-only", false, [](M& o, S& v) { return set_flag(o.engine.read_only, v); }},
};

/// What the kernel itself understands of mount(8)'s options.
constexpr std::array<std::string_view, 6> kKernelFlags{"nosuid", "nodev", "noexec", "sync", "nodiratime", "dirsync"};
/// What takes back a noatime before it. There is but one way to keep access times.
constexpr std::array<std::string_view, 3> kAccessTimes{"atime", "relatime", "strictatime"};
/// What mount(8) and systemd pass and mean for themselves, or what holds anyway.
constexpr std::array<std::string_view, 16> kIgnored{"rw",    "defaults", "auto",   "noauto",  "_netdev", "nofail",
                                                    "user",  "nouser",   "users",  "owner",   "group",   "exec",
                                                    "async", "nomand",   "silent", "lazytime"};

/// What mount(8) knows and a volume cannot do, and why.
struct Refused {
  std::string_view name;
  std::string_view why;
};
constexpr std::array kRefused{
    Refused{"remount", "a volume gets other options by ephfs umount and ephfs mount"},
    Refused{"suid", "a volume is always mounted nosuid"},
    Refused{"dev", "a volume is always mounted nodev"},
};

bool is_for_mount(std::string_view name) {
  return std::ranges::find(kIgnored, name) != kIgnored.end() || name.starts_with("x-") || name.starts_with("comment");
}

Result<> set_option(const Option& option, const std::string& value, MountOptions& options) {
  auto set = option.set(options, value);
  if (set) return {};
  return fail(set.error().code, "option " + std::string(option.name) + (value.empty() ? "" : "=" + value) +
                                    (set.error().detail.empty() ? "" : ": " + set.error().detail));
}

Result<> parse_one(const std::string& text, MountOptions& options) {
  const auto equals = text.find('=');
  const std::string name = text.substr(0, equals);
  const bool has_value = equals != std::string::npos;
  const std::string value = has_value ? text.substr(equals + 1) : "";
  for (const auto& option : kOptions) {
    if (option.name != name) continue;
    if (!option.value.empty() && value.empty())
      return fail(Error::invalid_argument, "option " + name + " needs a value");
    if (option.value.empty() && has_value) return fail(Error::invalid_argument, "option " + name + " takes no value");
    return set_option(option, value, options);
  }
  if (std::ranges::find(kKernelFlags, name) != kKernelFlags.end()) {
    options.kernel_flags += "," + name;
    return {};
  }
  if (std::ranges::find(kAccessTimes, name) != kAccessTimes.end()) return set_noatime(options, "false");
  for (const auto& refused : kRefused) {
    if (refused.name == name) return fail(Error::not_supported, "option " + name + ": " + std::string(refused.why));
  }
  if (is_for_mount(name) || options.sloppy) return {};
  return fail(Error::invalid_argument, "unknown option " + text);
}

}  // namespace

std::string mount_options_text() {
  constexpr std::size_t kWidth = 24;
  std::string text = "options of -o, with their defaults:\n";
  for (const auto& option : kOptions) {
    std::string line = "  " + std::string(option.name) + (option.value.empty() ? "" : "=") + std::string(option.value);
    line.resize(std::max(line.size() + 2, kWidth + 4), ' ');
    text += line + std::string(option.help) + (option.in_config ? "" : " (not in a configuration file)") + "\n";
  }
  return text + "and what mount(8) and systemd pass for themselves.\n";
}

Result<> parse_mount_options(const std::string& list, MountOptions& options) {
  std::size_t from = 0;
  while (from <= list.size()) {
    const std::size_t comma = std::min(list.find(',', from), list.size());
    if (comma > from) EPHFS_TRY_VOID(parse_one(list.substr(from, comma - from), options));
    from = comma + 1;
  }
  return {};
}

Result<> apply_config(const std::filesystem::path& path, const std::string& command_line, MountOptions& options) {
  if (path.empty()) return {};
  std::vector<std::string> known;
  for (const auto& option : kOptions) {
    if (option.in_config) known.emplace_back(option.name);
  }
  EPHFS_TRY(auto file, core::read_config(path, known));
  for (const auto& option : kOptions) {
    const auto setting = file.settings.find(std::string(option.name));
    if (setting == file.settings.end()) continue;
    if (auto set = set_option(option, setting->second.value, options); !set) {
      return fail(set.error().code,
                  path.string() + ":" + std::to_string(setting->second.line) + ": " + set.error().detail);
    }
  }
  if (!file.peers.empty()) options.peers_at = path.string() + ":" + std::to_string(file.peers_line);
  options.peers = std::move(file.peers);
  // The file was read over what the command line had said: say it again.
  options.kernel_flags.clear();
  return parse_mount_options(command_line, options);
}

Result<> check_mount_options(const MountOptions& options) {
  const auto& ttl = options.engine.ttl;
  // What lives for a few milliseconds is refused before it can be written.
  constexpr core::Milliseconds kShortestMin{100};
  if (ttl.shortest < kShortestMin) {
    return fail(Error::invalid_argument,
                "min_ttl " + core::format_span(ttl.shortest) + " is below " + core::format_span(kShortestMin));
  }
  if (ttl.shortest > ttl.longest) {
    return fail(Error::invalid_argument,
                "min_ttl " + core::format_span(ttl.shortest) + " is above max_ttl " + core::format_span(ttl.longest));
  }
  // Whether the volume may hold what never dies, it says itself when it is opened.
  if (ttl.initial == fs::kPermanentTtl) return {};
  if (ttl.initial < ttl.shortest || ttl.initial > ttl.longest) {
    return fail(Error::invalid_argument, "ttl " + core::format_span(ttl.initial) + " is outside min_ttl " +
                                             core::format_span(ttl.shortest) + " to max_ttl " +
                                             core::format_span(ttl.longest));
  }
  return {};
}

}  // namespace ephfs::cli
