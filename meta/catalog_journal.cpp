// SPDX-License-Identifier: Apache-2.0
#include "meta/catalog_journal.hpp"

#include <algorithm>

#include "core/little_endian.hpp"
#include "core/profile.hpp"
#include "meta/change_codec.hpp"

namespace ephfs::meta {

using core::Error;
using core::fail;

namespace {

// Written with each batch: the last generation that the catalog below has.
constexpr const char* kAppliedSetting = "catalog.journal";

constexpr std::uint64_t kBatchBytes = std::uint64_t{512} << 10;  // of the journal, then a batch goes below
constexpr std::chrono::seconds kAgeMax{1};                       // of what is in the journal, as well
// What drops something may use all of the journal: it is what makes room when the disk is full.
constexpr std::uint64_t kUsualBytes = kJournalBytes - (std::uint64_t{1} << 20);

/// Many deaths: the overlay would look each of them up in the catalog below, which drops them together.
bool is_bulk(const Changes& changes) {
  constexpr std::ptrdiff_t kDropsMax = 8;
  return std::ranges::count_if(changes, [](const Change& one) { return std::holds_alternative<DropInode>(one); }) >
         kDropsMax;
}

bool drops(const Change& change) {
  return std::holds_alternative<DropInode>(change) || std::holds_alternative<DropName>(change) ||
         std::holds_alternative<DropXattr>(change) || std::holds_alternative<DropExtent>(change) ||
         std::holds_alternative<DropDeadFile>(change);
}

}  // namespace

/// Waits until nobody appends or pauses. Goes before the commits that wait as well.
class CatalogJournal::Claim {
 public:
  Claim(CatalogJournal& journal, Lock& lock, bool also_paused) {
    ++journal.claims_;
    journal.changed_.wait(lock, [&] { return !journal.appending_ && (also_paused || !journal.paused_); });
    --journal.claims_;
    journal.changed_.notify_all();
  }
};

/// Keeps commits waiting. Waits for an earlier one to end.
class CatalogJournal::Pause {
 public:
  Pause(CatalogJournal& journal, Lock& lock) : journal_(journal) {
    const Claim claim(journal, lock, false);
    journal_.paused_ = true;
  }
  /// The mutex is held.
  ~Pause() {
    journal_.paused_ = false;
    journal_.changed_.notify_all();
  }
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;

