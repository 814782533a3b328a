// SPDX-License-Identifier: Apache-2.0
// ephfs share: a link by which others of the pool fetch one file, for a while and so many times.
#include <array>
#include <charconv>
#include <cstdio>

#include <boost/json.hpp>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/files.hpp"
#include "mount-helpers/commands.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/share_service.hpp"
#include "mount-helpers/volume.hpp"
#include "mount-helpers/words.hpp"

namespace ephfs::cli {
namespace {

namespace json = boost::json;
using core::Error;
using core::fail;
using core::Result;

/// What control_get() and its like say of a daemon that answered with a failure of its own is that failure.
core::Failure explained(const core::Failure& failure, const MountedVolume& volume) {
  if (failure.code == Error::access_denied) {
    return fail(Error::access_denied, "only who mounted " + volume.mountpoint.string() + " may share what is in it");
  }
  if (failure.code == Error::unreachable)
    return fail(Error::unreachable, volume.mountpoint.string() + " has no daemon");
  return failure;
}

Result<std::uint32_t> parse_count(const ParsedArguments& parsed) {
  const std::string text = parsed.value("--max-fetches");
  std::uint32_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc{} || end != text.data() + text.size() || count == 0 || count > core::kShareFetchesMax) {
    return bad_option(parsed, "--max-fetches", "1 to " + std::to_string(core::kShareFetchesMax));
  }
  return count;
}

/// Who may not read the file does not get to share it. It is open no longer than that takes: the volume may be
/// unmounted.
Result<struct stat> readable_file(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return core::fail_errno(shown_name(path));
  if (!S_ISREG(status.st_mode)) return fail(Error::invalid_argument, shown_name(path) + " is no regular file");
  EPHFS_TRY(const auto file, core::open_file(path, O_RDONLY));
  if (::fstat(file.get(), &status) != 0) return core::fail_errno(shown_name(path));
  return status;
}

constexpr std::array kShareOptions{
    ArgumentOption{"--ttl", "SPAN", "how long it is good for; as long as the file lives"},
    ArgumentOption{"--max-fetches", "N", "how often it can be fetched; as often as somebody likes"},
    kJsonOption,
};

}  // namespace

const Synopsis kShare{"ephfs share", "FILE [--ttl SPAN] [--max-fetches N] [--json]",
                      "print a link by which others of the pool fetch it", kShareOptions};

Result<> run_share(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, kShare));
  if (parsed.words.size() != 1) return usage(kShare);
  const std::string& path = parsed.words[0];
  ShareQuestion question;
  if (parsed.has("--ttl")) {
    const auto span = core::parse_span(parsed.value("--ttl"));
    if (!span) return bad_option(parsed, "--ttl", "a span like 90s, 15m, 6h or 7d");
    question.ttl = *span;
  }
  if (parsed.has("--max-fetches")) {
    EPHFS_TRY(question.fetches_max, parse_count(parsed));
  }

  EPHFS_TRY(const auto file, readable_file(path));
  question.inode = file.st_ino;
  question.device = file.st_dev;
  const auto volume = mounted_volume_on(file.st_dev);
  if (!volume) return fail(Error::invalid_argument, shown_name(path) + " is not on an ephfs mount");
  question.name = std::filesystem::path(path).filename().string();

  const auto answer = ask_to_share(control_socket(volume->directory), question);
  if (!answer) return explained(answer.error(), *volume);
  if (parsed.has("--json")) {
    json::object out;
    out["link"] = answer->link;
    out["expires"] = core::format_instant(answer->expires);
    out["max_fetches"] = question.fetches_max == 0 ? json::value(nullptr) : json::value(question.fetches_max);
    out["nodes"] = json::value_from(answer->nodes);
    std::puts(json::serialize(out).c_str());
    return {};
  }
  std::puts(answer->link.c_str());
  if (question.ttl && answer->ends_with_file) {
    std::fprintf(stderr, "ephfs: the file dies before that: the link holds until %s\n",
                 core::format_instant(answer->expires).c_str());
  }
  return {};
}

}  // namespace ephfs::cli
