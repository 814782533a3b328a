// SPDX-License-Identifier: Apache-2.0
#include "node/lease_reaper.hpp"

#include "core/log.hpp"

namespace ephfs::node {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBatch = 64;
constexpr std::size_t kSettledAtOnce = 1024;
constexpr core::Milliseconds kNapMax = 60s;
constexpr core::Milliseconds kRetryAfter = 5s;  // when the disk refuses to delete
constexpr std::int64_t kAwake = std::numeric_limits<std::int64_t>::min();

}  // namespace

LeaseReaper::LeaseReaper(LocalPeer& peer, core::Clock& clock, core::asio::any_io_executor executor,
                         core::asio::any_io_executor disk)
    : peer_(peer), clock_(clock), executor_(std::move(executor)), disk_(std::move(disk)), asleep_until_(kAwake) {
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
  while (!stopping_) {
    const auto reaped = co_await reap();
    if (stopping_) break;
    if (co_await rest_after(reaped.outcome, reaped.deleted > 0)) continue;
    const auto settled = co_await settle();
    if (stopping_) break;
    const Result<> outcome = settled ? Result<>() : Result<>(settled.error());
    if (co_await rest_after(outcome, settled && *settled > 0)) continue;

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

/// Whether it is to look again at once; after a failure with nothing done, when it has rested.
awaitable<bool> LeaseReaper::rest_after(Result<> outcome, bool any_done) {
  if (outcome) {
    if (any_done) failed_before_ = false;
    co_return any_done;
  }
  if (!failed_before_) core::log_line("cannot delete an expired shard: " + outcome.error().message());
  failed_before_ = true;
  if (!any_done) (void)co_await mailbox_.receive_until(clock_, clock_.boot_now() + kRetryAfter);
  co_return true;
}

awaitable<Result<std::size_t>> LeaseReaper::settle() {
  auto job = [](LocalPeer& peer) -> awaitable<Result<std::size_t>> { co_return peer.settle_removals(kSettledAtOnce); };
  auto work = job(peer_);
  co_return co_await core::asio::co_spawn(disk_, std::move(work), core::asio::use_awaitable);
}

awaitable<LocalPeer::Reaped> LeaseReaper::reap() {
  auto job = [](LocalPeer& peer) -> awaitable<LocalPeer::Reaped> { co_return peer.remove_expired(kBatch); };
  auto work = job(peer_);
  co_return co_await core::asio::co_spawn(disk_, std::move(work), core::asio::use_awaitable);
}

}  // namespace ephfs::node
