// SPDX-License-Identifier: Apache-2.0
// What dies soon, as the control socket of a volume tells it: GET /expiring?until=MS&limit=N, and to go on behind a
// page &deadline=MS&size=N&inode=N as its "next" said. One page is 1000 files at most.
#pragma once

#include <filesystem>
#include <functional>

#include "fs/engine.hpp"
#include "node/control_server.hpp"

namespace ephfs::cli {

/// The handler of /expiring. The engine outlives it.
[[nodiscard]] node::ControlHandler expiring_handler(const fs::Engine& engine);

/// A file that a volume's daemon told of. Its path begins with a slash: the root of the volume.
struct ExpiringFile {
  std::string path;
  std::uint32_t mode = 0;
  std::uint64_t size = 0;
  core::Deadline deadline;
};
/// Asks the daemon on `socket` for all that dies before `until`, page after page, by deadline. `take` says whether to
/// go on. Failures as control_get(); protocol for an answer that is none.
[[nodiscard]] core::Result<> for_each_expiring(const std::filesystem::path& socket, core::Instant until,
                                               std::size_t page_size,
                                               const std::function<bool(const ExpiringFile&)>& take);

}  // namespace ephfs::cli
