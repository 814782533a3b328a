// SPDX-License-Identifier: Apache-2.0
// Idle priority (SCHED_IDLE, sched(7)): a thread that has it makes way at once for whoever wakes up.
#pragma once

#include <sys/types.h>

namespace ephfs::core {

/// Gives a thread of this process (0: the calling one) idle priority, or the ordinary one back; false when the kernel
/// refuses. An idle thread may come back only where may_leave_idle().
bool set_idle(bool idle, pid_t thread = 0);

/// Whether threads of this process may leave idle priority again: needs CAP_SYS_NICE or a limit (RLIMIT_NICE). Asks the
/// kernel, with a thread of its own.
[[nodiscard]] bool may_leave_idle();

}  // namespace ephfs::core
