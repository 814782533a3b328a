// SPDX-License-Identifier: Apache-2.0
// rename(2) in its three modes, by the rules of POSIX and Linux.
#include <algorithm>

#include "fs/reaper.hpp"
#include "fs/tree_edit.hpp"

namespace ephfs::fs {
namespace {

struct Move {
  std::shared_ptr<Inode> from, to;  // directories
  std::string name, new_name;
  std::shared_ptr<Inode> source;
  std::shared_ptr<Inode> target;  // null: no such name
};

/// Whether `directory` is `ancestor` or lies below it. Namespace mutex held.
Result<bool> is_within(const EngineState& state, InodeNumber directory, InodeNumber ancestor) {
  constexpr std::size_t kDepthMax = 1'000'000;
  for (std::size_t depth = 0; depth < kDepthMax; ++depth) {
    if (directory == ancestor) return true;
    if (directory == core::kRootInode) return false;
    EPHFS_TRY(const auto parent, state.catalog->parent_of(directory));
    if (!parent) return false;
    directory = parent->first;
  }
  return core::fail(core::Error::damaged, "directory " + std::to_string(directory.value) + " is its own ancestor");
}

Result<> check_not_into_itself(const EngineState& state, const Move& move, bool exchange) {
  if (move.from == move.to) return {};
  if (move.source->is_directory()) {
    EPHFS_TRY(const bool within, is_within(state, move.to->number, move.source->number));
    if (within) return core::fail(core::Error::invalid_argument);
  }
  if (move.target && move.target->is_directory()) {
    EPHFS_TRY(const bool within, is_within(state, move.from->number, move.target->number));
    if (within) return core::fail(exchange ? core::Error::invalid_argument : core::Error::not_empty);
  }
  return {};
}

/// What the source takes over from the file whose place it takes: an editor saves by renaming a new file over
/// the old, whose deadline is what was asked for, unless the new one has been given its own. All locked.
Result<> carry_over(EngineState& state, const Move& move, meta::InodeRecord& source) {
  if (!S_ISREG(source.mode) || source.deadline_explicit) return {};
  std::optional<CarriedDeadline> carried;
  if (move.target) {
    const bool is_own = move.target->record.uid == source.uid;
    if (is_own && move.target->is_regular()) carried = carried_deadline(state, move.target->record);
  } else {
    carried = state.left_names.take(move.to->number, move.new_name, source.uid, state.clock.boot_now());
    if (carried && carried->deadline.passed(state.clock.now() + kLastMoment)) return {};
  }
  if (!carried) return {};
  EPHFS_TRY_VOID(change_deadline(state, source, carried->deadline, carried->ttl, carried->is_explicit));
  source.ttl_mode = carried->mode;
  return {};
}

Result<> exchange_names(EngineState& state, TreeEdit& edit, const Move& move) {
  const InodeLocks locks{move.from.get(), move.to.get(), move.source.get(), move.target.get()};
  const meta::FileTime now = file_time_now(state.clock);
  const int source_links = move.source->is_directory() ? 1 : 0;
  const int target_links = move.target->is_directory() ? 1 : 0;
  edit.touch_directory(move.from, target_links - source_links);
  edit.touch_directory(move.to, source_links - target_links);
  edit.of(move.source).changed = now;
  edit.of(move.target).changed = now;
  edit.put_name(move.from->number, move.name, move.target->number);
  edit.put_name(move.to->number, move.new_name, move.source->number);
  return edit.commit();
}

Result<> replace_name(EngineState& state, TreeEdit& edit, const Move& move) {
  const bool is_directory = move.source->is_directory();
  if (move.target) {
    if (is_directory && !move.target->is_directory()) return core::fail(core::Error::not_directory);
    if (!is_directory && move.target->is_directory()) return core::fail(core::Error::is_directory);
    if (is_directory) EPHFS_TRY_VOID(check_empty(state, move.target->number, edit));
  }
  const InodeLocks locks{move.from.get(), move.to.get(), move.source.get(), move.target.get()};
  if (move.to->removed) return core::fail(core::Error::not_found);
  auto& source = edit.of(move.source);
  source.changed = file_time_now(state.clock);
  const auto leaves = carried_deadline(state, source);
  EPHFS_TRY_VOID(carry_over(state, move, source));
  if (move.target) {
    if (is_directory) {
      edit.remove(move.target);
    } else {
      edit.unlink(move.target);
    }
  }
  edit.touch_directory(move.from, is_directory ? -1 : 0);
  edit.touch_directory(move.to, is_directory && !move.target ? 1 : 0);
  edit.drop_name(move.from->number, move.name);
  edit.put_name(move.to->number, move.new_name, move.source->number);
  EPHFS_TRY_VOID(edit.commit());
  if (move.source->is_regular() && leaves.is_explicit) {
    state.left_names.leave(move.from->number, move.name, leaves, state.clock.boot_now());
  }
  return {};
}

/// The file that was moved, with what held for it before; null when none was.
struct Moved {
  std::shared_ptr<Inode> inode;
  Deadline before;
  Milliseconds reread_before{0};
};
Result<Moved> move_name(EngineState& state, TreeEdit& edit, InodeNumber parent, const std::string& name,
                        InodeNumber new_parent, const std::string& new_name, RenameMode mode) {
  const std::lock_guard names(state.namespace_mutex);
  Move move;
  move.name = name;
  move.new_name = new_name;
  EPHFS_TRY(move.from, live_directory(state, parent));
  EPHFS_TRY(move.to, live_directory(state, new_parent));
  EPHFS_TRY(move.source, state.inodes.lookup(parent, name));
  EPHFS_TRY_VOID(check_alive(state, *move.source, false));
  EPHFS_TRY(move.target, living_child(state, new_parent, new_name, edit));
  const bool exchange = mode == RenameMode::exchange;
  if (move.target && mode == RenameMode::no_replace) return core::fail(core::Error::exists);
  if (!move.target && exchange) return core::fail(core::Error::not_found);
  EPHFS_TRY_VOID(check_not_into_itself(state, move, exchange));
  if (move.target == move.source) return Moved{};
  if (exchange) {
    EPHFS_TRY_VOID(exchange_names(state, edit, move));
    return Moved{};
  }
  const Moved moved{move.source, move.source->deadline(), move.source->reread()};
  EPHFS_TRY_VOID(replace_name(state, edit, move));
  return moved;
}

}  // namespace

Result<> Engine::rename(InodeNumber parent, const std::string& name, InodeNumber new_parent,
                        const std::string& new_name, RenameMode mode) {
  EPHFS_TRY_VOID(check_name(name));
  EPHFS_TRY_VOID(check_name(new_name));
  TreeEdit edit(*state_);
  EPHFS_TRY(const auto moved, move_name(*state_, edit, parent, name, new_parent, new_name, mode));
  if (moved.inode && moved.inode->deadline() != moved.before) {
    deadline_changed(*state_, moved.inode);
    if (moved.inode->deadline() < moved.before) deadline_shortened(*state_, *moved.inode);
  } else if (moved.inode && moved.inode->reread() != moved.reread_before) {
    watch_pages(*state_, *moved.inode);
  }
  edit.announce();
  return {};
}

}  // namespace ephfs::fs
