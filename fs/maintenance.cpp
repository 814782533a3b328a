// SPDX-License-Identifier: Apache-2.0
#include "fs/maintenance.hpp"

#include <algorithm>
#include <limits>

#include "fs/relocation.hpp"

namespace ephfs::fs {
namespace {

constexpr std::size_t kBatch = 64;
constexpr core::Nanoseconds kBackoffFirst = std::chrono::seconds(1);
constexpr unsigned kBackoffDoublings = 6;  // up to about a minute
constexpr core::Nanoseconds kCompactionDelay = std::chrono::seconds(30);
constexpr core::Nanoseconds kCompactionRetry = std::chrono::minutes(10);
constexpr unsigned kSparsePermille = 250;
constexpr Milliseconds kWorthCompacting = std::chrono::hours(1);  // of life left
constexpr std::size_t kSparseAtOnce = 32;

core::Nanoseconds backoff(unsigned failures) {
  return kBackoffFirst * (std::int64_t{1} << std::min(failures - 1, kBackoffDoublings));
}

std::string name_of(InodeNumber number) {
  return "inode " + std::to_string(number.value);
}

}  // namespace

void Maintenance::start() {
  tasks_.spawn(state_.executor, [this] { return run_flusher(); });
  tasks_.spawn(state_.executor, [this] { return run_restager(); });
  tasks_.spawn(state_.executor, [this] { return run_compactor(); });
}

awaitable<void> Maintenance::stop() {
  stop_.request_stop();
  flusher_.notify();
  restager_.notify();
  compactor_.notify();
  co_await tasks_.join();
}

// --- Flushing by age

awaitable<void> Maintenance::run_flusher() {
  // Between small files nothing is dirty for moments. It stays half asleep for one flush_age after the last, so that it
  // need not be woken by each.
  bool is_quiet = true;
  while (!stop_.stop_requested()) {
    std::optional<core::Boottime> due;
    {
      const std::lock_guard lock(state_.dirty.mutex);
      if (!state_.dirty.by_age.empty()) due = state_.dirty.by_age.begin()->first.first + state_.options.flush_age;
    }
    const core::Boottime now = state_.clock.boot_now();
    if (due && *due <= now) {
      co_await flush_due(now);
      // Others on this thread have their turn between batches.
      co_await core::asio::post(core::asio::use_awaitable);
    } else {
      if (!due && !is_quiet) due = now + state_.options.flush_age;
      co_await flusher_.wait(state_.clock, due);
      is_quiet = due && !is_quiet && nothing_is_dirty();
    }
  }
}

bool Maintenance::nothing_is_dirty() const {
  const std::lock_guard lock(state_.dirty.mutex);
  return state_.dirty.by_age.empty();
}

awaitable<void> Maintenance::flush_due(core::Boottime now) {
  std::vector<std::shared_ptr<Inode>> due;
  {
    const std::lock_guard lock(state_.dirty.mutex);
    for (const auto& [key, inode] : state_.dirty.by_age) {
      if (key.first + state_.options.flush_age > now || due.size() == kBatch) break;
      due.push_back(inode);
    }
  }
  for (auto& inode : due) {
    if (stop_.stop_requested()) co_return;
    Result<> flushed;
    {
      const std::unique_lock lock(inode->mutex);
      flushed = flush_inode(state_, inode);
      if (!flushed) postpone_flush(*inode, flushed.error());
    }
    const InodeNumber number = inode->number;
    if (flushed) unflushed_.erase(number);
    inode.reset();
    state_.inodes.release(number);
    if (!flushed && flushed.error().code == core::Error::would_block) {
      (void)co_await wait_for_room(state_, now + state_.options.peer_timeout, stop_.get_token());
    }
  }
}

void Maintenance::postpone_flush(Inode& inode, const core::Failure& failure) {
  const bool is_full = failure.code == core::Error::would_block;
  const unsigned failures = is_full ? 1 : ++unflushed_[inode.number];
  if (!is_full && failures == 1) {
    state_.log("flushing " + name_of(inode.number) + " failed, will try again: " + failure.message());
  }
  const std::lock_guard lock(state_.dirty.mutex);
  const auto listed = state_.dirty.since.find(inode.number);
  if (listed == state_.dirty.since.end()) return;
  auto node = state_.dirty.by_age.extract({listed->second, inode.number});
  // As if it had become dirty when its next turn is one flush_age away. Where staging is full, its turn comes
  // at once.
  const auto wait = is_full ? core::Nanoseconds{0} : backoff(failures) - core::Nanoseconds(state_.options.flush_age);
  listed->second = state_.clock.boot_now() + wait;
  node.key() = {listed->second, inode.number};
  state_.dirty.by_age.insert(std::move(node));
}

// --- Moving to where a file's deadline is

void Maintenance::deadline_changed(const std::shared_ptr<Inode>& inode) {
  if (!inode->is_regular()) return;
  {
    const std::lock_guard lock(mutex_);
    to_restage_[inode->number] = Retry{};
  }
  restager_.notify();
}

std::optional<core::Boottime> Maintenance::next_restage() {
  const std::lock_guard lock(mutex_);
  std::optional<core::Boottime> next;
  for (const auto& [number, retry] : to_restage_) {
    if (!next || retry.due < *next) next = retry.due;
    if (retry.failures == 0) break;
  }
  return next;
}

std::vector<InodeNumber> Maintenance::take_restages() {
  const core::Boottime now = state_.clock.boot_now();
  std::vector<InodeNumber> numbers;
  const std::lock_guard lock(mutex_);
  for (auto& [number, retry] : to_restage_) {
    if (retry.due > now) continue;
    numbers.push_back(number);
    // Taken, unless the deadline changes once more before its turn is over.
    retry.due = core::Boottime{std::numeric_limits<std::int64_t>::max()};
    if (numbers.size() == kBatch) break;
  }
  return numbers;
}

void Maintenance::note_restage(InodeNumber number, const Result<>& outcome) {
  unsigned failures = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto listed = to_restage_.find(number);
    if (listed == to_restage_.end() || listed->second.due.ns != std::numeric_limits<std::int64_t>::max()) return;
    if (outcome) {
      to_restage_.erase(listed);
      return;
    }
    failures = ++listed->second.failures;
    listed->second.due = state_.clock.boot_now() + backoff(failures);
  }
  if (failures == 1 && outcome.error().code != core::Error::cancelled) {
    state_.log("moving " + name_of(number) +
               " to its new deadline failed, will try again: " + outcome.error().message());
  }
}

