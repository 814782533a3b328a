// SPDX-License-Identifier: Apache-2.0
#include "core/kernel_time.hpp"

#include <sys/timex.h>

#include "core/check.hpp"

namespace ephfs::core {

std::optional<Instant> synchronized_kernel_time() {
  timex state{};
  const int verdict = ::adjtimex(&state);
  if (verdict < 0 || verdict == TIME_ERROR || (state.status & STA_UNSYNC) != 0) return std::nullopt;
  const std::int64_t fraction =
      (state.status & STA_NANO) != 0 ? state.time.tv_usec / 1'000'000 : state.time.tv_usec / 1000;
  return Instant{state.time.tv_sec * std::int64_t{1000} + fraction};
}

std::int64_t read_kernel_clock_ns(clockid_t id) {
  timespec at{};
  EPHFS_CHECK(clock_gettime(id, &at) == 0, "the kernel has this clock");
  return at.tv_sec * std::int64_t{1'000'000'000} + at.tv_nsec;
}

}  // namespace ephfs::core
