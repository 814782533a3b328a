// SPDX-License-Identifier: Apache-2.0
// ephfs ls: what is in a directory or tree, by when it dies. A whole tree's dying files come from the volume's daemon,
// which has them in that order; everything else, and for those whom the daemon does not answer, through the mount.
#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>

#include <boost/json.hpp>

#include "core/config.hpp"
#include "mount-helpers/clock_report.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/expiring_report.hpp"
#include "mount-helpers/lifetimes.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/volume.hpp"
#include "mount-helpers/words.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::Error;
using core::fail;
using core::Result;

constexpr std::size_t kPageSize = 1000;

struct Listing {
  core::Instant now;
  std::optional<core::Instant> until;  // only what dies before
  bool here = false;                   // no path was given: "./" in front of each would say nothing
  bool deep = false;
  bool as_json = false;
};

void print(const Listing& listing, Lifetime life) {
  if (listing.here) life.path.erase(0, 2);
  const auto size = static_cast<std::uint64_t>(life.status.st_size);
  if (listing.as_json) {
    json::object line;
    put_name(line, "path", life.path);
    line["kind"] = kind_of(life);
    if (life.is_directory()) {
      put_default(line, life);
    } else {
      line["bytes"] = size;
      line["expires"] =
          life.deadline.is_never() ? json::value(nullptr) : json::value(core::format_instant(life.deadline.instant()));
      if (!life.deadline.is_never()) line["left_ms"] = (life.deadline.instant() - listing.now).count();
    }
    std::puts(json::serialize(line).c_str());
    return;
  }
  const std::string words =
      life.is_directory() ? default_in_words(life, listing.now) : deadline_in_words(life.deadline, listing.now);
  std::printf("%-54s %9s  %s%s\n", words.c_str(), life.is_directory() ? "" : core::format_size(size).c_str(),
              shown_name(life.path).c_str(), life.is_directory() ? "/" : "");
}

/// Whether `life` is to be shown.
bool is_wanted(const Listing& listing, const Lifetime& life) {
  if (!listing.until) return true;
  return !life.is_directory() && !life.deadline.is_never() && life.deadline.instant() < *listing.until;
}

Result<> list_through_mount(const Listing& listing, const std::string& path) {
  EPHFS_TRY(const auto top, read_lifetime(path));
  std::vector<Lifetime> found;
  WalkCounts counts;
  if (top.is_directory()) {
    counts = walk(path, listing.deep, [&](const std::string& child) -> Result<> {
      EPHFS_TRY(auto life, read_lifetime(child));
      if (is_wanted(listing, life)) found.push_back(std::move(life));
      return {};
    });
  } else if (is_wanted(listing, top)) {
    found.push_back(top);
  }
  // What has no deadline of its own comes last.
  std::ranges::stable_sort(found, {}, [](const Lifetime& life) {
    return std::tuple(life.deadline, life.is_directory(), std::string_view(life.path));
  });
  for (const auto& life : found) print(listing, life);
  if (counts.failed > 0) return fail(Error::io, std::to_string(counts.failed) + " entries below " + shown_name(path));
  return {};
}

/// Where the daemon of a mounted volume answers, and what `path` is called in that volume.
struct Daemon {
  std::filesystem::path socket;
  std::string inside;  // "" for the root, else with a slash in front
};
std::optional<Daemon> daemon_of(const std::string& path) {
  const auto volume = mounted_volume_of(path);
  if (!volume) return std::nullopt;
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  if (error) return std::nullopt;
  const auto inside = (volume->root / real.lexically_relative(volume->mountpoint)).lexically_normal().string();
  return Daemon{control_socket(volume->directory), inside.substr(0, inside.find_last_not_of('/') + 1)};
}

/// False when the daemon is not to be asked by us: the mount tells the same, only later.
Result<bool> list_through_daemon(const Listing& listing, const std::string& path) {
  const auto daemon = daemon_of(path);
  if (!daemon) return false;
  bool any = false;
  auto done = for_each_expiring(daemon->socket, *listing.until, kPageSize, [&](const ExpiringFile& file) {
    any = true;
    if (!file.path.starts_with(daemon->inside + "/")) return true;
    Lifetime life;
    const std::string below = file.path.substr(daemon->inside.size() + 1);
    life.path = path.ends_with('/') ? path + below : path + "/" + below;
    life.status.st_mode = file.mode;
    life.status.st_size = static_cast<off_t>(file.size);
    life.deadline = file.deadline;
    if (is_wanted(listing, life)) print(listing, life);
    return true;
  });
  if (done) return true;
  const bool unasked = !any && (done.error().code == Error::unreachable || done.error().code == Error::access_denied ||
                                done.error().code == Error::io);
  if (unasked) return false;
  return done.error();
}

constexpr std::array kLsOptions{
    ArgumentOption{"--expiring", "SPAN", "only what dies within it: 1h"},
    ArgumentOption{"-R", "", "all that is below, too"},
    kJsonOption,
};

}  // namespace

const Synopsis kLs{"ephfs ls", "[--expiring SPAN] [-R] [--json] [PATH]", "what is there, by when it dies", kLsOptions};

Result<> run_ls(const Arguments& arguments) {
  EPHFS_TRY(auto parsed, parse_arguments(arguments, kLs));
  if (parsed.words.size() > 1) return usage(kLs);
  const std::string path = parsed.words.empty() ? "." : parsed.words[0];
  Listing listing;
  listing.now = time_on(path);
  listing.here = parsed.words.empty();
  listing.deep = parsed.has("-R");
  listing.as_json = parsed.has("--json");
  if (parsed.has("--expiring")) {
    const auto span = core::parse_span(parsed.value("--expiring"));
    if (!span) return bad_option(parsed, "--expiring", "a span like 90s, 15m, 6h or 7d");
    listing.until = std::min(listing.now + *span, core::kInstantMax);
  }
  if (listing.deep && listing.until) {
    EPHFS_TRY(const auto top, read_lifetime(path));
    if (top.is_directory()) {
      EPHFS_TRY(const bool done, list_through_daemon(listing, path));
      if (done) return {};
    }
  }
  return list_through_mount(listing, path);
}

}  // namespace ephfs::cli
