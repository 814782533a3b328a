// SPDX-License-Identifier: Apache-2.0
#include "fs/puncturer.hpp"

#include <utility>

namespace ephfs::fs {
namespace {

constexpr Milliseconds kRetryAfter{5000};

}  // namespace

void Puncturer::start() {
  tasks_.spawn(state_.executor, [this] { return run(); });
}

awaitable<void> Puncturer::stop() {
  stopping_ = true;
  wake_.notify();
  co_await tasks_.join();
}

awaitable<void> Puncturer::run() {
  while (!stopping_) {
    const core::Boottime until = puncture();
    co_await wake_.wait(state_.clock, until);
  }
}

core::Boottime Puncturer::puncture() {
  const core::Instant confirmed = state_.clock.destruction_now();
  const auto done = state_.epoch_keys->puncture(confirmed);
  const core::Boottime boot = state_.clock.boot_now();
  if (!done) {
    if (!std::exchange(failed_, true)) {
      state_.log("destroying the keys of what died failed, will try again: " + done.error().message());
    }
    return boot + kRetryAfter;
  }
  failed_ = false;
  // To the end of this epoch: never longer than one, so a clock that is set meanwhile is noticed.
  constexpr auto kEpoch = core::EpochKeys::kEpoch;
  return boot + (kEpoch - Milliseconds(((confirmed.ms % kEpoch.count()) + kEpoch.count()) % kEpoch.count()));
}

}  // namespace ephfs::fs
