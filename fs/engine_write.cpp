// SPDX-License-Identifier: Apache-2.0
// Writing open files.
#include <tuple>

#include <fcntl.h>

#include "fs/engine_state.hpp"

namespace ephfs::fs {
namespace {

/// How much of one file may be dirty in pieces that are no whole stripes, before its age or the mount's bound flushes
/// it.
constexpr std::uint64_t kScatteredBytesMax = 4 * kStripeBytes;

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

/// Exclusive lock held: whether the file may be written to, and where (at its end, with O_APPEND).
Result<std::uint64_t> begin_write(EngineState& state, Inode& inode, int flags, std::uint64_t offset,
                                  std::uint64_t length) {
  if (inode.removed) return core::fail(core::Error::stale);
  EPHFS_TRY_VOID(check_alive(state, inode, true));
  EPHFS_TRY_VOID(load_data(state, inode));
  if ((flags & O_APPEND) != 0) offset = inode.record.size;
  EPHFS_TRY_VOID(check_range(offset, length));
  if (state.options.capacity != 0) EPHFS_TRY_VOID(check_capacity(state, new_bytes(*inode.data, offset, length)));
  return offset;
}

void note_write(EngineState& state, Inode& inode, std::uint64_t end) {
  inode.record.size = std::max(inode.record.size, end);
  inode.record.modified = inode.record.changed = file_time_now(state.clock);
  inode.record_dirty = true;
}

/// What the bytes of a large write are encrypted for. A change of it meanwhile makes them useless.
struct LargeWrite {
  StageRequest request;
  std::shared_ptr<const core::Key> key;

  LargeWrite(const EngineState& state, const Inode& inode, std::uint64_t offset, core::ByteView bytes)
      : request(stage_request(state, inode, {{offset, bytes}})), key(inode.data->key()) {}
  [[nodiscard]] bool holds_for(const Inode& inode) const {
    return inode.data && inode.data->key() == key && inode.record.deadline == request.deadline &&
           inode.record.ttl == request.ttl;
  }
};

/// A write so large that nothing is gained by keeping it: encrypted from where it is, with others of the same file
/// beside it, and committed at once. would_block when staging is full, or the file changes too fast.
Result<> write_large(EngineState& state, const std::shared_ptr<Inode>& inode, int flags, std::uint64_t offset,
                     core::ByteView bytes) {
  std::optional<LargeWrite> write;
  bool slid = false;
  {
    const std::unique_lock lock(inode->mutex);
    EPHFS_TRY(const auto at, begin_write(state, *inode, flags, offset, bytes.size()));
    slid = slide_deadline(state, *inode, true);
    if (slid) mark_dirty(state, inode, 0);
    write.emplace(state, *inode, at, bytes);
  }
  if (slid) deadline_changed(state, inode);
  EPHFS_TRY(auto staged, state.stripes->stage(write->request));
  const std::unique_lock lock(inode->mutex);
  EPHFS_TRY(const auto at, begin_write(state, *inode, flags, offset, bytes.size()));
  if (at != write->request.runs.front().offset || !write->holds_for(*inode)) {
    return core::fail(core::Error::would_block);
  }
  auto& record = inode->record;
  const auto before = std::tuple(record.size, record.modified, record.changed, inode->record_dirty);
  note_write(state, *inode, at + bytes.size());
  auto written = commit_staged(state, inode, std::move(staged), at, at + bytes.size());
  if (!written) std::tie(record.size, record.modified, record.changed, inode->record_dirty) = before;
  return written;
}

/// Into the dirty ranges, and on when they have become much.
Result<> write_dirty(EngineState& state, const std::shared_ptr<Inode>& inode, int flags, std::uint64_t offset,
                     core::ByteView bytes) {
  EPHFS_TRY_VOID(make_room(state, bytes.size()));
  Result<> flushed;
  bool slid = false;
  {
    const std::unique_lock lock(inode->mutex);
    EPHFS_TRY(offset, begin_write(state, *inode, flags, offset, bytes.size()));
    auto& dirty = inode->data->dirty();
    const std::uint64_t before = dirty.bytes();
    dirty.write(offset, bytes);
    note_write(state, *inode, offset + bytes.size());
    slid = slide_deadline(state, *inode, true);
    mark_dirty(state, inode, static_cast<std::int64_t>(dirty.bytes() - before));
    if (dirty.full_runs() > 0) {
      flushed = flush_whole_runs(state, inode);
    } else if (dirty.bytes() >= kScatteredBytesMax) {
      flushed = flush_inode(state, inode);
    }
  }
  if (slid) deadline_changed(state, inode);
  // With staging full the bytes stay in memory, within the mount's bound: they are written as far as the
  // caller goes.
  if (!flushed && flushed.error().code == core::Error::would_block) return {};
  return flushed;
}

Result<> write_now(EngineState& state, const std::shared_ptr<Inode>& inode, int flags, std::uint64_t offset,
                   core::ByteView bytes) {
  EPHFS_TRY_VOID(check_range(offset, bytes.size()));
  EPHFS_TRY_VOID(check_alive(state, *inode, true));
  if (bytes.empty()) return {};
  (void)hurry_near_death(state, *inode, state.clock.now());
  if (bytes.size() >= kLargeWrite) {
    auto written = write_large(state, inode, flags, offset, bytes);
    if (written || written.error().code != core::Error::would_block) return written;
  }
  return write_dirty(state, inode, flags, offset, bytes);
}

}  // namespace

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

}  // namespace ephfs::fs
