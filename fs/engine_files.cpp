// SPDX-License-Identifier: Apache-2.0
// Open files, apart from reading and writing: opening and closing, flush and fsync, holes, seeking, copying.
#include <algorithm>

#include <fcntl.h>

#include "fs/engine_state.hpp"
#include "fs/maintenance.hpp"

namespace ephfs::fs {
namespace {

constexpr std::size_t kCopyChunk = std::size_t{1} << 20U;
constexpr unsigned kSettleAttempts = 4;  // stripes can go while they are being settled: overwritten, compacted

/// Exclusive lock held. Commits a change of content; memory is as it was when that fails.
Result<> commit_content(EngineState& state, const std::shared_ptr<Inode>& inode, ContentUndo undo,
                        const meta::InodeRecord& before, meta::Changes changes) {
  changes.emplace_back(meta::PutInode{inode->record});
  auto committed = state.catalog->commit(changes);
  if (committed) {
    content_committed(state, undo);
    return committed;
  }
  inode->record = before;
  undo_content(state, *inode, std::move(undo));
  return committed;
}

void touch_content(const EngineState& state, Inode& inode) {
  inode.record.modified = inode.record.changed = file_time_now(state.clock);
}

/// Exclusive lock held. The ordinary resize with a commit of its own.
Result<> set_size(EngineState& state, const std::shared_ptr<Inode>& inode, std::uint64_t size) {
  const meta::InodeRecord before = inode->record;
  meta::Changes changes;
  EPHFS_TRY(auto undo, resize(state, *inode, size, changes));
  touch_content(state, *inode);
  return commit_content(state, inode, std::move(undo), before, std::move(changes));
}

/// Exclusive lock held. A hole in [from, to), and the size grown to `size` when that is more.
Result<> make_hole(EngineState& state, const std::shared_ptr<Inode>& inode, std::uint64_t from, std::uint64_t to,
                   std::uint64_t size) {
  const meta::InodeRecord before = inode->record;
  meta::Changes changes;
  EPHFS_TRY(auto undo, punch(state, *inode, from, to, changes));
  inode->record.size = std::max(inode->record.size, size);
  touch_content(state, *inode);
  return commit_content(state, inode, std::move(undo), before, std::move(changes));
}

/// Makes the file's stripes as safe as fsync promises.
awaitable<Result<>> settle_stripes(EngineState& state, std::shared_ptr<Inode> inode, core::Boottime until) {
  for (unsigned attempt = 1;; ++attempt) {
    std::vector<FileData::Unsettled> unsettled;
    {
      const std::shared_lock lock(inode->mutex);
      // Nothing is promised of a file without names: it goes with its last descriptor.
      if (inode->data && inode->record.links > 0) unsettled = inode->data->unsettled();
    }
    if (unsettled.empty()) co_return Result<>{};
    std::vector<StripeNumber> stripes;
    stripes.reserve(unsettled.size());
    for (const auto& one : unsettled) stripes.push_back(one.stripe);
    Result<> settled;
    if (state.options.durability == Durability::local) {
      settled = state.stripes->sync(stripes);
    } else {
      settled = co_await state.stripes->settle(std::move(stripes), state.options.durability, until);
    }
    if (settled) {
      const std::unique_lock lock(inode->mutex);
      if (inode->data) inode->data->note_settled(unsettled);
      co_return settled;
    }
    if (settled.error().code != core::Error::not_found || attempt == kSettleAttempts) co_return settled;
  }
}

/// Lets a closed file's key and extent map go, when nothing of them is needed any more. Where the map is
/// short it is kept as rows: a file that is opened again, or dies, has not to ask the catalog for it.
void unload(Inode& inode) {
  constexpr std::size_t kExtentsKeptMax = 2;
  if (inode.handles > 0 || !inode.data || !inode.data->dirty().empty()) return;
  inode.allocated = inode.data->allocated();
  if (inode.data->extents().size() <= kExtentsKeptMax) inode.extents_kept = inode.data->extents().all();
  inode.data.reset();
}

}  // namespace

Result<std::shared_ptr<OpenFile>> open_inode(EngineState& state, std::shared_ptr<Inode> inode, int flags) {
  EPHFS_TRY_VOID(check_alive(state, *inode, false));
  if (inode->is_directory()) return core::fail(core::Error::is_directory);
  if (!inode->is_regular()) return core::fail(core::Error::invalid_argument, "only regular files are opened");
  auto file = std::make_shared<OpenFile>();
  file->inode = inode;
  file->flags = flags;
  std::unique_lock lock(inode->mutex);
  if (inode->removed) return core::fail(core::Error::not_found);
  EPHFS_TRY_VOID(load_data(state, *inode));
  bool slid = false;
  if ((flags & O_TRUNC) != 0) {
    if (inode->record.size > 0) EPHFS_TRY_VOID(set_size(state, inode, 0));
    slid = slide_deadline(state, *inode, true);
    if (slid) mark_dirty(state, inode, 0);
  }
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  const bool tells_more = inode->handles++ == 0 || (writes && !inode->is_written);
  if (writes) inode->is_written = true;
  const PageWatch watch = page_watch(state, *inode);
  file->keeps_pages = watch.reread.count() == 0;
  if (tells_more && state.kernel != nullptr && !watch.deadline.is_never()) state.kernel->watch(inode->number, watch);
  lock.unlock();
  if (slid) deadline_changed(state, inode);
  return file;
}

Result<std::shared_ptr<OpenFile>> Engine::open_file(InodeNumber number, int flags) {
  EPHFS_TRY(auto inode, live_inode(*state_, number));
  return open_inode(*state_, std::move(inode), flags);
}

void Engine::release(const std::shared_ptr<OpenFile>& file) {
  // The descriptor holds the inode no longer, so that the table can let it go.
  auto inode = std::exchange(file->inode, nullptr);
  if (!inode) return;
  const InodeNumber number = inode->number;
  bool has_names = true;
  bool is_last = false;
  {
    const std::unique_lock lock(inode->mutex);
    is_last = --inode->handles == 0;
    has_names = inode->record.links > 0 || inode->removed;
    if (is_last && !inode->removed) {
      // An access time that no flush took along.
      if (inode->record_dirty && has_names) mark_dirty(*state_, inode, 0);
      unload(*inode);
    }
    if (is_last) inode->is_written = false;
    if (is_last && state_->kernel != nullptr) state_->kernel->unwatch(number);
  }
  if (!is_last) return;
  if (!has_names) close_inode(*state_, inode);
  inode.reset();
  state_->inodes.release(number);
}

Result<> Engine::try_flush(OpenFile& file) {
  const auto inode = file.inode;
  // To close what has died is no failure: there is nothing left to save.
  if (inode->is_gone(state_->clock.confirmed_now())) return {};
  const std::unique_lock lock(inode->mutex);
  // A reader's access time waits for the last descriptor to be closed; a writer's times are part of what he
  // wrote.
  const bool owes_times = inode->record_dirty && (file.flags & O_ACCMODE) != O_RDONLY;
  if (!owes_times && (!inode->data || inode->data->dirty().empty())) return {};
  return flush_inode(*state_, inode);
}

awaitable<Result<>> Engine::flush(std::shared_ptr<OpenFile> file) {
  const auto inode = file->inode;
  const core::Boottime until = state_->clock.boot_now() + state_->options.peer_timeout;
  if (inode->is_gone(state_->clock.confirmed_now())) co_return Result<>{};
  co_return co_await flush_waiting(*state_, inode, until);
}

Result<> Engine::try_fsync(OpenFile& file) {
  if (state_->options.durability != Durability::local) return core::fail(core::Error::would_block);
  const auto inode = file.inode;
  EPHFS_TRY_VOID(check_alive(*state_, *inode, true));
  std::vector<FileData::Unsettled> unsettled;
  {
    const std::unique_lock lock(inode->mutex);
    EPHFS_TRY_VOID(flush_to_sync(*state_, inode));
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

awaitable<Result<>> Engine::fsync(std::shared_ptr<OpenFile> file) {
  const auto inode = file->inode;
  const core::Boottime until = state_->clock.boot_now() + state_->options.peer_timeout;
  EPHFS_CO_TRY_VOID(check_alive(*state_, *inode, true));
  auto done = co_await flush_waiting(*state_, inode, until);
  if (done) done = co_await settle_stripes(*state_, inode, until);
  EPHFS_CO_TRY_VOID(check_alive(*state_, *inode, true));
  if (!done) co_return done;
  co_return state_->catalog->sync();
}

Result<> Engine::sync_directory(InodeNumber number) {
  EPHFS_TRY_VOID(live_inode(*state_, number, true));
  return state_->catalog->sync();
}

Result<> Engine::allocate(OpenFile& file, Allocation how, std::uint64_t offset, std::uint64_t length) {
  const auto inode = file.inode;
  if (length == 0) return core::fail(core::Error::invalid_argument);
  if (offset > kFileBytesMax || length > kFileBytesMax - offset) return core::fail(core::Error::file_too_large);
  const std::uint64_t end = offset + length;
  EPHFS_TRY_VOID(check_alive(*state_, *inode, true));
  const std::unique_lock lock(inode->mutex);
  if (inode->removed) return core::fail(core::Error::stale);
  EPHFS_TRY_VOID(load_data(*state_, *inode));
  const std::uint64_t size = inode->record.size;
  switch (how) {
    case Allocation::extend:
    case Allocation::keep_size:
      // Room is not set aside: a log has none to set aside in. What is not there is refused at once.
      EPHFS_TRY_VOID(check_capacity(*state_, length));
      if (how == Allocation::keep_size || end <= size) return {};
      return set_size(*state_, inode, end);
    case Allocation::punch_hole:
    case Allocation::zero_range_keep_size:
      return make_hole(*state_, inode, offset, end, size);
    case Allocation::zero_range:
      return make_hole(*state_, inode, offset, end, end);
  }
  return core::fail(core::Error::not_supported);
}

Result<std::uint64_t> Engine::seek(OpenFile& file, SeekTo what, std::uint64_t from) {
  const auto inode = file.inode;
  EPHFS_TRY_VOID(check_alive(*state_, *inode, true));
  {
    const std::unique_lock lock(inode->mutex);
    if (inode->removed) return core::fail(core::Error::stale);
    EPHFS_TRY_VOID(load_data(*state_, *inode));
  }
  const std::shared_lock lock(inode->mutex);
  const std::uint64_t size = inode->record.size;
  if (!inode->data) return core::fail(core::Error::stale);
  if (from >= size) return core::fail(core::Error::not_found, "past the end");
  if (what == SeekTo::hole) return inode->data->seek_hole(from, size);
  const auto data = inode->data->seek_data(from, size);
  if (!data) return core::fail(core::Error::not_found, "no data behind");
  return *data;
}

awaitable<Result<std::size_t>> Engine::copy_range(std::shared_ptr<OpenFile> from, std::uint64_t from_offset,
                                                  std::shared_ptr<OpenFile> to, std::uint64_t to_offset,
                                                  std::size_t length) {
  const std::uint64_t farthest = std::max(from_offset, to_offset);
  if (farthest > kFileBytesMax || length > kFileBytesMax - farthest) co_return core::fail(core::Error::file_too_large);
  EPHFS_CO_TRY_VOID(check_alive(*state_, *from->inode, true));
  EPHFS_CO_TRY_VOID(check_alive(*state_, *to->inode, true));
  {
    // What the copying itself adds to the file is not copied.
    const auto source = from->inode;
    const std::shared_lock lock(source->mutex);
    const std::uint64_t size = source->record.size;
    length = from_offset < size ? std::min<std::uint64_t>(length, size - from_offset) : 0;
  }
  // Overlapping ranges of one file are what the kernel refuses, too.
  const bool apart = from_offset + length <= to_offset || to_offset + length <= from_offset;
  if (from->inode == to->inode && !apart) {
    co_return core::fail(core::Error::invalid_argument, "the ranges overlap");
  }
  std::size_t copied = 0;
  while (copied < length) {
    core::Bytes chunk(std::min(kCopyChunk, length - copied));
    const WipeAtEnd wipe(chunk);
    const core::MutableByteView view(chunk);
    auto got = co_await read(from, from_offset + copied, view, {});
    Result<> put;
    if (got && *got > 0) {
      chunk.resize(*got);
      put = co_await write(to, to_offset + copied, std::move(chunk), {});
    }
    // What is copied stays copied; a failure shows when nothing is, so that the next call meets it.
    if (!got || !put) {
      if (copied > 0) break;
      co_return got ? put.error() : got.error();
    }
    if (*got == 0) break;
    copied += *got;
  }
  co_return copied;
}

}  // namespace ephfs::fs
