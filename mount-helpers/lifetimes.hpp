// SPDX-License-Identifier: Apache-2.0
// When things on a mounted volume die, as anybody may ask through the mount: read from their extended attributes.
#pragma once

#include <functional>
#include <string>

#include <boost/json/object.hpp>
#include <sys/stat.h>

#include "core/result.hpp"
#include "core/time.hpp"

namespace ephfs::cli {

/// Of a file, a directory, a link or a special file.
struct Lifetime {
  std::string path;
  struct stat status {};
  core::Deadline deadline;          // of all but a directory
  std::string span;                 // a directory's default for what is made in it: "7d", "never"
  core::Deadline default_deadline;  // the same where that is an instant; never where it is a span
  std::string mode;                 // "fixed", "modified", "accessed"

  [[nodiscard]] bool is_directory() const { return S_ISDIR(status.st_mode); }
};

/// "file", "directory", "symlink" or "special".
[[nodiscard]] const char* kind_of(const Lifetime& life);

/// A directory's default: "files made here live 1 d", "files made here die at ...".
[[nodiscard]] std::string default_in_words(const Lifetime& directory, core::Instant now);
/// The same as default_ttl and default_expires, of which one is null.
void put_default(boost::json::object& object, const Lifetime& directory);

/// The name of ours that `life` has an attribute under: where the kernel allows no user attributes, on symbolic links,
/// pipes and the like, they are system.ephfs.* and not user.ephfs.*.
[[nodiscard]] std::string attribute_of(const Lifetime& life, const char* name);

/// invalid_argument for what is on no ephfs mount; not_found, or stale, for what has died meanwhile.
[[nodiscard]] core::Result<Lifetime> read_lifetime(const std::string& path);

/// What happened on a walk through a tree.
struct WalkCounts {
  std::size_t visited = 0;
  std::size_t failed = 0;
};
/// Calls `visit` with the names in the directory `path`, and below it when `deep`; other mounts and links are not
/// entered. What vanishes meanwhile is no failure; every other one is said on standard error, with its name, and
/// counted.
[[nodiscard]] WalkCounts walk(const std::string& path, bool deep,
                              const std::function<core::Result<>(const std::string&)>& visit);

}  // namespace ephfs::cli
