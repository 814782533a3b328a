// SPDX-License-Identifier: Apache-2.0
#include "net/rate_limited_log.hpp"

#include <utility>

namespace ephfs::net {

RateLimitedLog::RateLimitedLog(core::Clock& clock, LogLine out, core::Nanoseconds pause)
    : clock_(clock), out_(std::move(out)), pause_(pause) {}

void RateLimitedLog::say(std::string line) {
  if (!out_) return;
  {
    const std::lock_guard lock(mutex_);
    const core::Boottime now = clock_.boot_now();
    if (last_ && now < *last_ + pause_) {
      ++unsaid_;
      return;
    }
    last_ = now;
    if (unsaid_ > 0) line += " (and " + std::to_string(std::exchange(unsaid_, 0)) + " before it)";
  }
  out_(std::move(line));
}

}  // namespace ephfs::net
