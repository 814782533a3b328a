// SPDX-License-Identifier: Apache-2.0
// ephfs ttl PATH... [VALUE] [-R] [-h] [--json]: shows or sets when things die, in words.
#include <array>
#include <cstdio>
#include <filesystem>

#include <boost/json.hpp>
#include <sys/xattr.h>

#include "mount-helpers/clock_report.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/lifetimes.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/volume.hpp"
#include "mount-helpers/words.hpp"
#include "node/control_server.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::Error;
using core::fail;
using core::Result;

bool reads_as_value(const std::string& word) {
  if (word == "never" || core::parse_instant(word)) return true;
  return core::parse_span(word.starts_with('+') ? word.substr(1) : word).has_value();
}

/// Whether something is there under that name, be it a link that leads nowhere.
bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

/// Takes the value off the words: what alone is behind "--", or the last of several when it reads as one. A second word
/// that is neither that nor a path was meant to be. invalid_argument when the last word is a path too: which of the two
/// was meant nobody can tell, and a wildcard must not set deadlines.
Result<std::optional<std::string>> take_value(const ParsedArguments& parsed, std::vector<std::string>& paths) {
  if (paths.size() < 2) return std::optional<std::string>();
  const std::string& last = paths.back();
  const bool is_marked = parsed.dashes && *parsed.dashes + 1 == paths.size();
  if (!is_marked) {
    const bool reads = reads_as_value(last);
    if (reads && exists(last)) {
      return fail(Error::invalid_argument, shown_name(last) + " is a time to live and a file here: write ./" +
                                               shown_name(last) + " for the file, -- " + last + " for the time");
    }
    if (!reads && (paths.size() > 2 || exists(last))) return std::optional<std::string>();
  }
  std::optional<std::string> value = std::move(paths.back());
  paths.pop_back();
  return value;
}

std::string words_for(const Lifetime& life, core::Instant now) {
  if (life.is_directory()) return default_in_words(life, now);
  std::string words = deadline_in_words(life.deadline, now);
  if (life.deadline.is_never() || life.mode == "fixed") return words;
  return words + "; later with each time it is " + (life.mode == "modified" ? "written" : "written or read");
}

void show(const Lifetime& life, core::Instant now, bool as_json) {
  if (!as_json) {
    std::printf("%s: %s\n", shown_name(life.path).c_str(), words_for(life, now).c_str());
    return;
  }
  json::object line;
  put_name(line, "path", life.path);
  line["kind"] = kind_of(life);
  line["ttl_mode"] = life.mode;
  if (life.is_directory()) {
    put_default(line, life);
  } else {
    const bool never = life.deadline.is_never();
    line["expires"] = never ? json::value(nullptr) : json::value(core::format_instant(life.deadline.instant()));
    line["left_ms"] = never ? json::value(nullptr) : json::value((life.deadline.instant() - now).count());
  }
  std::puts(json::serialize(line).c_str());
}

/// What the volume on that device allows, as its daemon says; empty for who may not ask it.
std::string allowed_on(dev_t device) {
  const auto volume = mounted_volume_on(device);
  if (!volume) return {};
  const auto answer = node::control_get(control_socket(volume->directory), "/status");
  if (!answer) return {};
  boost::system::error_code error;
  const json::value status = json::parse(*answer, error);
  const auto* policy = error || !status.is_object() ? nullptr : status.get_object().if_contains("policy");
  if (policy == nullptr || !policy->is_object()) return {};
  const auto text = [&](std::string_view key) {
    const auto* value = policy->get_object().if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string("?");
  };
  const auto* permanent = policy->get_object().if_contains("allow_permanent");
  const bool never = permanent != nullptr && permanent->is_bool() && permanent->get_bool();
  return text("min_ttl") + " to " + text("max_ttl") + (never ? ", or never" : "");
}

/// What a volume said EINVAL to.
core::Failure refused(const Lifetime& life, const std::string& value) {
  const std::string allowed = allowed_on(life.status.st_dev);
  std::string line =
      shown_name(life.path) + ": \"" + shown_name(value) + "\" is no time to live that the volume allows";
  if (!allowed.empty()) line += ", which is " + allowed;
  return fail(Error::invalid_argument, line + " (written 90s, 15m, 6h, 7d, 2w, +2h or 2026-01-02T03:04:05Z)");
}

