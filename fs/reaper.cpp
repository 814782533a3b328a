// SPDX-License-Identifier: Apache-2.0
#include "fs/reaper.hpp"

#include <algorithm>

namespace ephfs::fs {
namespace {

constexpr std::size_t kBatch = 256;
/// A nap's bound. When the clock is set, look_again() ends it.
constexpr Milliseconds kNapMax{60'000};
constexpr Milliseconds kRetryAfter{1000};

}  // namespace

void Reaper::start() {
  tasks_.spawn(state_.executor, [this] { return run(); });
}

awaitable<void> Reaper::stop() {
  stopping_ = true;
  wake_.notify();
  co_await tasks_.join();
}

void Reaper::notify(Deadline deadline) {
  auto planned = planned_.load();
  while (deadline.raw() < planned) {
    if (!planned_.compare_exchange_weak(planned, deadline.raw())) continue;
    wake_.notify();
    return;
  }
}

void Reaper::look_again() { wake_.notify(); }

awaitable<void> Reaper::run() {
  while (!stopping_) {
    const core::Boottime until = reap_due();
    // Others on this thread have their turn between batches.
    co_await core::asio::post(core::asio::use_awaitable);
    co_await wake_.wait(state_.clock, until);
  }
}

core::Boottime Reaper::reap_due() {
  // From here on every deadline that comes in wakes the next nap, until the plan is known.
  planned_ = Deadline::never().raw();
  const core::Instant now = state_.clock.destruction_now();
  const auto reaped = reap(state_, now, kBatch);
  const core::Boottime boot = state_.clock.boot_now();
  if (!reaped) {
    state_.log("destroying what died failed, will try again: " + reaped.error().message());
    return boot + kRetryAfter;
  }
  if (*reaped > 0) return boot;  // perhaps there is more
  const auto next = state_.catalog->next_deadline();
  if (!next) {
    state_.log("the next deadline cannot be read: " + next.error().message());
    return boot + kRetryAfter;
  }
  auto planned = planned_.load();
  while (next->raw() < planned && !planned_.compare_exchange_weak(planned, next->raw())) {
  }
  if (next->is_never()) return boot + kNapMax;
  return boot + std::clamp(next->instant() - now, Milliseconds{0}, kNapMax);
}

}  // namespace ephfs::fs
