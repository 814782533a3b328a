// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/lifetimes.hpp"

#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <vector>

#include <boost/json.hpp>
#include <dirent.h>
#include <sys/xattr.h>

#include "mount-helpers/commands.hpp"
#include "mount-helpers/words.hpp"

namespace ephfs::cli {
namespace {

using core::Error;
using core::fail;
using core::Result;

/// None for one that is not there.
Result<std::optional<std::string>> find_attribute(const Lifetime& life, const char* name) {
  const std::string& path = life.path;
  std::array<char, 256> room{};
  const ssize_t got = ::lgetxattr(path.c_str(), attribute_of(life, name).c_str(), room.data(), room.size());
  if (got >= 0) return std::string(room.data(), static_cast<std::size_t>(got));
  if (errno == EOPNOTSUPP || errno == ENODATA || errno == EINVAL) return std::optional<std::string>();
  return core::fail_errno(shown_name(path));
}

Result<std::string> read_attribute(const Lifetime& life, const char* name) {
  EPHFS_TRY(auto value, find_attribute(life, name));
  if (!value) return fail(Error::invalid_argument, shown_name(life.path) + " is not on an ephfs mount");
  return *std::move(value);
}

bool has_vanished(const core::Failure& failure) {
  return failure.code == Error::not_found || failure.code == Error::gone || failure.code == Error::stale;
}

void note(WalkCounts& counts, const Result<>& done) {
  ++counts.visited;
  if (done || has_vanished(done.error())) return;
  ++counts.failed;
  std::fprintf(stderr, "ephfs: %s\n", line_of(done.error()).c_str());
}

}  // namespace

const char* kind_of(const Lifetime& life) {
  switch (life.status.st_mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "symlink";
    default:
      return "special";
  }
}

std::string default_in_words(const Lifetime& directory, core::Instant now) {
  if (!directory.default_deadline.is_never()) {
    const std::string at = core::format_instant(directory.default_deadline.instant());
    if (directory.default_deadline.passed(now)) {
      return "files made here were to die at " + at + ", and live as short as the volume allows";
    }
    return "files made here die at " + at + ", in " + core::describe_span(directory.default_deadline.instant() - now);
  }
  if (directory.span == "never") return "files made here live for ever";
  const auto span = core::parse_span(directory.span);
  return "files made here live " + (span ? core::describe_span(*span) : directory.span) +
         (directory.mode == "fixed" ? "" : ", counted from when they were last " + directory.mode);
}

void put_default(boost::json::object& object, const Lifetime& directory) {
  const bool is_span = directory.default_deadline.is_never();
  object["default_ttl"] = is_span ? boost::json::value(directory.span) : boost::json::value(nullptr);
  object["default_expires"] = is_span ? boost::json::value(nullptr)
                                      : boost::json::value(core::format_instant(directory.default_deadline.instant()));
}

std::string attribute_of(const Lifetime& life, const char* name) {
  const bool has_user_attributes = S_ISREG(life.status.st_mode) || life.is_directory();
  return std::string(has_user_attributes ? "user.ephfs." : "system.ephfs.") + name;
}

Result<Lifetime> read_lifetime(const std::string& path) {
  Lifetime life;
  life.path = path;
  if (::lstat(path.c_str(), &life.status) != 0) return core::fail_errno(shown_name(path));
  EPHFS_TRY(life.mode, read_attribute(life, "ttl_mode"));
  if (life.is_directory()) {
    EPHFS_TRY(life.span, read_attribute(life, "ttl"));
    EPHFS_TRY(const auto same_for_all, find_attribute(life, "expires"));
    if (!same_for_all) return life;
    EPHFS_TRY(const auto at, core::parse_instant(*same_for_all));
    life.default_deadline = core::Deadline(at);
    return life;
  }
  EPHFS_TRY(const auto expires, read_attribute(life, "expires"));
  if (expires == "never") return life;
  EPHFS_TRY(const auto at, core::parse_instant(expires));
  life.deadline = core::Deadline(at);
  return life;
}

WalkCounts walk(const std::string& path, bool deep, const std::function<Result<>(const std::string&)>& visit) {
  WalkCounts counts;
  struct stat top {};
  if (::stat(path.c_str(), &top) != 0) {
    note(counts, core::fail_errno(shown_name(path)));
    return counts;
  }
  std::vector<std::string> directories{path};
  std::string child;
  while (!directories.empty()) {
    const std::string directory = std::move(directories.back());
    directories.pop_back();
    const std::unique_ptr<DIR, int (*)(DIR*)> opened(::opendir(directory.c_str()), ::closedir);
    if (!opened) {
      note(counts, core::fail_errno(shown_name(directory)));
      continue;
    }
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(opened.get());
      if (entry == nullptr) break;
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      child = directory;
      if (!child.ends_with('/')) child += '/';
      child += name;
      note(counts, visit(child));
      struct stat status {};
      if (deep && ::lstat(child.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_dev == top.st_dev) {
        directories.push_back(child);
      }
    }
    if (errno != 0) note(counts, core::fail_errno(shown_name(directory)));
  }
  return counts;
}

}  // namespace ephfs::cli
