// SPDX-License-Identifier: Apache-2.0
#include "fs/reaper.hpp"

#include <algorithm>

namespace ephfs::fs {
namespace {

constexpr std::size_t kBatch = 64;
/// Between batches it rests so many times as long as a batch took: what is dead is refused anyway, and those
/// who read what lives should not feel its end.
constexpr int kRestPerWork = 1;
constexpr Milliseconds kRestMax{100};
/// A nap's bound. When the clock is set, look_again() ends it.
constexpr Milliseconds kNapMax{60'000};
constexpr Milliseconds kRetryAfter{1000};
/// Deaths that follow one another closely are destroyed together: a commit costs more than a file in it.
constexpr Milliseconds kGather{20};

}  // namespace

void Reaper::start() {
  tasks_.spawn(state_.background, [this] { return run(); });
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

void Reaper::look_again() {
  wake_.notify();
}

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
  const core::Boottime began = state_.clock.boot_now();
  const core::Instant now = state_.clock.destruction_now();
  const auto reaped = reap(state_, now, kBatch);
  const core::Boottime boot = state_.clock.boot_now();
  if (!reaped) {
    state_.log("destroying what died failed, will try again: " + reaped.error().message());
    return boot + kRetryAfter;
  }
  if (*reaped > 0) {
    // It looks again soon, whatever comes in: nobody need wake it.
    planned_ = kLooksSoon;
    const core::Nanoseconds rest = std::min<core::Nanoseconds>(kRestPerWork * (boot - began), kRestMax);
    return boot + (*reaped == kBatch ? rest : kGather);
  }
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
