// SPDX-License-Identifier: Apache-2.0
#include "core/idle_policy.hpp"

#include <thread>

#include <sched.h>

namespace ephfs::core {

bool set_idle(bool idle, pid_t thread) {
  const sched_param parameters{};
  return ::sched_setscheduler(thread, idle ? SCHED_IDLE : SCHED_OTHER, &parameters) == 0;
}

bool may_leave_idle() {
  bool left = false;
  std::thread([&left] { left = set_idle(true) && set_idle(false); }).join();
  return left;
}

}  // namespace ephfs::core
