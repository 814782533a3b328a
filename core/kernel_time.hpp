// SPDX-License-Identifier: Apache-2.0
// The kernel's clocks, and what it says of them: whether something (NTP, PTP, a hypervisor) keeps its time right.
#pragma once

#include <ctime>
#include <optional>

#include "core/time.hpp"

namespace ephfs::core {

/// The kernel's wall time, read together with its flags (adjtimex(2)), if it says that it is synchronized;
/// else none. Setting the time by hand clears the flag. Thread-safe.
[[nodiscard]] std::optional<Instant> synchronized_kernel_time();

/// One of the kernel's clocks (clock_gettime(2)), in nanoseconds. Thread-safe.
[[nodiscard]] std::int64_t read_kernel_clock_ns(clockid_t id);

}  // namespace ephfs::core
