// SPDX-License-Identifier: Apache-2.0
// The other end of the control API's GET /events: lines as they come, for a program that has a thread to wait with.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

#include "core/files.hpp"
#include "core/result.hpp"

namespace ephfs::node {

class ControlStream {
 public:
  /// Blocks at most 5 s. unreachable when nobody listens on `path`; not_found for an unknown target, busy when too many
  /// listen already; protocol for an answer that is none.
  [[nodiscard]] static core::Result<ControlStream> open(const std::filesystem::path& path, const std::string& target);
  /// The next line, without its end; none when none came in time. Empty lines are left out. unreachable when the stream
  /// has ended, protocol for a line past 64 KiB.
  [[nodiscard]] core::Result<std::optional<std::string>> next(std::chrono::milliseconds patience);

 private:
  ControlStream(core::FileDescriptor socket, std::filesystem::path path)
      : socket_(std::move(socket)), path_(std::move(path)) {}
  [[nodiscard]] core::Result<bool> fill(std::chrono::milliseconds patience);
  [[nodiscard]] core::Result<> read_head();

  core::FileDescriptor socket_;
  std::filesystem::path path_;
  std::string held_;  // read, and not given out yet
};

}  // namespace ephfs::node