 private:
  CatalogJournal& journal_;
};

CatalogJournal::~CatalogJournal() {
  if (!thread_.joinable()) return;
  {
    Lock lock(mutex_);
    if (drain(lock)) (void)clear(lock);
    stopping_ = true;
    wake_.notify_one();
  }
  thread_.join();
}

Result<> CatalogJournal::start() {
  EPHFS_TRY_VOID(replay());
  thread_ = std::thread([this] { run(); });
  Lock lock(mutex_);
  auto drained = drain(lock);
  if (drained) return clear(lock);
  // Files must be deletable on a full disk: what is in the journal stays there.
  if (drained.error().code != Error::no_space) return drained;
  return {};
}

core::Failure CatalogJournal::damaged(const std::string& how) const {
  return fail(Error::damaged, "journal " + file_.path().string() + ": " + how);
}

Result<> CatalogJournal::replay() {
  EPHFS_TRY(const auto applied, below_.value(kAppliedSetting));
  if (applied && applied->size() != sizeof applied_) return fail(Error::damaged, "catalog: the journal's setting");
  if (applied) applied_ = core::load_le<std::uint64_t>(*applied);
  generation_ = applied_ + 1;
  EPHFS_TRY(last_below_, below_.last_inode());
  std::uint64_t last = applied_;
  std::vector<StagedBytes> staged;
  for (const JournalRecord& record : file_.take_records()) {
    auto commit = decode_commit(record.payload);
    if (!commit) return damaged(commit.error().detail);
    // Also of what is below already: their files may not have been synced.
    std::ranges::move(commit->staged, std::back_inserter(staged));
    if (record.generation <= applied_) continue;
    if (record.generation > last + 1) {
      // What went below beside the journal before it was lost with the power, and nobody was promised either.
      if (!record.promised) break;
      return damaged("it goes on from a later catalog");
    }
    last = record.generation;
    auto overlay = layers().overlay_of(commit->changes);
    if (!overlay) {
      // Written before a loss of power, and what it builds upon was lost with it: nobody was promised either.
      if (!record.promised && overlay.error().code == Error::invalid_argument) break;
      if (overlay.error().code != Error::invalid_argument) return overlay.error();
      return damaged(overlay.error().detail);
    }
    active_.absorb(*std::move(overlay));
    // All of it goes below as one batch, so that a kill meanwhile leaves all of it to be done.
    generation_ = std::max(generation_, record.generation);
  }
  return write_kept(staged);
}

/// As a loss of power may have left the files, and a kill has not.
Result<> CatalogJournal::write_kept(const std::vector<StagedBytes>& staged) {
  for (const StagedBytes& one : staged) {
    EPHFS_TRY(const auto stripe, layers().stripe(one.stripe));
    // One that is placed, or no more, has no file there.
    if (!stripe || stripe->state == StripeState::placed) continue;
    EPHFS_TRY_VOID(kept_.write(one));
    kept_.note(one.file);
  }
  return {};
}

CatalogLayers CatalogJournal::layers() const {
  return {below_, last_below_, &active_, frozen_ ? &*frozen_ : nullptr};
}

Result<bool> CatalogJournal::commit(const Changes& changes, const std::vector<StagedBytes>& staged) {
  if (changes.empty()) return false;
  static core::Probe probe("stage", "journal commit");
  const core::ProbeScope scope(probe);
  if (is_bulk(changes)) {
    Lock lock(mutex_);
    auto done = commit_below(lock, changes);
    if (done) return false;
    if (done.error().code != Error::no_space) return done.error();
  }
  const core::Bytes payload = is_encodable(changes) ? encode_commit(changes, staged) : core::Bytes();
  const std::uint64_t bytes = JournalFile::record_bytes(payload.size());
  Lock lock(mutex_);
  // On a full disk that has no room for a journal, too: the catalog below has a reserve for what drops something.
  if (payload.empty() || bytes > kRecordBytesMax || !file_.is_ready()) {
    EPHFS_TRY_VOID(commit_below(lock, changes));
    return false;
  }
  EPHFS_TRY_VOID(make_room(lock, bytes, std::ranges::any_of(changes, drops) ? kJournalBytes : kUsualBytes));
  appending_ = true;
  const std::uint64_t generation = generation_;
  const std::uint64_t synced = synced_end_;
  lock.unlock();
  auto overlay = append(generation, synced, payload, changes);
  lock.lock();
  appending_ = false;
  changed_.notify_all();
  if (!overlay) return overlay.error();
  appended_ = file_.used();
  const bool is_first = active_.empty();
  active_.absorb(*std::move(overlay));
  active_bytes_ += bytes;
  for (const StagedBytes& one : staged) {
    active_bytes_ -= one.bytes.size();  // which do not go below
    kept_.note(one.file);
  }
  if (is_first && !frozen_) {
    due_ = std::chrono::steady_clock::now() + kAgeMax;
    wake_.notify_one();
  }
  if (active_bytes_ >= kBatchBytes && !frozen_) demand(generation_);
  return true;
}

/// Nobody else appends meanwhile, and nothing is frozen: the layers change only by the frozen batch coming to be below.
Result<CatalogOverlay> CatalogJournal::append(std::uint64_t generation, std::uint64_t synced, core::ByteView payload,
                                              const Changes& changes) {
  EPHFS_TRY(auto overlay, with_layers([&](const CatalogLayers& layers) { return layers.overlay_of(changes); }));
  EPHFS_TRY_VOID(file_.append(generation, synced, payload));
  return overlay;
}

/// When it returns, it is the caller's turn to append.
Result<> CatalogJournal::make_room(Lock& lock, std::uint64_t bytes, std::uint64_t bound) {
  for (;;) {
    changed_.wait(lock, [this] { return is_idle() && claims_ == 0; });
    if (file_.used() + bytes <= bound) return {};
    const Pause pause(*this, lock);
    EPHFS_TRY_VOID(drain(lock));
    EPHFS_TRY_VOID(clear(lock));
  }
}

Result<> CatalogJournal::commit_below(Lock& lock, const Changes& changes) {
  // Nearly all of it while others commit.
  EPHFS_TRY_VOID(drain(lock));
  const Pause pause(*this, lock);
  EPHFS_TRY_VOID(drain(lock));
  // A number of its own, so that nothing in the journal can be taken for complete without it.
  const std::uint64_t generation = generation_;
  lock.unlock();
  auto done = commit_numbered(changes, generation);
  const auto last = below_.last_inode();
  lock.lock();
  below_unsynced_ = true;
  if (done) {
    applied_ = generation;
    ++generation_;
  }
  if (last) last_below_ = std::max(last_below_, *last);
  if (done && !last) return last.error();
  return done;
}

/// The catalog below gets the changes and the generation that they are, all or nothing.
Result<> CatalogJournal::commit_numbered(const Changes& changes, std::uint64_t generation) {
  core::Bytes number(sizeof generation);
  core::store_le(core::MutableByteView(number), generation);
  Changes numbered = changes;
  numbered.emplace_back(PutValue{kAppliedSetting, std::move(number)});
  return below_.commit(numbered);
}

Result<> CatalogJournal::drain() {
  Lock lock(mutex_);
  return drain(lock);
}

Result<> CatalogJournal::drain(Lock& lock) {
  if (is_drained()) return {};
  const std::uint64_t target = active_.empty() ? generation_ - 1 : generation_;
  const std::uint64_t failures = failures_;
  demand(target);
  changed_.wait(lock, [&] { return applied_ >= target || failures_ != failures; });
  if (applied_ < target) return failure_;
  return {};
}

void CatalogJournal::demand(std::uint64_t generation) {
  demanded_ = std::max(demanded_, generation);
  wake_.notify_one();
}

Result<> CatalogJournal::scrub() {
  Lock lock(mutex_);
  // Nearly all of it while others commit.
  EPHFS_TRY_VOID(drain(lock));
  lock.unlock();
  EPHFS_TRY_VOID(below_.sync());
  lock.lock();
  const Pause pause(*this, lock);
  if (!file_.is_ready()) {
    // A disk that was full may have room by now.
    if (auto prepared = file_.prepare(); !prepared && prepared.error().code != Error::no_space) return prepared;
  }
  EPHFS_TRY_VOID(drain(lock));
  return clear(lock);
}

/// Commits are paused, or there are none yet or no more; everything is below.
Result<> CatalogJournal::clear(Lock& lock) {
  if (file_.is_clean()) return {};
  // What has been synced as a record in the journal must not be lost with it.
  lock.unlock();
  const std::lock_guard syncing(sync_mutex_);
  auto cleared = below_.sync();
  if (cleared) cleared = kept_.sync();
  if (cleared) cleared = file_.clear();
  lock.lock();
  if (!cleared) return cleared;
  below_unsynced_ = false;
  ++clearings_;
  appended_ = synced_end_ = 0;
  return {};
}

Result<> CatalogJournal::sync() {
  static core::Probe probe("stage", "journal sync");
  const core::ProbeScope scope(probe);
  Lock lock(mutex_);
  const std::uint64_t clearings = clearings_;
  const std::uint64_t end = appended_;
  lock.unlock();
  const std::lock_guard syncing(sync_mutex_);
  lock.lock();
  const bool below_unsynced = std::exchange(below_unsynced_, false);
  const bool is_synced = clearings != clearings_ || synced_end_ >= end;
  const std::uint64_t clearings_now = clearings_;
  const std::uint64_t end_now = appended_;
  lock.unlock();
  // The catalog below first: records in the journal build upon what it was given beside them.
  auto done = below_unsynced ? below_.sync() : Result<>();
  if (done && !is_synced) done = file_.sync();
  lock.lock();
  if (!done) {
    below_unsynced_ = below_unsynced_ || below_unsynced;
    return done;
  }
  if (!is_synced && clearings_ == clearings_now) synced_end_ = end_now;
  return {};
}

InodeNumber CatalogJournal::last_inode() {
  const std::shared_lock lock(mutex_);
  return std::max(active_.last_inode(), frozen_ ? frozen_->last_inode() : InodeNumber{});
}

StripeNumber CatalogJournal::last_stripe() {
  const std::shared_lock lock(mutex_);
  const auto last = [](const CatalogOverlay& overlay) {
    return overlay.stripes().empty() ? StripeNumber{} : overlay.stripes().rbegin()->first;
  };
  return std::max(last(active_), frozen_ ? last(*frozen_) : StripeNumber{});
}

bool CatalogJournal::has_dead_files() {
  const std::shared_lock lock(mutex_);
  return active_.has_dead_files() || (frozen_ && frozen_->has_dead_files());
}

bool CatalogJournal::has_placements() {
  const std::shared_lock lock(mutex_);
  return !active_.placements().empty() || (frozen_ && !frozen_->placements().empty());
}

bool CatalogJournal::has_removals() {
  const std::shared_lock lock(mutex_);
  return active_.has_removals() || (frozen_ && frozen_->has_removals());
}

void CatalogJournal::run() {
  Lock lock(mutex_);
  for (;;) {
    const auto is_wanted = [this] { return stopping_ || demanded_ > applied_; };
    if (is_drained()) {
      wake_.wait(lock, [&] { return is_wanted() || !is_drained(); });
    } else if (!wake_.wait_until(lock, due_, is_wanted)) {
      demanded_ = frozen_ ? generation_ - 1 : generation_;
    }
    if (stopping_) return;
    if (!is_wanted()) continue;
    apply_batch(lock);
    changed_.notify_all();
  }
}

void CatalogJournal::apply_batch(Lock& lock) {
  const Claim claim(*this, lock, true);
  if (!active_.empty() || !frozen_) {
    last_below_ = std::max(last_below_, active_.last_inode());
    auto active = std::exchange(active_, CatalogOverlay());
    // On a full disk, what has been dropped since makes the room that the batch did not get.
    if (frozen_) {
      frozen_->absorb(std::move(active));
    } else {
      frozen_ = std::move(active);
    }
    active_bytes_ = 0;
    ++generation_;
  }
  const std::uint64_t batch = generation_ - 1;
  lock.unlock();
  auto done = commit_numbered(frozen_->to_changes(), batch);
  lock.lock();
  due_ = std::chrono::steady_clock::now() + kAgeMax;
  if (!done) {
    failure_ = done.error();
    ++failures_;
    demanded_ = applied_;  // until somebody needs it again, or the next try is due
    return;
  }
  applied_ = batch;
  frozen_.reset();
  if (active_bytes_ >= kBatchBytes) demanded_ = std::max(demanded_, generation_);
}

}  // namespace ephfs::meta