awaitable<void> Maintenance::run_restager() {
  while (!stop_.stop_requested()) {
    const auto numbers = take_restages();
    if (numbers.empty()) {
      co_await restager_.wait(state_.clock, next_restage());
      continue;
    }
    Relocation relocation(state_, stop_.get_token());
    std::vector<std::pair<InodeNumber, Result<>>> outcomes;
    for (const InodeNumber number : numbers) {
      auto outcome = co_await restage(number, &relocation);
      outcomes.emplace_back(number, std::move(outcome));
    }
    const auto committed = relocation.commit();
    for (const auto& [number, outcome] : outcomes) {
      note_restage(number, outcome ? committed : outcome);
      state_.inodes.release(number);
    }
    co_await core::asio::post(core::asio::use_awaitable);
  }
}

awaitable<Result<>> Maintenance::restage(InodeNumber number, Relocation* relocation) {
  auto inode = state_.inodes.get(number);
  if (!inode && inode.error().code == core::Error::not_found) co_return Result<>{};
  if (!inode) co_return inode.error();
  std::vector<StripeNumber> stripes;
  {
    const std::unique_lock lock((*inode)->mutex);
    if ((*inode)->removed || (*inode)->is_gone(state_.clock.confirmed_now())) co_return Result<>{};
    EPHFS_CO_TRY_VOID(load_data(state_, **inode));
    stripes = (*inode)->data->extents().stripes();
  }
  for (const StripeNumber stripe : stripes) {
    if (stop_.stop_requested()) co_return core::fail(core::Error::cancelled);
    auto moved = co_await restage_stripe(*inode, stripe, relocation);
    if (!moved) co_return moved;
  }
  co_return Result<>{};
}

