// SPDX-License-Identifier: Apache-2.0
// A log that strangers may write to as often as they like: one line comes through in a while, the rest are counted.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "core/clock.hpp"

namespace ephfs::net {

/// Takes one line, without its end. Called from any thread.
using LogLine = std::function<void(std::string line)>;

class RateLimitedLog {
 public:
  /// `out` may be empty. Thread-safe.
  RateLimitedLog(core::Clock& clock, LogLine out, core::Nanoseconds pause = std::chrono::minutes(1));
  void say(std::string line);

 private:
  core::Clock& clock_;
  const LogLine out_;
  const core::Nanoseconds pause_;
  std::mutex mutex_;
  std::optional<core::Boottime> last_;
  std::uint64_t unsaid_ = 0;
};

}  // namespace ephfs::net
