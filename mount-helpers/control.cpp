// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/control.hpp"

#include "mount-helpers/mountpoint.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/volume.hpp"
#include "node/control_server.hpp"

namespace ephfs::cli {

using core::Error;

core::Result<std::string> ask_daemon(const ParsedArguments& parsed, const std::string& target,
                                     const std::string& usage_line) {
  if (parsed.words.size() > 1 || (parsed.has("--dir") && !parsed.words.empty())) return usage(usage_line);
  std::filesystem::path directory;
  if (parsed.has("--dir")) {
    directory = resolved(parsed.value("--dir"));
  } else {
    EPHFS_TRY(directory, find_volume(parsed.words.empty() ? "" : parsed.words[0]));
  }
  auto answer = node::control_get(control_socket(directory), target);
  if (!answer && answer.error().code == Error::unreachable) {
    if (const auto dead = dead_mount_of(directory)) return core::fail(Error::unreachable, describe_dead(*dead));
    return core::fail(Error::unreachable, directory.string() + " is not mounted, and no node runs there");
  }
  return answer;
}

}  // namespace ephfs::cli