Result<> set(const Lifetime& life, const std::string& value) {
  const std::string attribute = attribute_of(life, "ttl");
  if (::lsetxattr(life.path.c_str(), attribute.c_str(), value.data(), value.size(), 0) == 0) return {};
  const std::string name = shown_name(life.path);
  if (errno == EINVAL) return refused(life, value);
  if (errno == EOPNOTSUPP) return fail(Error::invalid_argument, name + " is not on an ephfs mount");
  return core::fail_errno(name);
}

struct Totals {
  std::size_t files = 0, directories = 0, failed = 0;
  core::Deadline first;  // the earliest death among the files shown
};

/// What is to be done with everything that is visited.
struct Wish {
  std::optional<std::string> value;  // none: shown
  core::Instant now;
  bool as_json = false;
};

/// One thing of a tree: shown, or set.
Result<> visit(const std::string& path, const Wish& wish, Totals& totals) {
  EPHFS_TRY(const auto life, read_lifetime(path));
  if (wish.value)
    EPHFS_TRY_VOID(set(life, *wish.value));
  else
    show(life, wish.now, wish.as_json);
  ++(life.is_directory() ? totals.directories : totals.files);
  if (!wish.value && !life.is_directory()) totals.first = std::min(totals.first, life.deadline);
  return {};
}

void print_summary(const Totals& totals, core::Instant now) {
  std::string text = std::to_string(totals.files) + " files, " + std::to_string(totals.directories) + " directories";
  if (!totals.first.is_never()) text += "; the first " + deadline_in_words(totals.first, now);
  std::puts(text.c_str());
}

/// A directory and all below it, links themselves and not what they lead to.
Result<> do_tree(const std::string& path, const Wish& wish) {
  Totals totals;
  // The top first: when it cannot be set, nothing below it is touched.
  EPHFS_TRY_VOID(visit(path, wish, totals));
  if (totals.directories > 0) {
    const auto counts = walk(path, true, [&](const std::string& child) { return visit(child, wish, totals); });
    totals.failed = counts.failed;
  }
  if (!wish.as_json) print_summary(totals, wish.now);
  if (totals.failed > 0) return fail(Error::io, std::to_string(totals.failed) + " entries below " + shown_name(path));
  return {};
}

/// What a symbolic link leads to is meant, as with chmod, unless the link itself is asked for.
Result<std::string> file_meant(const std::string& path, bool itself) {
  if (itself || !std::filesystem::is_symlink(std::filesystem::symlink_status(path))) return path;
  std::error_code error;
  const auto target = std::filesystem::canonical(path, error);
  if (error) return core::fail_errno(shown_name(path), error.value());
  return target.string();
}

Result<> do_path(const std::string& named, const std::optional<std::string>& value, const ParsedArguments& parsed) {
  EPHFS_TRY(const auto path, file_meant(named, parsed.has("-h")));
  const Wish wish{value, time_on(path), parsed.has("--json")};
  if (parsed.has("-R")) return do_tree(path, wish);
  Totals totals;
  return visit(path, wish, totals);
}

constexpr std::array kTtlOptions{
    ArgumentOption{"-R", "", "directories and all that is below them"},
    ArgumentOption{"-h", "", "a symbolic link itself, not what it leads to"},
    kJsonOption,
};

}  // namespace

const Synopsis kTtl{"ephfs ttl", "PATH... [[--] VALUE] [-R] [-h] [--json]",
                    "show or set when files die: 90s, 15m, 6h, 7d, 2w, +2h, 2026-01-02T03:04:05Z, never", kTtlOptions};

Result<> run_ttl(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kTtl));
  auto paths = parsed.words;
  if (paths.empty()) return usage(kTtl);
  EPHFS_TRY(const auto value, take_value(parsed, paths));
  Result<> failed;
  for (const auto& path : paths) {
    auto done = do_path(path, value, parsed);
    if (done) continue;
    // Every path has its turn; the first failure is the command's, the others have a line of their own.
    if (!failed)
      std::fprintf(stderr, "ephfs: %s\n", line_of(done.error()).c_str());
    else
      failed = std::move(done);
  }
  return failed;
}

}  // namespace ephfs::cli
