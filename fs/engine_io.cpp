// SPDX-License-Identifier: Apache-2.0
// Reading and writing open files.
#include <algorithm>

#include <fcntl.h>

#include "fs/engine_state.hpp"
#include "fs/read_parts.hpp"

namespace ephfs::fs {
namespace {

constexpr std::uint64_t kReadSlack = std::uint64_t{1} << 20U;      // the kernel's readahead asks out of order
constexpr std::uint64_t kReadaheadStep = std::uint64_t{1} << 20U;  // how often a sequential reader looks ahead
constexpr std::uint64_t kReadaheadBytes = 2 * kStripeBytes;
constexpr std::uint32_t kSequentialReads = 2;  // in a row, before anything is read ahead
constexpr unsigned kReplansMax = 3;
/// How much of one file may be dirty in pieces that are no whole stripes, before its age or the mount's bound flushes
/// it.
constexpr std::uint64_t kScatteredBytesMax = 4 * kStripeBytes;
constexpr std::int64_t kRelatimeNs = std::int64_t{24} * 3600 * 1'000'000'000;

/// Notes a read in the descriptor. Whether it goes on where the one before it ended.
bool note_read(OpenFile& file, std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t end = offset + length;
  const std::uint64_t next = file.next_offset;
  const bool goes_on = offset + kReadSlack >= next && offset <= next + kReadSlack;
  file.next_offset = goes_on ? std::max(next, end) : end;
  file.sequential = goes_on ? file.sequential + 1 : 0;
  return goes_on;
}

struct PlannedRead {
  ReadPlan plan;
  std::vector<StripeNumber> ahead;  // stripes a sequential reader will want next
  bool touches = false;             // access time or deadline change by this read
};

bool wants_access_time(const EngineState& state, const meta::InodeRecord& record, int flags, meta::FileTime now) {
  if (state.options.access_times == AccessTimes::none || (flags & O_NOATIME) != 0) return false;
  return record.accessed <= record.modified || record.accessed <= record.changed ||
         now.ns - record.accessed.ns > kRelatimeNs;
}

/// Whether it dies within kDropsBegin; then nothing keeps this thread.
bool hurry_near_death(const EngineState& state, const Inode& inode, core::Instant now) {
  const bool dies_soon = inode.deadline().passed(now + kDropsBegin);
  if (dies_soon && state.kernel != nullptr) state.kernel->hurry();
  return dies_soon;
}

/// Copies what is in memory and plans the rest. stale for a file that died or is removed.
Result<PlannedRead> plan(EngineState& state, Inode& inode, const OpenFile& file, std::uint64_t offset,
                         core::MutableByteView out) {
  const core::Instant now = state.clock.now();
  if (inode.is_gone(now)) return core::fail(core::Error::stale);
  const bool dies_soon = hurry_near_death(state, inode, now);
  if (state.kernel != nullptr && (dies_soon || reread_after(state, inode).count() > 0)) {
    state.kernel->pages_read(inode.number);
  }
  std::shared_lock lock(inode.mutex);
  if (inode.removed) return core::fail(core::Error::stale);
  while (!inode.data) {
    lock.unlock();
    {
      const std::unique_lock exclusive(inode.mutex);
      EPHFS_TRY_VOID(load_data(state, inode));
    }
    lock.lock();
  }
  PlannedRead planned;
  planned.plan = inode.data->plan_read(offset, out, inode.record.size);
  planned.touches =
      !state.options.read_only && (inode.record.ttl_mode == meta::TtlMode::accessed ||
                                   wants_access_time(state, inode.record, file.flags, file_time_now(state.clock)));
  const std::uint64_t end = offset + planned.plan.length;
  const bool steps = offset / kReadaheadStep != end / kReadaheadStep || file.sequential == kSequentialReads;
  if (file.sequential >= kSequentialReads && steps) {
    for (const auto& extent : inode.data->extents().overlapping(end, end + kReadaheadBytes)) {
      if (planned.ahead.empty() || planned.ahead.back() != extent.stripe) planned.ahead.push_back(extent.stripe);
    }
  }
  return planned;
}

void touch(EngineState& state, const std::shared_ptr<Inode>& inode, int flags) {
  bool slid = false;
  {
    const std::unique_lock lock(inode->mutex);
    if (inode->removed) return;
    const auto now = file_time_now(state.clock);
    if (wants_access_time(state, inode->record, flags, now)) {
      // Goes to the catalog with the next flush, or when the file is closed.
      inode->record.accessed = now;
      inode->record_dirty = true;
    }
    slid = slide_deadline(state, *inode, false);
    if (slid) {
      inode->record_dirty = true;
      mark_dirty(state, inode, 0);
    }
  }
  if (slid) deadline_changed(state, inode);
}

/// After the bytes are there: whether the reader may still have them.
Result<std::size_t> finish_read(EngineState& state, const std::shared_ptr<Inode>& inode, const OpenFile& file,
                                const PlannedRead& planned) {
  EPHFS_TRY_VOID(check_alive(state, *inode, true));
  if (planned.touches) touch(state, inode, file.flags);
  return planned.plan.length;
}

core::Failure changes_too_fast(const Inode& inode) {
  return core::fail(core::Error::io,
                    "inode " + std::to_string(inode.number.value) + ": a stripe that it names is no more");
}

/// Flushes what is dirty for longest until `adding` more bytes are within the mount's bound. No inode lock
/// held.
Result<> make_room(EngineState& state, std::uint64_t adding) {
  Result<> failed;
  std::pair<core::Boottime, InodeNumber> after{core::Boottime{-1}, InodeNumber{}};
  while (state.dirty.bytes + adding > state.options.dirty_bytes) {
    std::shared_ptr<Inode> oldest;
    {
      const std::lock_guard lock(state.dirty.mutex);
      const auto found = state.dirty.by_age.upper_bound(after);
      // Nothing left to flush: a write larger than the bound passes alone.
      if (found == state.dirty.by_age.end()) return failed;
      after = found->first;
      oldest = found->second;
    }
    const std::unique_lock lock(oldest->mutex);
    auto flushed = flush_inode(state, oldest);
    if (flushed) continue;
    if (flushed.error().code == core::Error::would_block) return flushed;
    // Another file's trouble is this writer's only when no room can be made without it.
    failed = std::move(flushed);
  }
  return {};
}

/// How much of [offset, offset + length) takes up no room yet.
std::uint64_t new_bytes(const FileData& data, std::uint64_t offset, std::uint64_t length) {
  std::uint64_t held = 0;
  const std::uint64_t end = offset + length;
  for (const auto& run : data.dirty().overlapping(offset, end)) held += run.bytes.size();
  for (const auto& extent : data.extents().overlapping(offset, end)) {
    held += std::min(end, extent.offset + extent.length) - std::max(offset, extent.offset);
  }
  return length - std::min(held, length);
}

Result<> check_range(std::uint64_t offset, std::uint64_t length) {
  if (offset > kFileBytesMax || length > kFileBytesMax - offset) return core::fail(core::Error::file_too_large);
  return {};
}

Result<> write_now(EngineState& state, const std::shared_ptr<Inode>& inode, int flags, std::uint64_t offset,
                   core::ByteView bytes) {
  EPHFS_TRY_VOID(check_range(offset, bytes.size()));
  EPHFS_TRY_VOID(check_alive(state, *inode, true));
  if (bytes.empty()) return {};
  (void)hurry_near_death(state, *inode, state.clock.now());
  EPHFS_TRY_VOID(make_room(state, bytes.size()));
  Result<> flushed;
  bool slid = false;
  {
    const std::unique_lock lock(inode->mutex);
    if (inode->removed) return core::fail(core::Error::stale);
    EPHFS_TRY_VOID(check_alive(state, *inode, true));
    EPHFS_TRY_VOID(load_data(state, *inode));
    if ((flags & O_APPEND) != 0) {
      offset = inode->record.size;
      EPHFS_TRY_VOID(check_range(offset, bytes.size()));
    }
    auto& data = *inode->data;
    if (state.options.capacity != 0) EPHFS_TRY_VOID(check_capacity(state, new_bytes(data, offset, bytes.size())));
    const std::uint64_t before = data.dirty().bytes();
    data.dirty().write(offset, bytes);
    inode->record.size = std::max(inode->record.size, offset + bytes.size());
    inode->record.modified = inode->record.changed = file_time_now(state.clock);
    inode->record_dirty = true;
    slid = slide_deadline(state, *inode, true);
    mark_dirty(state, inode, static_cast<std::int64_t>(data.dirty().bytes() - before));
    if (data.dirty().full_runs() > 0) {
      flushed = flush_whole_runs(state, inode);
    } else if (data.dirty().bytes() >= kScatteredBytesMax) {
      flushed = flush_inode(state, inode);
    }
  }
  if (slid) deadline_changed(state, inode);
  // With staging full the bytes stay in memory, within the mount's bound: they are written as far as the
  // caller goes.
  if (!flushed && flushed.error().code == core::Error::would_block) return {};
  return flushed;
}

}  // namespace

Result<std::size_t> Engine::try_read(OpenFile& file, std::uint64_t offset, core::MutableByteView out) {
  const auto inode = file.inode;
  note_read(file, offset, out.size());
  for (unsigned attempt = 0; attempt <= kReplansMax; ++attempt) {
    EPHFS_TRY(const auto planned, plan(*state_, *inode, file, offset, out));
    for (const StripeNumber stripe : planned.ahead) state_->stripes->prefetch(stripe);
    auto got = try_read_parts(*state_->stripes, planned.plan, out);
    if (got) return finish_read(*state_, inode, file, planned);
    if (got.error().code != core::Error::not_found) return got.error();
  }
  return changes_too_fast(*inode);
}

awaitable<Result<std::size_t>> Engine::read(std::shared_ptr<OpenFile> file, std::uint64_t offset,
                                            core::MutableByteView out, std::stop_token stop) {
  const auto inode = file->inode;
  // Usually try_read() has just noted this very read.
  if (file->next_offset != offset + out.size()) note_read(*file, offset, out.size());
  const bool sequential = file->sequential > 0;
  const core::Boottime until = state_->clock.boot_now() + state_->options.peer_timeout;
  for (unsigned attempt = 0; attempt <= kReplansMax;) {
    EPHFS_CO_TRY(const auto planned, plan(*state_, *inode, *file, offset, out));
    for (const StripeNumber stripe : planned.ahead) state_->stripes->prefetch(stripe);
    const net::CallLimits limits{while_alive(*state_, *inode, until), stop};
    auto got = co_await read_parts(*state_->stripes, planned.plan, out, sequential, limits);
    // Whatever became of it: the deadline may have passed meanwhile.
    EPHFS_CO_TRY_VOID(check_alive(*state_, *inode, true));
    if (got) co_return finish_read(*state_, inode, *file, planned);
    // Cut short by a deadline that has been extended since.
    if (limits.until < until && state_->clock.boot_now() >= limits.until) continue;
    if (got.error().code != core::Error::not_found) co_return got.error();
    ++attempt;
  }
  co_return changes_too_fast(*inode);
}

Result<> Engine::try_write(OpenFile& file, std::uint64_t offset, core::ByteView bytes) {
  return write_now(*state_, file.inode, file.flags, offset, bytes);
}

awaitable<Result<>> Engine::write(std::shared_ptr<OpenFile> file, std::uint64_t offset, core::Bytes bytes,
                                  std::stop_token stop) {
  const auto inode = file->inode;
  const WipeAtEnd wipe(bytes);
  const core::Boottime until = state_->clock.boot_now() + state_->options.peer_timeout;
  for (;;) {
    auto written = write_now(*state_, inode, file->flags, offset, bytes);
    if (written || written.error().code != core::Error::would_block) co_return written;
    const core::Boottime bound = while_alive(*state_, *inode, until);
    auto room = co_await wait_for_room(*state_, bound, stop);
    EPHFS_CO_TRY_VOID(check_alive(*state_, *inode, true));
    // A wait that was cut short by a deadline which has been extended since goes on.
    if (!room && (bound == until || state_->clock.boot_now() < bound)) co_return room;
  }
}

Result<> Engine::try_fsync(OpenFile& file) {
  if (state_->options.durability != Durability::local) return core::fail(core::Error::would_block);
  const auto inode = file.inode;
  EPHFS_TRY_VOID(check_alive(*state_, *inode, true));
  std::vector<FileData::Unsettled> unsettled;
  {
    const std::unique_lock lock(inode->mutex);
    EPHFS_TRY_VOID(flush_inode(*state_, inode));
    // Nothing is promised of a file without names: it goes with its last descriptor.
    if (inode->data && inode->record.links > 0) unsettled = inode->data->unsettled();
  }
  if (!unsettled.empty()) {
    std::vector<StripeNumber> stripes;
    stripes.reserve(unsettled.size());
    for (const auto& one : unsettled) stripes.push_back(one.stripe);
    auto synced = state_->stripes->sync(stripes);
    if (!synced && synced.error().code == core::Error::not_found) return core::fail(core::Error::would_block);
    EPHFS_TRY_VOID(std::move(synced));
    const std::unique_lock lock(inode->mutex);
    if (inode->data) inode->data->note_settled(unsettled);
  }
  EPHFS_TRY_VOID(check_alive(*state_, *inode, true));
  return state_->catalog->sync();
}

}  // namespace ephfs::fs
