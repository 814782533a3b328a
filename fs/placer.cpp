// SPDX-License-Identifier: Apache-2.0
#include "fs/placer.hpp"

#include <algorithm>

#include "fs/collector.hpp"
#include "fs/placement_attempt.hpp"
#include "fs/repairer.hpp"

namespace ephfs::fs {

using core::Error;
using core::fail;

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kPlacingMax = 4;
constexpr core::Nanoseconds kFirstPause = 500ms;
constexpr core::Nanoseconds kLongestPause = 30s;

}  // namespace

void Placer::enqueue(StripeNumber number) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.try_emplace(number);
  }
  wake_.notify();
}

void Placer::hurry(StripeNumber number) {
  bool failed = false;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = jobs_.find(number); found != jobs_.end()) {
      failed = found->second.status.failure.has_value();
      found->second.not_before = {};
      found->second.hurried = true;
    }
  }
  if (failed) state_.nodes.forgive();
  wake_.notify();
}

void Placer::forget(StripeNumber number) {
  const std::lock_guard lock(mutex_);
  if (const auto found = jobs_.find(number); found != jobs_.end() && !found->second.placing) jobs_.erase(found);
}

Placer::Status Placer::status(StripeNumber number) const {
  const std::lock_guard lock(mutex_);
  const auto found = jobs_.find(number);
  return found == jobs_.end() ? Status() : found->second.status;
}

std::string Placer::last_error() const {
  const std::lock_guard lock(mutex_);
  return last_error_;
}

awaitable<void> Placer::run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    struct Start {
      StripeNumber number;
      bool hurried = false;
    };
    std::vector<Start> starts;
    std::optional<core::Boottime> next;
    const bool waited_for = state_.context.options.durability != Durability::local || !state_.log.has_room();
    {
      const core::Boottime now = state_.context.clock.boot_now();
      const std::lock_guard lock(mutex_);
      // While nothing can be placed one stripe finds that out for all.
      const std::size_t most = last_error_.empty() ? kPlacingMax : 1;
      for (auto& [number, job] : jobs_) {
        if (placing_ >= most) break;
        if (job.placing) continue;
        if (job.not_before > now) {
          if (!next || job.not_before < *next) next = job.not_before;
          continue;
        }
        job.placing = true;
        ++placing_;
        starts.push_back({number, waited_for || job.hurried});
      }
    }
    for (const Start& start : starts) {
      state_.tasks.spawn(state_.context.executor, [this, start] { return place(start.number, start.hurried); });
    }
    co_await wake_.wait(state_.context.clock, next);
  }
}

awaitable<void> Placer::place(StripeNumber number, bool hurried) {
  Outcome outcome;
  if (auto claim = state_.claims.try_claim(number)) {
    PlacementAttempt attempt(state_, number, hurried ? state_.context.executor : state_.unhurried);
    auto ended = co_await attempt.run();
    outcome = {std::move(ended.result), ended.certain, ended.over};
  } else {
    outcome.result = fail(Error::busy);
  }
  finish(number, std::move(outcome));
  wake_.notify();
  state_.log.changes().notify_all();
}

void Placer::finish(StripeNumber number, Outcome outcome) {
  const core::Boottime now = state_.context.clock.boot_now();
  const std::lock_guard lock(mutex_);
  --placing_;
  const auto found = jobs_.find(number);
  EPHFS_CHECK(found != jobs_.end(), "a stripe stays in the queue while it is being placed");
  Job& job = found->second;
  job.placing = false;
  if (outcome.result || outcome.over) {
    jobs_.erase(found);
    if (outcome.result && !last_error_.empty()) {
      // What kept one from being placed kept the others too, and has passed.
      last_error_.clear();
      for (auto& [other, waiting] : jobs_) waiting.not_before = {};
    }
    return;
  }
  const core::Failure& failure = outcome.result.error();
  job.not_before = now + kFirstPause;
  // Another task had it, or this one was told to stop: no attempt.
  if (failure.code == Error::busy || failure.code == Error::cancelled) return;
  const std::int64_t doubled = std::int64_t{1} << std::min<std::uint64_t>(job.status.attempts, 8);
  job.not_before = now + std::min(kLongestPause, kFirstPause * doubled);
  ++job.status.attempts;
  job.status.failure = failure;
  job.status.certain = outcome.certain;
  last_error_ = failure.message();
}

}  // namespace ephfs::fs
