// SPDX-License-Identifier: Apache-2.0
// For threads that have to act at an instant. Private to fs/fuse_*.
#pragma once

#include <pthread.h>
#include <sched.h>

namespace ephfs::fs {

/// Lets the calling thread run as soon as it wakes, however busy the machine is, where that is allowed.
inline void ask_for_punctuality() {
  sched_param parameters{};
  parameters.sched_priority = ::sched_get_priority_min(SCHED_RR);
  (void)::pthread_setschedparam(::pthread_self(), SCHED_RR, &parameters);
}

}  // namespace ephfs::fs
