// SPDX-License-Identifier: Apache-2.0
// Reading open files.
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

}  // namespace ephfs::fs
