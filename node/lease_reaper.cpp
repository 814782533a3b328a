// SPDX-License-Identifier: Apache-2.0
#include "node/lease_reaper.hpp"

#include "core/log.hpp"

namespace ephfs::node {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBatch = 64;
constexpr core::Milliseconds kNapMax = 60s;
constexpr core::Milliseconds kRetryAfter = 5s;  // when the disk refuses to delete
constexpr std::int64_t kAwake = std::numeric_limits<std::int64_t>::min();

}  // namespace

LeaseReaper::LeaseReaper(LocalPeer& peer, core::Clock& clock, core::asio::any_io_executor executor,
                         core::asio::any_io_executor disk)
    : peer_(peer),
      clock_(clock),
      executor_(std::move(executor)),
      disk_(std::move(disk)),
      asleep_until_(kAwake) {
  peer_.on_deadline([this](core::Deadline deadline) { wake_for(deadline); });
}

void LeaseReaper::start() {
  task_.spawn(executor_, [this] { return run(); });
}

awaitable<void> LeaseReaper::stop() {
  stopping_ = true;
  mailbox_.post(Letter::look_again);
  co_await task_.join();
}

void LeaseReaper::look_again() {
  if (asleep_until_.exchange(kAwake) != kAwake) mailbox_.post(Letter::look_again);
}

void LeaseReaper::wake_for(core::Deadline deadline) {
  // One letter for each time it lies down at most: whoever sends it marks the reaper as awake.
  std::int64_t until = asleep_until_;
  while (deadline.raw() < until) {
    if (asleep_until_.compare_exchange_weak(until, kAwake)) {
      mailbox_.post(Letter::look_again);
      return;
    }
  }
}

awaitable<void> LeaseReaper::run() {
  bool failed_before = false;
  while (!stopping_) {
    const auto reaped = co_await reap();
    if (stopping_) break;
    if (!reaped.outcome) {
      if (!failed_before) core::log_line("cannot delete an expired shard: " + reaped.outcome.error().message());
      failed_before = true;
      if (reaped.deleted > 0) continue;
      (void)co_await mailbox_.receive_until(clock_, clock_.boot_now() + kRetryAfter);
      continue;
    }
    failed_before = false;
    if (reaped.deleted > 0) continue;

    asleep_until_ = std::numeric_limits<std::int64_t>::max();
    // A lease that came before that line woke nobody, so the next deadline is asked for after it.
    const core::Deadline next = peer_.next_deadline();
    const core::Instant now = reaped.now;
    if (next.is_never()) {
      (void)co_await mailbox_.receive();
    } else if (!next.passed(now)) {
      std::int64_t unset = std::numeric_limits<std::int64_t>::max();
      asleep_until_.compare_exchange_strong(unset, next.raw());
      const core::Milliseconds nap = std::min(next.instant() - now, kNapMax);
      (void)co_await mailbox_.receive_until(clock_, clock_.boot_now() + nap);
    }
    asleep_until_ = kAwake;
  }
}

awaitable<LocalPeer::Reaped> LeaseReaper::reap() {
  auto job = [](LocalPeer& peer) -> awaitable<LocalPeer::Reaped> { co_return peer.remove_expired(kBatch); };
  auto work = job(peer_);
  co_return co_await core::asio::co_spawn(disk_, std::move(work), core::asio::use_awaitable);
}

}  // namespace ephfs::node
