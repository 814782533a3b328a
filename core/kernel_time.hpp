// SPDX-License-Identifier: Apache-2.0
// What the kernel says of its own clock: whether something (NTP, PTP, a hypervisor) keeps it right.
#pragma once

#include <optional>

#include "core/time.hpp"

namespace ephfs::core {

/// The kernel's wall time, read together with its flags (adjtimex(2)), if it says that it is synchronized;
/// else none. Setting the time by hand clears the flag. Thread-safe.
[[nodiscard]] std::optional<Instant> synchronized_kernel_time();

}  // namespace ephfs::core
