// SPDX-License-Identifier: Apache-2.0
// ephfs ttl PATH [VALUE] [-R] [-h]: shows or sets when a file dies, in words.
#include <cstdio>
#include <fcntl.h>
#include <sys/xattr.h>

#include "core/clock.hpp"
#include "core/time.hpp"
#include "mount-helpers/commands.hpp"

namespace ephfs::cli {
namespace {

using core::Error;
using core::fail;
using core::Result;

/// Where the kernel allows no user attributes, on symbolic links, pipes and the like, ours have another name.
std::string attribute_of(const std::string& path, const char* name) {
  const auto type = std::filesystem::symlink_status(path).type();
  using std::filesystem::file_type;
  const bool has_user_attributes = type == file_type::regular || type == file_type::directory;
  return std::string(has_user_attributes ? "user.ephfs." : "system.ephfs.") + name;
}

Result<std::string> read_attribute(const std::string& path, const char* name) {
  std::array<char, 256> room{};
  const ssize_t got = ::lgetxattr(path.c_str(), attribute_of(path, name).c_str(), room.data(), room.size());
  if (got >= 0) return std::string(room.data(), static_cast<std::size_t>(got));
  if (errno == EOPNOTSUPP || errno == ENODATA || errno == EINVAL) {
    return fail(Error::invalid_argument, path + " is not on an ephfs mount");
  }
  return core::fail_errno(path);
}

Result<> show(const std::string& path) {
  if (std::filesystem::is_directory(std::filesystem::symlink_status(path))) {
    EPHFS_TRY(const auto span, read_attribute(path, "ttl"));
    std::printf("%s: what is made here lives %s\n", path.c_str(), span.c_str());
    return {};
  }
  EPHFS_TRY(const auto expires, read_attribute(path, "expires"));
  if (expires == "never") {
    std::printf("%s: never dies\n", path.c_str());
    return {};
  }
  EPHFS_TRY(const auto at, core::parse_instant(expires));
  const auto left = at - core::SystemClock().now();
  std::printf("%s: dies in %s, at %s\n", path.c_str(), core::describe_span(left).c_str(), expires.c_str());
  return {};
}

Result<> set(const std::string& path, const std::string& value) {
  if (::lsetxattr(path.c_str(), attribute_of(path, "ttl").c_str(), value.data(), value.size(), 0) == 0)
    return {};
  if (errno == EINVAL) {
    return fail(Error::invalid_argument, path + ": \"" + value +
                                             "\" is no time to live that the volume allows (90s, 15m, 6h, 7d, 2w, +2h, "
                                             "2026-01-02T03:04:05Z, never)");
  }
  if (errno == EOPNOTSUPP) return fail(Error::invalid_argument, path + " is not on an ephfs mount");
  return core::fail_errno(path);
}

/// The path and, for a directory, all below it, links themselves and not what they lead to. A file that dies
/// meanwhile is no failure.
Result<> set_tree(const std::string& path, const std::string& value) {
  EPHFS_TRY_VOID(set(path, value));
  std::error_code error;
  for (auto at = std::filesystem::recursive_directory_iterator(path, error);
       !error && at != std::filesystem::recursive_directory_iterator(); at.increment(error)) {
    auto done = set(at->path().string(), value);
    if (!done && done.error().code != Error::not_found) return done;
  }
  if (error) return core::fail_errno("listing " + path, error.value());
  return {};
}

/// What a symbolic link leads to is meant, as with chmod, unless the link itself is asked for.
Result<std::string> file_meant(const std::string& path, bool itself) {
  if (itself || !std::filesystem::is_symlink(std::filesystem::symlink_status(path))) return path;
  std::error_code error;
  const auto target = std::filesystem::canonical(path, error);
  if (error) return core::fail_errno(path, error.value());
  return target.string();
}

}  // namespace

Result<> run_ttl(const Arguments& arguments) {
  EPHFS_TRY(const auto parsed, parse_arguments(arguments, {{"-R", false}, {"-h", false}}));
  const auto& words = parsed.words;
  if (words.empty() || words.size() > 2) return usage("ephfs ttl PATH [VALUE] [-R] [-h]");
  EPHFS_TRY(const auto path, file_meant(words[0], parsed.has("-h")));
  if (words.size() == 1) return show(path);
  return parsed.has("-R") ? set_tree(path, words[1]) : set(path, words[1]);
}

}  // namespace ephfs::cli
