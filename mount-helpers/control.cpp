// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/control.hpp"

#include "mount-helpers/mountpoint.hpp"
#include "mount-helpers/paths.hpp"
#include "mount-helpers/volume.hpp"
#include "node/control_server.hpp"

namespace ephfs::cli {

using core::Error;

core::Failure explained(const core::Failure& failure, const std::filesystem::path& directory) {
  if (failure.code == Error::unreachable) {
    if (const auto dead = dead_mount_of(directory)) return core::fail(Error::unreachable, describe_dead(*dead));
    return core::fail(Error::unreachable, directory.string() + " is not mounted, and no node runs there");
  }
  if (failure.code == Error::access_denied) {
    return core::fail(Error::access_denied, "only who runs it may ask the daemon of " + directory.string());
  }
  return failure;
}

core::Result<std::string> ask_daemon_in(const std::filesystem::path& directory, const std::string& target) {
  auto answer = node::control_get(control_socket(directory), target);
  if (!answer) return explained(answer.error(), directory);
  return answer;
}

core::Result<std::string> ask_daemon(const ParsedArguments& parsed, const std::string& target,
                                     const Synopsis& synopsis) {
  if (parsed.words.size() > 1 || (parsed.has("--dir") && !parsed.words.empty())) return usage(synopsis);
  std::filesystem::path directory;
  if (parsed.has("--dir")) {
    directory = resolved(parsed.value("--dir"));
  } else {
    EPHFS_TRY(directory, find_volume(parsed.words.empty() ? "" : parsed.words[0]));
  }
  return ask_daemon_in(directory, target);
}

}  // namespace ephfs::cli
