// SPDX-License-Identifier: Apache-2.0
#include "core/kernel_time.hpp"

#include <sys/timex.h>

namespace ephfs::core {

std::optional<Instant> synchronized_kernel_time() {
  timex state{};
  const int verdict = ::adjtimex(&state);
  if (verdict < 0 || verdict == TIME_ERROR || (state.status & STA_UNSYNC) != 0) return std::nullopt;
  const std::int64_t fraction =
      (state.status & STA_NANO) != 0 ? state.time.tv_usec / 1'000'000 : state.time.tv_usec / 1000;
  return Instant{state.time.tv_sec * std::int64_t{1000} + fraction};
}

}  // namespace ephfs::core
