// SPDX-License-Identifier: Apache-2.0
// The ends of inodes that no name operation brings about: the last close, the deadline, the next mount.
#include "fs/death_record.hpp"
#include "fs/tree_edit.hpp"

namespace ephfs::fs {
namespace {

/// An inode that the catalog holds for dead and memory does not, because it slid on: its row learns of it.
Result<> write_record(EngineState& state, InodeNumber number) {
  const auto inode = state.inodes.find(number);
  if (!inode) return {};
  const std::unique_lock lock(inode->mutex);
  if (inode->removed) return {};
  meta::Changes changes;
  changes.emplace_back(meta::PutInode{inode->record});
  EPHFS_TRY_VOID(state.catalog->commit(changes));
  inode->record_dirty = false;
  return {};
}

}  // namespace

void close_inode(EngineState& state, const std::shared_ptr<Inode>& inode) {
  {
    const std::shared_lock lock(inode->mutex);
    if (inode->removed || inode->record.links > 0) return;
  }
  TreeEdit edit(state);
  {
    const std::lock_guard names(state.namespace_mutex);
    const InodeLocks locks{inode.get()};
    if (inode->removed || inode->record.links > 0 || inode->handles > 0) return;
    edit.remove(inode);
    if (auto committed = edit.commit(); !committed) {
      state.log("removing unlinked inode " + std::to_string(inode->number.value) +
                " is left to the next mount: " + committed.error().message());
      return;
    }
  }
  edit.announce();
}

Result<std::size_t> reap(EngineState& state, core::Instant now, std::size_t limit) {
  TreeEdit edit(state);
  std::size_t reaped = 0;
  {
    const std::lock_guard names(state.namespace_mutex);
    EPHFS_TRY(auto expired, state.catalog->expired_inodes(now, limit));
    reaped = expired.size();
    for (auto& dead : expired) {
      const InodeNumber number = dead.record.number;
      EPHFS_TRY(const bool died, edit.bury(std::move(dead), now));
      if (!died) EPHFS_TRY_VOID(write_record(state, number));
    }
    EPHFS_TRY_VOID(edit.commit());
  }
  edit.announce();
  return reaped;
}

Result<> remove_orphans(EngineState& state) {
  constexpr std::size_t kBatch = 256;
  for (;;) {
    EPHFS_TRY(const auto orphans, state.catalog->orphans(kBatch));
    if (orphans.empty()) return {};
    meta::Changes changes;
    for (const InodeNumber number : orphans) {
      EPHFS_TRY(const auto record, state.catalog->inode(number));
      const bool is_remembered = record && state.options.proof_keep > Milliseconds{0};
      auto dead = is_remembered ? dead_file_of(*record, meta::DeathCause::removed, state.clock.now()) : std::nullopt;
      if (dead) {
        EPHFS_TRY(dead->extents, state.catalog->extents(number));
        remember_file(*std::move(dead), changes);
      }
      changes.emplace_back(meta::DropInode{number});
    }
    EPHFS_TRY_VOID(state.catalog->commit(changes));
  }
}

}  // namespace ephfs::fs
