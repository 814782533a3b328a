// SPDX-License-Identifier: Apache-2.0
// Going into the background: before any thread exists, with the parent waiting to hear how the start went.
#pragma once

#include <functional>
#include <string>

#include "core/result.hpp"

namespace ephfs::cli {

/// Told once by the child that it serves: the parent then exits with 0 and the child is on its own.
using Ready = std::function<void()>;

/// Runs `serve` in a child of its own session and returns the parent's exit status: 0 once the child says it is ready,
/// else `failed_status`, with the child's failure already on standard error. With `foreground` it runs here. Messages
/// of a child that is ready go to the system log. Call before any thread exists.
[[nodiscard]] int run_daemon(bool foreground, int failed_status,
                             const std::function<core::Result<>(const Ready&)>& serve);

}  // namespace ephfs::cli
