// SPDX-License-Identifier: Apache-2.0
// ephfs status and peers: what the control socket of a volume or node says, for people or, with --json, for programs.
#include <array>
#include <cstdio>

#include <boost/json.hpp>

#include "core/config.hpp"
#include "mount-helpers/control.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::Result;

std::string text_of(const json::value& value) {
  if (value.is_string()) return std::string(value.as_string());
  if (value.is_null()) return "none";
  return json::serialize(value);
}

/// Bytes are said in units where a key says that they are bytes.
std::string said(const std::string& key, const json::value& value) {
  const bool is_size = key.ends_with("bytes") || key == "capacity" || key == "used";
  if (is_size && value.is_number()) return core::format_size(value.to_number<std::uint64_t>());
  if (key == "capacity" && value.is_null()) return "unlimited";
  return text_of(value);
}

void print_object(const json::object& object, int depth) {
  for (const auto& [key, value] : object) {
    const std::string name(key);
    if (value.is_object()) {
      std::printf("%*s%s:\n", depth * 2, "", name.c_str());
      print_object(value.as_object(), depth + 1);
    } else if (!value.is_array()) {
      std::printf("%*s%-18s %s\n", depth * 2, "", name.c_str(), said(name, value).c_str());
    }
  }
}

void print_peers(const json::array& peers) {
  for (const auto& entry : peers) {
    const auto& peer = entry.as_object();
    const std::string id = text_of(peer.at("node")).substr(0, 16);
    const std::string address = text_of(peer.at("address"));
    if (peer.at("self").as_bool()) {
      std::printf("%s  %-24s this machine\n", id.c_str(), address.empty() ? "-" : address.c_str());
    } else if (const auto* reachable = peer.if_contains("reachable"); reachable == nullptr) {
      std::printf("%s  %-24s stores nothing for others\n", id.c_str(), "-");
    } else if (reachable->as_bool()) {
      std::printf("%s  %-24s %s of %s used, %s shards\n", id.c_str(), address.c_str(),
                  said("used", peer.at("used")).c_str(), said("capacity", peer.at("capacity")).c_str(),
                  text_of(peer.at("shards")).c_str());
    } else {
      std::printf("%s  %-24s unreachable: %s\n", id.c_str(), address.c_str(), text_of(peer.at("error")).c_str());
    }
  }
}

constexpr std::array kStatusOptions{
    kDirOption,
    kJsonOption,
};
constexpr std::array kPeersOptions{
    kDirOption,
    kJsonOption,
};

}  // namespace

const Synopsis kStatus{"ephfs status", "[VOLUME | MOUNTPOINT | --dir DIR] [--json]", "how a volume or node fares",
                       kStatusOptions};
const Synopsis kPeers{"ephfs peers", "[VOLUME | MOUNTPOINT | --dir DIR] [--json]",
                      "who is in the pool, and who answers", kPeersOptions};

Result<> run_status(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kStatus));
  EPHFS_TRY(const auto answer, ask_daemon(parsed, "/status", kStatus));
  if (parsed.has("--json")) {
    std::puts(answer.c_str());
  } else {
    const auto status = json::parse(answer).as_object();
    for (const auto& warning : status.at("warnings").as_array()) std::printf("WARNING: %s\n", text_of(warning).c_str());
    print_object(status, 0);
  }
  return {};
}

Result<> run_peers(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kPeers));
  EPHFS_TRY(const auto answer, ask_daemon(parsed, "/peers", kPeers));
  if (parsed.has("--json")) {
    std::puts(answer.c_str());
  } else {
    print_peers(json::parse(answer).as_array());
  }
  return {};
}

}  // namespace ephfs::cli
