// SPDX-License-Identifier: Apache-2.0
#include "fs/scrubber.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace ephfs::fs {
namespace {

constexpr core::Nanoseconds kDelayMax = std::chrono::seconds(30);
constexpr int kIdleParts = 20;  // pauses at least this many times as long as a scrub took

}  // namespace

void Scrubber::start() {
  tasks_.spawn(state_.background, [this] { return run(); });
}

awaitable<void> Scrubber::stop() {
  stopping_ = true;
  wake_.notify();
  co_await tasks_.join();
}

void Scrubber::notify() {
  if (!wanted_.exchange(true)) wake_.notify();
}

awaitable<void> Scrubber::run() {
  core::Nanoseconds pause = kDelay;
  std::optional<core::Boottime> due;
  while (!stopping_) {
    co_await wake_.wait(state_.clock, due);
    if (stopping_ || !wanted_) continue;
    const core::Boottime now = state_.clock.boot_now();
    if (!due) due = now + pause;
    if (now < *due) continue;
    due.reset();
    pause = scrub();
    if (wanted_) due = state_.clock.boot_now() + pause;
  }
}

core::Nanoseconds Scrubber::scrub() {
  const core::Boottime began = state_.clock.boot_now();
  wanted_ = false;
  const auto done = state_.catalog->scrub();
  if (!done) {
    wanted_ = true;
    // A reader of an old snapshot is soon done.
    if (done.error().code != core::Error::busy && !std::exchange(failed_, true)) {
      state_.log("overwriting deleted keys failed, will try again: " + done.error().message());
    }
  } else {
    failed_ = false;
  }
  return std::clamp<core::Nanoseconds>((state_.clock.boot_now() - began) * kIdleParts, kDelay, kDelayMax);
}

}  // namespace ephfs::fs
