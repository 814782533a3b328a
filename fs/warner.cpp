// SPDX-License-Identifier: Apache-2.0
#include "fs/warner.hpp"

#include "core/little_endian.hpp"

namespace ephfs::fs {
namespace {

constexpr std::size_t kBatch = 256;
/// A nap's bound: wall time may be set while it lasts.
constexpr Milliseconds kNapMax{60'000};
constexpr Milliseconds kRetryAfter{1000};
/// A deadline this near the horizon may be passed by it before its record is committed: it is watched in the queue too.
constexpr Milliseconds kCommitSlack{10'000};
constexpr std::size_t kQueueMax = 65'536;

/// In the volume's settings: the span, and the instant up to which was told with it; i64 each, in ms.
constexpr const char* kSetting = "warned";
constexpr std::size_t kSettingBytes = 16;

}  // namespace

Result<> Warner::resume() {
  if (!is_on()) return {};
  core::Instant from = state_.clock.confirmed_now();
  EPHFS_TRY(const auto kept, state_.catalog->value(kSetting));
  if (kept && kept->size() == kSettingBytes) {
    const core::ByteView bytes(*kept);
    const auto span = core::load_le<std::int64_t>(bytes.first(8));
    const core::Instant told{core::load_le<std::int64_t>(bytes.subspan(8))};
    // Nothing can have been told of what dies later than a span from now: then the clock has been set back since.
    if (span == state_.options.warn.count() && told <= from + state_.options.warn) from = std::max(from, told);
  }
  horizon_ = from.ms;
  cursor_ = meta::ExpiringRecord::before(from + Milliseconds{1});
  return {};
}

void Warner::start() {
  if (is_on()) tasks_.spawn(state_.executor, [this] { return run(); });
}

awaitable<void> Warner::stop() {
  stopping_ = true;
  wake_.notify();
  co_await tasks_.join();
}

void Warner::notify(const std::shared_ptr<Inode>& inode) {
  const Deadline deadline = inode->deadline();
  if (!is_on() || deadline.is_never() || inode->warned == deadline.raw()) return;
  if (deadline.raw() <= horizon_ + kCommitSlack.count()) {
    const std::lock_guard lock(mutex_);
    if (queue_.size() < kQueueMax) {
      queue_.push_back(inode);
    } else if (!std::exchange(overflowed_, true)) {
      state_.log("too many files came near their death at once: some are not warned of");
    }
  }
  auto planned = planned_.load();
  while (deadline.raw() < planned) {
    if (!planned_.compare_exchange_weak(planned, deadline.raw())) continue;
    wake_.notify();
    return;
  }
}

awaitable<void> Warner::run() {
  while (!stopping_) {
    const core::Boottime until = warn_due();
    // Others on this thread have their turn between batches.
    co_await core::asio::post(core::asio::use_awaitable);
    co_await wake_.wait(state_.clock, until);
  }
}

core::Boottime Warner::warn_due() {
  planned_ = Deadline::never().raw();
  const core::Instant horizon = std::max(core::Instant{horizon_}, state_.clock.confirmed_now() + state_.options.warn);
  // First the horizon, then the list: what is committed behind the reader's back comes through the queue.
  horizon_ = horizon.ms;
  Warnings warnings;
  // The list before the queue: what is in both is in memory as long as it is queued, and so is known to have been told
  // of.
  const auto more = collect_listed(horizon, warnings);
  if (more) collect_queued(horizon, warnings);
  const core::Boottime boot = state_.clock.boot_now();
  Result<> kept = more ? Result<>() : Result<>(more.error());
  if (kept && !warnings.empty()) kept = commit_horizon();
  if (!kept) state_.log("warning of deaths: " + kept.error().message());
  for (const auto& warning : warnings) state_.on_warning(warning);
  if (!kept) return boot + kRetryAfter;
  if (*more) return boot;
  auto nap = plan_nap();
  if (nap) return *nap;
  state_.log("warning of deaths: " + nap.error().message());
  return boot + kRetryAfter;
}

/// Whether there is more to list.
Result<bool> Warner::collect_listed(core::Instant horizon, Warnings& warnings) {
  std::vector<meta::ExpiringRecord> page;
  {
    // An inode is in the table when its first record is committed, or not yet here.
    const std::lock_guard names(state_.namespace_mutex);
    EPHFS_TRY(page, state_.catalog->expiring_list(cursor_, horizon + Milliseconds{1}, kBatch));
  }
  PathFinder paths(*state_.catalog);
  const core::Instant now = state_.clock.now();
  for (const auto& record : page) {
    cursor_ = record;
    Deadline deadline = record.deadline;
    if (const auto inode = state_.inodes.find(record.inode)) {
      // One that slid on in memory comes again, with the record that says so.
      deadline = inode->deadline();
      if (deadline > Deadline(horizon) || inode->warned.exchange(deadline.raw()) == deadline.raw()) continue;
    }
    if (deadline.passed(now)) continue;
    EPHFS_TRY(auto path, paths.path_of(record.inode));
    warnings.push_back({record.inode, record.mode, record.size, deadline, std::move(path)});
  }
  const bool more = page.size() == kBatch;
  if (!more) cursor_ = meta::ExpiringRecord::before(horizon + Milliseconds{1});
  return more;
}

void Warner::collect_queued(core::Instant horizon, Warnings& warnings) {
  std::deque<std::shared_ptr<Inode>> queued;
  {
    const std::lock_guard lock(mutex_);
    queued.swap(queue_);
    overflowed_ = false;
  }
  PathFinder paths(*state_.catalog);
  std::deque<std::shared_ptr<Inode>> later;
  const core::Instant now = state_.clock.now();
  for (auto& inode : queued) {
    const InodeNumber number = inode->number;
    const Deadline deadline = inode->deadline();
    if (deadline >= cursor_.deadline) {
      if (deadline <= Deadline(horizon + kCommitSlack)) later.push_back(std::move(inode));
    } else if (inode->warned.exchange(deadline.raw()) != deadline.raw() && !deadline.passed(now)) {
      auto path = paths.path_of(number);
      if (!path) state_.log("the path of inode " + std::to_string(number.value) + ": " + path.error().message());
      const std::shared_lock lock(inode->mutex);
      warnings.push_back({number, inode->record.mode, inode->record.size, deadline, path ? *std::move(path) : ""});
    }
    const bool gone = inode != nullptr;
    inode.reset();
    if (gone) state_.inodes.release(number);
  }
  if (later.empty()) return;
  const std::lock_guard lock(mutex_);
  queue_.insert(queue_.begin(), std::make_move_iterator(later.begin()), std::make_move_iterator(later.end()));
}

Result<core::Boottime> Warner::plan_nap() {
  const core::Instant ever = core::kInstantMax + Milliseconds{1};
  EPHFS_TRY(const auto next, state_.catalog->expiring_list(cursor_, ever, 1));
  std::int64_t first = next.empty() ? Deadline::never().raw() : next.front().deadline.raw();
  {
    const std::lock_guard lock(mutex_);
    for (const auto& inode : queue_) first = std::min(first, inode->deadline().raw());
  }
  auto planned = planned_.load();
  while (first < planned && !planned_.compare_exchange_weak(planned, first)) {
  }
  const core::Boottime boot = state_.clock.boot_now();
  const Deadline soonest = Deadline::from_raw(std::min(first, planned));
  if (soonest.is_never()) return boot + kNapMax;
  const Milliseconds left = soonest.instant() - state_.options.warn - state_.clock.confirmed_now();
  return boot + std::clamp(left, Milliseconds{0}, kNapMax);
}

Result<> Warner::commit_horizon() {
  core::Bytes value(kSettingBytes);
  const core::MutableByteView bytes(value);
  core::store_le(bytes.first(8), std::int64_t{state_.options.warn.count()});
  core::store_le(bytes.subspan(8), horizon_.load());
  meta::Changes changes;
  changes.emplace_back(meta::PutValue{kSetting, std::move(value)});
  return state_.catalog->commit(changes);
}

}  // namespace ephfs::fs
