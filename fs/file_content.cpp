// SPDX-License-Identifier: Apache-2.0
// From dirty ranges to committed extents, and the changes of content that commit at once: truncation and
// holes.
#include <algorithm>
#include <limits>
#include <unordered_set>

#include <sys/stat.h>

#include "core/erasure.hpp"
#include "fs/engine_state.hpp"
#include "fs/maintenance.hpp"
#include "fs/scrubber.hpp"

namespace ephfs::fs {
namespace {

constexpr auto kRoomSlice = std::chrono::milliseconds(250);  // how soon a writer that waits for room can be interrupted
constexpr auto kRoomPause = std::chrono::milliseconds(2);    // between attempts, where room is there and then is not
/// Small runs are staged together, up to as much: one key and one write serve them.
constexpr std::uint64_t kStagedTogether = std::uint64_t{256} << 10U;

/// Takes an inode off the list of what is dirty, unless something of it still is.
void unlist_if_clean(EngineState& state, const Inode& inode) {
  const bool is_dirty = inode.record_dirty || (inode.data && !inode.data->dirty().empty());
  // What is dead for certain waits for the reaper, and for no flush.
  if (is_dirty && !inode.removed && !inode.is_gone(state.clock.confirmed_now())) return;
  std::shared_ptr<Inode> unlisted;  // let go of after the list's lock
  const std::lock_guard lock(state.dirty.mutex);
  const auto found = state.dirty.since.find(inode.number);
  if (found == state.dirty.since.end()) return;
  auto node = state.dirty.by_age.extract({found->second, inode.number});
  if (node) unlisted = std::move(node.mapped());
  state.dirty.since.erase(found);
}

bool gives_up_bytes(const meta::Changes& changes) {
  return std::any_of(changes.begin(), changes.end(),
                     [](const meta::Change& change) { return std::holds_alternative<meta::DropExtent>(change); });
}

/// Where rows of one file's extents change several times from the one numbered `first` on, only the last of each
/// counts: an extent that is cut by many small writes is put once.
void keep_last_of_each(meta::Changes& changes, std::ptrdiff_t first) {
  std::unordered_set<std::uint64_t> seen;
  const auto is_old = [&seen](const meta::Change& change) {
    if (const auto* put = std::get_if<meta::PutExtent>(&change)) return !seen.insert(put->extent.offset).second;
    if (const auto* drop = std::get_if<meta::DropExtent>(&change)) return !seen.insert(drop->offset).second;
    return false;
  };
  // From the last to the first; what is kept moves to the end, in its order.
  auto kept = changes.end();
  for (auto at = changes.end(); at != changes.begin() + first;) {
    --at;
    if (is_old(*at)) continue;
    --kept;
    if (kept != at) *kept = std::move(*at);
  }
  changes.erase(changes.begin() + first, kept);
}

/// Something in stripes died: they may be dead now, or mostly.
void note_garbage(EngineState& state) {
  state.stripes->collect_soon();
  if (state.maintenance) state.maintenance->compact_soon();
}

/// Commits what is staged, with the record when it is dirty; nothing in `done` is dirty any more.
Result<> commit_content(EngineState& state, const std::shared_ptr<Inode>& inode, StagedContent& staged,
                        meta::Changes with, const std::vector<std::pair<std::uint64_t, std::uint64_t>>& done) {
  const bool with_record = inode->record_dirty && !inode->removed;
  if (with_record) with.emplace_back(meta::PutInode{inode->record});
  if (!with.empty() || !staged.empty()) EPHFS_TRY_VOID(staged.commit(std::move(with)));
  if (with_record) inode->record_dirty = false;
  if (inode->data) {
    auto& dirty = inode->data->dirty();
    const std::uint64_t before = dirty.bytes();
    for (const auto& [from, to] : done) dirty.erase(from, to);
    state.dirty.bytes -= before - dirty.bytes();
  }
  unlist_if_clean(state, *inode);
  return {};
}

Result<> flush_runs(EngineState& state, const std::shared_ptr<Inode>& inode, meta::Changes with,
                    std::vector<DirtyRanges::Run> runs, bool synced_soon = false) {
  StagedContent staged(state, *inode, synced_soon);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> done;
  Result<> stopped;
  for (auto first = runs.begin(); first != runs.end() && stopped;) {
    auto last = first;
    std::uint64_t bytes = 0;
    do {
      bytes += last->bytes.size();
      ++last;
    } while (last != runs.end() && bytes + last->bytes.size() <= kStagedTogether);
    stopped = staged.stage({first, last});
    for (; stopped && first != last; ++first) done.emplace_back(first->offset, first->end());
  }
  if (!stopped && done.empty()) return stopped;
  if (!stopped) with.clear();
  EPHFS_TRY_VOID(commit_content(state, inode, staged, std::move(with), done));
  return stopped;
}

std::vector<DirtyRanges::Run> runs_to_flush(const EngineState& state, Inode& inode) {
  // What is dead for certain is not worth staging; it is forgotten with the inode.
  if (!inode.data || inode.removed || inode.is_gone(state.clock.confirmed_now())) return {};
  inode.data->dirty().join_neighbours();
  return inode.data->dirty().all();
}

/// Makes [from, to) a hole. The catalog's changes are added, the record's size is not touched.
ContentUndo cut(EngineState& state, Inode& inode, std::uint64_t from, std::uint64_t to, meta::Changes& changes) {
  ContentUndo undo;
  undo.size = inode.record.size;
  if (from >= to) return undo;
  undo.extents = inode.data->extents().save(from, to);
  undo.dirty = inode.data->dirty().take(from, to);
  state.dirty.bytes -= undo.dirty.bytes();
  inode.data->extents().erase(from, to, changes);
  if (!undo.extents.slices.empty()) note_garbage(state);
  return undo;
}

}  // namespace

Result<> load_data(EngineState& state, Inode& inode) {
  if (inode.data) return {};
  if (inode.removed) return core::fail(core::Error::stale);
  if (!S_ISREG(inode.record.mode)) return core::fail(core::Error::invalid_argument, "not a regular file");
  EPHFS_TRY(auto key, unwrap_file_key(state, inode.record));
  std::vector<meta::ExtentRecord> extents;
  // An empty file has none, and nearly every file is empty when it is opened for the first time.
  if (inode.extents_kept) {
    extents = *std::exchange(inode.extents_kept, std::nullopt);
  } else if (inode.record.size > 0) {
    EPHFS_TRY(extents, state.catalog->extents(inode.number));
  }
  inode.data = std::make_unique<FileData>(inode.record.file, std::move(key), ExtentMap(std::move(extents)));
  // What of it is on stable storage is not known: an earlier run may have ended before it was asked to see to
  // it.
  for (const StripeNumber stripe : inode.data->extents().stripes()) inode.data->note_unsettled(stripe);
  return {};
}

StageRequest stage_request(const EngineState& state, const Inode& inode, std::vector<PlainRun> runs) {
  StageRequest request;
  request.inode = inode.number;
  request.cipher = inode.data->cipher();
  request.deadline = inode.record.deadline;
  request.ttl = inode.record.ttl;
  request.profile = inode.record.profile ? inode.record.profile : state.options.profile;
  request.runs = std::move(runs);
  return request;
}

Result<> StagedContent::stage(std::vector<PlainRun> runs) {
  StageRequest request = stage_request(state_, inode_, std::move(runs));
  request.profile = profile();
  request.synced_soon = synced_soon_;
  EPHFS_TRY(auto staged, state_.stripes->stage(request));
  add(std::move(staged));
  return {};
}

void StagedContent::add(Staged staged) {
  extents_.insert(extents_.end(), staged.extents.begin(), staged.extents.end());
  for (auto& change : staged.changes) {
    // An open stripe's record is the same whenever it is committed: once is enough for all extents in it.
    const auto* const stripe = std::get_if<meta::PutStripe>(&change);
    if (stripe != nullptr && !stripes_noted_.insert(stripe->stripe.number).second) continue;
    changes_.push_back(std::move(change));
  }
  std::ranges::move(staged.ciphertext, std::back_inserter(ciphertext_));
  pins_.merge(std::move(staged.pins));
}

/// The profile of what is staged: one for all of it, because finding out how many nodes there are takes system calls.
core::Profile StagedContent::profile() {
  if (!profile_) profile_ = inode_.record.profile ? inode_.record.profile : state_.options.profile;
  if (!profile_) profile_ = core::auto_profile(std::max<std::size_t>(state_.peers.all().size(), 1));
  return *profile_;
}

Result<> StagedContent::commit(meta::Changes with) {
  if (extents_.empty()) return state_.catalog->commit(with);
  auto& extents = inode_.data->extents();
  // The stripes' records come first: extents name them.
  meta::Changes changes = std::move(changes_);
  const auto own = static_cast<std::ptrdiff_t>(changes.size());
  std::vector<ExtentMap::Saved> before;
  before.reserve(extents_.size());
  for (const auto& extent : extents_) {
    before.push_back(extents.save(extent.offset, extent.offset + extent.length));
    extents.put(extent, changes);
  }
  const bool overwrites = gives_up_bytes(changes) || std::any_of(before.begin(), before.end(), [](const auto& saved) {
                            return !saved.slices.empty();
                          });
  keep_last_of_each(changes, own);
  changes.insert(changes.begin() + own, std::make_move_iterator(with.begin()), std::make_move_iterator(with.end()));
  const auto kept = state_.catalog->commit_keeping(changes, ciphertext_);
  if (!kept) {
    for (auto saved = before.rbegin(); saved != before.rend(); ++saved) extents.restore(*saved);
    pins_ = {};
    return kept.error();
  }
  if (*kept) pins_.kept();
  for (const StripeNumber stripe : stripes()) inode_.data->note_unsettled(stripe);
  pins_ = {};
  if (overwrites) note_garbage(state_);
  return {};
}

std::vector<StripeNumber> StagedContent::stripes() const {
  std::vector<StripeNumber> list;
  for (const auto& extent : extents_) list.push_back(extent.stripe);
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

Result<> flush_inode(EngineState& state, const std::shared_ptr<Inode>& inode, meta::Changes with) {
  return flush_runs(state, inode, std::move(with), runs_to_flush(state, *inode));
}

Result<> flush_to_sync(EngineState& state, const std::shared_ptr<Inode>& inode) {
  return flush_runs(state, inode, {}, runs_to_flush(state, *inode), true);
}

Result<> flush_whole_runs(EngineState& state, const std::shared_ptr<Inode>& inode) {
  std::vector<DirtyRanges::Run> full = inode->data->dirty().all();
  std::erase_if(full, [](const auto& run) { return run.bytes.size() < kRunBytesMax; });
  if (full.empty() || inode->is_gone(state.clock.confirmed_now())) return flush_inode(state, inode);
  return flush_runs(state, inode, {}, std::move(full));
}

Result<> commit_staged(EngineState& state, const std::shared_ptr<Inode>& inode, Staged staged, std::uint64_t from,
                       std::uint64_t to) {
  StagedContent content(state, *inode);
  content.add(std::move(staged));
  return commit_content(state, inode, content, {}, {{from, to}});
}

Result<ContentUndo> resize(EngineState& state, Inode& inode, std::uint64_t size, meta::Changes& changes) {
  if (size > kFileBytesMax) return core::fail(core::Error::file_too_large);
  EPHFS_TRY_VOID(load_data(state, inode));
  std::shared_ptr<const core::Key> old_key;
  if (size == 0 && inode.record.size > 0) {
    auto key = core::random_key();
    EPHFS_TRY(inode.record.wrapped_key, wrap_file_key(state, inode.record, key));
    old_key = inode.data->replace_key(std::make_shared<const core::Key>(std::move(key)));
  }
  auto undo = cut(state, inode, size, std::max(size, inode.record.size), changes);
  undo.key = std::move(old_key);
  inode.record.size = size;
  changes.emplace_back(meta::PutInode{inode.record});
  return undo;
}

Result<ContentUndo> punch(EngineState& state, Inode& inode, std::uint64_t from, std::uint64_t to,
                          meta::Changes& changes) {
  EPHFS_TRY_VOID(load_data(state, inode));
  return cut(state, inode, from, std::min(to, inode.record.size), changes);
}

void undo_content(EngineState& state, Inode& inode, ContentUndo undo) {
  inode.record.size = undo.size;
  if (undo.key) (void)inode.data->replace_key(std::move(undo.key));
  inode.data->extents().restore(undo.extents);
  for (const auto& run : undo.dirty.all()) inode.data->dirty().write(run.offset, run.bytes);
  state.dirty.bytes += undo.dirty.bytes();
}

void content_committed(EngineState& state, const ContentUndo& done) {
  if (done.key) state.scrubber->notify();
}

void mark_dirty(EngineState& state, const std::shared_ptr<Inode>& inode, std::int64_t bytes_added) {
  state.dirty.bytes += static_cast<std::uint64_t>(bytes_added);
  bool is_first = false;
  const core::Boottime now = state.clock.boot_now();
  {
    const std::lock_guard lock(state.dirty.mutex);
    if (!state.dirty.since.emplace(inode->number, now).second) return;
    is_first = state.dirty.by_age.empty();
    state.dirty.by_age.emplace(std::pair(now, inode->number), inode);
  }
  if (is_first && state.maintenance) state.maintenance->something_is_dirty(now + state.options.flush_age);
}

void discard_data(EngineState& state, Inode& inode) {
  if (inode.data) state.dirty.bytes -= inode.data->dirty().bytes();
  inode.data.reset();
  inode.extents_kept.reset();
  inode.record_dirty = false;
  unlist_if_clean(state, inode);
  note_garbage(state);
}

Result<> check_capacity(const EngineState& state, std::uint64_t adding) {
  if (state.options.capacity == 0 || adding == 0) return {};
  EPHFS_TRY(const auto totals, state.catalog->totals());
  if (totals.bytes + state.dirty.bytes + adding > state.options.capacity) {
    return core::fail(core::Error::no_space, "the volume's capacity is used up");
  }
  return {};
}

awaitable<Result<>> wait_for_room(EngineState& state, core::Boottime until, std::stop_token stop) {
  for (;;) {
    if (stop.stop_requested()) co_return core::fail(core::Error::interrupted);
    const core::Boottime began = state.clock.boot_now();
    if (began >= until) co_return core::fail(core::Error::timed_out, "staging stays full");
    auto room = co_await state.stripes->room(std::min(until, began + kRoomSlice));
    if (room) {
      // Somebody else may take the room first, again and again: not at the processor's whole speed.
      if (state.clock.boot_now() - began < kRoomPause) co_await core::sleep_for(state.clock, kRoomPause);
      co_return Result<>{};
    }
    if (room.error().code != core::Error::timed_out || state.clock.boot_now() >= until) co_return room;
  }
}

awaitable<Result<>> flush_waiting(EngineState& state, std::shared_ptr<Inode> inode, core::Boottime until) {
  for (;;) {
    Result<> flushed;
    {
      const std::unique_lock lock(inode->mutex);
      flushed = flush_inode(state, inode);
    }
    if (flushed || flushed.error().code != core::Error::would_block) co_return flushed;
    auto room = co_await wait_for_room(state, until);
    if (!room) co_return room;
  }
}

awaitable<Result<>> flush_all(EngineState& state, core::Boottime until) {
  std::vector<std::shared_ptr<Inode>> dirty;
  {
    const std::lock_guard lock(state.dirty.mutex);
    for (const auto& [key, inode] : state.dirty.by_age) dirty.push_back(inode);
  }
  Result<> first;
  for (const auto& inode : dirty) {
    auto flushed = co_await flush_waiting(state, inode, until);
    if (!flushed && first) first = std::move(flushed);
  }
  co_return first;
}

}  // namespace ephfs::fs