awaitable<Result<>> Maintenance::restage_stripe(std::shared_ptr<Inode> inode, StripeNumber stripe,
                                                Relocation* relocation) {
  EPHFS_CO_TRY(const auto record, state_.catalog->stripe(stripe));
  if (!record) co_return Result<>{};
  Deadline deadline;
  Milliseconds ttl{0};
  std::uint64_t own = 0;
  {
    const std::shared_lock lock(inode->mutex);
    deadline = inode->record.deadline;
    ttl = inode->record.ttl;
    own = inode->data ? inode->data->extents().bytes_in(stripe) : 0;
  }
  if (own == 0) co_return Result<>{};
  // A stripe lasts as long as the last of what is in it.
  if (deadline > record->deadline) co_return state_.stripes->set_deadline(stripe, deadline);
  if (record->deadline <= bucket_of(deadline, ttl).end) co_return Result<>{};
  // An open stripe may take in other files yet.
  const bool is_own = record->state != meta::StripeState::open && record->live == own;
  if (is_own) co_return state_.stripes->set_deadline(stripe, deadline);
  co_return co_await relocation->move_out(inode, stripe);
}

// --- Compaction

void Maintenance::compact_soon() {
  if (!wants_compaction_.exchange(true)) compactor_.notify();
}

awaitable<void> Maintenance::run_compactor() {
  std::optional<core::Boottime> retry;
  std::set<StripeNumber> looked_at;  // in the last round
  unsigned failures = 0;             // rounds in a row in which something failed
  while (!stop_.stop_requested()) {
    if (!wants_compaction_) co_await compactor_.wait(state_.clock, retry);
    const bool is_retry = retry && *retry <= state_.clock.boot_now();
    if (!wants_compaction_ && !is_retry) continue;
    const core::Boottime due = state_.clock.boot_now() + kCompactionDelay;
    while (state_.clock.boot_now() < due && !stop_.stop_requested()) co_await compactor_.wait(state_.clock, due);
    wants_compaction_ = false;
    retry.reset();
    auto failed = co_await compact_sparse(&looked_at);
    failures = failed ? 0 : failures + 1;
    if (failures == 0 || stop_.stop_requested()) continue;
    if (failures == 1) state_.log("compaction failed, will try again: " + failed.error().message());
    retry = state_.clock.boot_now() + kCompactionRetry * std::min(failures, kBackoffDoublings);
  }
}

awaitable<Result<>> Maintenance::compact_sparse(std::set<StripeNumber>* looked_at) {
  EPHFS_CO_TRY(const auto sparse,
               state_.catalog->sparse_stripes(kSparsePermille, state_.clock.now() + kWorthCompacting, kSparseAtOnce));
  const auto before = std::exchange(*looked_at, {});
  Result<> outcome;
  bool found_new = false;
  for (const auto& stripe : sparse) {
    if (stop_.stop_requested()) co_return core::fail(core::Error::cancelled);
    found_new = found_new || !before.contains(stripe.number);
    looked_at->insert(stripe.number);
    auto compacted = co_await compact(stripe.number);
    if (!compacted) {
      outcome = core::fail(compacted.error().code,
                           "stripe " + std::to_string(stripe.number.value) + ": " + compacted.error().detail);
    }
  }
  // Perhaps there are more.
  if (sparse.size() == kSparseAtOnce && found_new && outcome) wants_compaction_ = true;
  co_return outcome;
}

awaitable<Result<>> Maintenance::compact(StripeNumber stripe) {
  EPHFS_CO_TRY(const auto extents, state_.catalog->extents_in(stripe));
  std::set<InodeNumber> numbers;
  for (const auto& extent : extents) numbers.insert(extent.inode);
  Relocation relocation(state_, stop_.get_token());
  Result<> outcome;
  for (const InodeNumber number : numbers) {
    auto inode = state_.inodes.get(number);
    if (!inode) continue;  // removed since
    outcome = co_await relocation.move_out(*inode, stripe);
    if (!outcome) break;
  }
  auto committed = relocation.commit();
  for (const InodeNumber number : numbers) state_.inodes.release(number);
  if (!outcome) co_return outcome;
  co_return committed;
}

}  // namespace ephfs::fs
