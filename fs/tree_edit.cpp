// SPDX-License-Identifier: Apache-2.0
#include "fs/tree_edit.hpp"

#include <algorithm>

#include "fs/death_record.hpp"
#include "fs/scrubber.hpp"
#include "fs/share_book.hpp"

namespace ephfs::fs {

InodeLocks::InodeLocks(std::initializer_list<Inode*> inodes) {
  EPHFS_CHECK(inodes.size() <= kInodesMax, "no operation locks more inodes than a rename");
  std::array<Inode*, kInodesMax> order{};
  std::copy(inodes.begin(), inodes.end(), order.begin());
  const auto number_of = [](const Inode* inode) { return inode == nullptr ? InodeNumber{} : inode->number; };
  std::sort(order.begin(), order.end(), [&](auto* a, auto* b) { return number_of(a) < number_of(b); });
  const Inode* last = nullptr;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (order[i] == nullptr || order[i] == last) continue;
    locks_[i] = std::unique_lock(order[i]->mutex);
    last = order[i];
  }
}

meta::InodeRecord& TreeEdit::of(const std::shared_ptr<Inode>& inode) {
  // References stay good: there are never more than the inodes one operation locks.
  if (edited_.empty()) edited_.reserve(InodeLocks::kInodesMax);
  for (auto& edited : edited_) {
    if (edited.inode == inode) return edited.record;
  }
  EPHFS_CHECK(edited_.size() < InodeLocks::kInodesMax, "an edit changes the inodes it has locked");
  return edited_.emplace_back(Edited{inode, inode->record}).record;
}

void TreeEdit::touch_directory(const std::shared_ptr<Inode>& directory, int links) {
  auto& record = of(directory);
  record.modified = record.changed = file_time_now(state_.clock);
  record.links = static_cast<std::uint32_t>(static_cast<std::int64_t>(record.links) + links);
}

void TreeEdit::put_name(InodeNumber parent, const std::string& name, InodeNumber inode) {
  names_.emplace_back(meta::PutName{parent, name, inode});
}

void TreeEdit::drop_name(InodeNumber parent, const std::string& name) {
  names_.emplace_back(meta::DropName{parent, name});
}

void TreeEdit::unlink(const std::shared_ptr<Inode>& inode) {
  if (inode->record.links <= 1 && inode->handles == 0) return remove(inode);
  auto& record = of(inode);
  EPHFS_CHECK(record.links > 0, "an inode with a name has a link");
  --record.links;
  record.changed = file_time_now(state_.clock);
}

void TreeEdit::note_death(const meta::InodeRecord& record, const Inode* inode, meta::DeathCause cause) {
  if (state_.options.proof_keep <= Milliseconds{0}) return;
  auto dead = dead_file_of(record, cause, state_.clock.now());
  if (!dead) return;
  auto& noted = dead_.emplace_back(Dead{*std::move(dead)});
  if (inode == nullptr || (!inode->data && !inode->extents_kept)) return;
  noted.record.extents = inode->data ? inode->data->extents().all() : *inode->extents_kept;
  noted.has_extents = true;
}

void TreeEdit::remove(const std::shared_ptr<Inode>& inode) {
  note_death(inode->record, inode.get(), meta::DeathCause::removed);
  drops_.emplace_back(meta::DropInode{inode->number});
  removed_.push_back(inode);
}

bool TreeEdit::is_buried(InodeNumber number) const {
  return std::ranges::any_of(buried_, [number](const auto& buried) { return buried.number == number; });
}

std::optional<bool> TreeEdit::bury_in_memory(InodeNumber number, core::Instant now) {
  const auto inode = state_.inodes.find(number);
  if (!inode) return std::nullopt;
  const std::unique_lock lock(inode->mutex);
  if (!inode->record.deadline.passed(now)) return false;
  note_death(inode->record, inode.get(), meta::DeathCause::expired);
  if (!inode->removed) {
    inode->removed = true;
    discard_data(state_, *inode);
  }
  return true;
}

void TreeEdit::drop_names(InodeNumber number, std::vector<std::pair<InodeNumber, std::string>> names) {
  for (const auto& [parent, name] : names) drop_name(parent, name);
  drops_.emplace_back(meta::DropInode{number});
  buried_.push_back({number, std::move(names)});
}

Result<bool> TreeEdit::bury(InodeNumber number, core::Instant now) {
  if (is_buried(number)) return true;
  EPHFS_TRY(auto names, state_.catalog->names_of(number));
  const auto in_memory = bury_in_memory(number, now);
  if (in_memory && !*in_memory) return false;
  if (!in_memory) {
    EPHFS_TRY(const auto record, state_.catalog->inode(number));
    if (record) note_death(*record, nullptr, meta::DeathCause::expired);
  }
  drop_names(number, std::move(names));
  return true;
}

Result<bool> TreeEdit::bury(meta::ExpiredInode dead, core::Instant now) {
  const InodeNumber number = dead.record.number;
  if (is_buried(number)) return true;
  const auto in_memory = bury_in_memory(number, now);
  if (in_memory && !*in_memory) return false;
  if (!in_memory) {
    // Nobody holds it, so nobody has added extents since they were read.
    const std::size_t noted = dead_.size();
    note_death(dead.record, nullptr, meta::DeathCause::expired);
    if (dead_.size() > noted) {
      dead_.back().record.extents = std::move(dead.extents);
      dead_.back().has_extents = true;
    }
  }
  drop_names(number, std::move(dead.names));
  return true;
}

Result<> TreeEdit::commit() {
  meta::Changes changes = std::move(records_);
  changes.reserve(changes.size() + edited_.size() + names_.size() + drops_.size());
  for (const auto& edited : edited_) changes.emplace_back(meta::PutInode{edited.record});
  std::move(names_.begin(), names_.end(), std::back_inserter(changes));
  for (auto& dead : dead_) {
    if (!dead.has_extents) {
      EPHFS_TRY(dead.record.extents, state_.catalog->extents(dead.record.number));
    }
    remember_file(std::move(dead.record), changes);
  }
  std::move(drops_.begin(), drops_.end(), std::back_inserter(changes));
  if (changes.empty()) return {};
  EPHFS_TRY_VOID(state_.catalog->commit(changes));
  state_.inodes.names_changed(changes);
  if (!drops_.empty()) state_.scrubber->notify();
  for (auto& [inode, record] : edited_) {
    if (record.links == 0) unlinked_.push_back(inode->number);
    inode->record = std::move(record);
    inode->record_dirty = false;
    inode->publish_ttl();
  }
  for (const auto& inode : removed_) {
    unlinked_.push_back(inode->number);
    inode->removed = true;
    inode->record.links = 0;
    inode->record.changed = file_time_now(state_.clock);
    discard_data(state_, *inode);
  }
  return {};
}

void TreeEdit::announce() {
  edited_.clear();
  for (const InodeNumber number : unlinked_) state_.shares->withdraw(number);
  const auto is_known = [this](InodeNumber number) {
    return number == core::kRootInode || state_.inodes.is_known(number);
  };
  if (state_.kernel != nullptr) {
    for (auto& [number, names] : buried_) {
      for (auto& [parent, name] : names) {
        if (is_known(parent)) state_.kernel->forget_entry(parent, std::move(name));
      }
      if (is_known(number)) state_.kernel->forget_pages(number);
    }
  }
  if (!buried_.empty() || !removed_.empty()) state_.stripes->collect_soon();
  for (const auto& buried : buried_) {
    mark_removed(buried.number);
    state_.inodes.release(buried.number);
  }
  for (auto& inode : removed_) {
    const InodeNumber number = inode->number;
    inode.reset();
    state_.inodes.release(number);
  }
}

void TreeEdit::mark_removed(InodeNumber number) {
  const auto inode = state_.inodes.find(number);
  if (!inode) return;
  const std::unique_lock lock(inode->mutex);
  if (inode->removed) return;
  inode->removed = true;
  discard_data(state_, *inode);
}

Result<> check_name(const std::string& name) {
  if (name.empty()) return core::fail(core::Error::not_found);
  if (name.size() > kNameBytesMax) return core::fail(core::Error::name_too_long);
  if (name == "." || name == ".." || name.find('/') != std::string::npos || name.find('\0') != std::string::npos) {
    return core::fail(core::Error::invalid_argument);
  }
  return {};
}

Result<std::shared_ptr<Inode>> live_directory(EngineState& state, InodeNumber number) {
  EPHFS_TRY(auto inode, state.inodes.get(number));
  if (!inode->is_directory()) return core::fail(core::Error::not_directory);
  return inode;
}

Result<std::shared_ptr<Inode>> living_child(EngineState& state, InodeNumber parent, const std::string& name,
                                            TreeEdit& edit) {
  auto inode = state.inodes.lookup(parent, name);
  if (!inode) {
    if (inode.error().code == core::Error::not_found) return std::shared_ptr<Inode>();
    return inode;
  }
  if (!(*inode)->is_gone(state.clock.now())) return inode;
  const core::Instant confirmed = state.clock.confirmed_now();
  // Dead by a clock that is not confirmed: its name may be wanted again, so nothing takes its place.
  if (!(*inode)->is_gone(confirmed)) return core::fail(core::Error::busy, "the clock is held");
  EPHFS_TRY(const bool died, edit.bury((*inode)->number, confirmed + kLastMoment));
  if (!died) return inode;
  return std::shared_ptr<Inode>();
}

Result<> check_empty(EngineState& state, InodeNumber directory, TreeEdit& edit) {
  constexpr std::size_t kBatch = 256;
  std::string after;
  for (;;) {
    EPHFS_TRY(const auto names, state.catalog->names(directory, after, kBatch));
    const core::Instant now = state.clock.now();
    for (const auto& name : names) {
      if (!is_dead(state, name.inode, name.deadline, now)) return core::fail(core::Error::not_empty);
      const core::Instant confirmed = state.clock.confirmed_now();
      if (!is_dead(state, name.inode, name.deadline, confirmed)) return core::fail(core::Error::not_empty);
      EPHFS_TRY(const bool died, edit.bury(name.inode, confirmed + kLastMoment));
      if (!died) return core::fail(core::Error::not_empty);
    }
    if (names.size() < kBatch) return {};
    after = names.back().name;
  }
}

bool is_dead(const EngineState& state, InodeNumber number, Deadline deadline, core::Instant now) {
  if (!deadline.passed(now + kLastMoment)) return false;
  const auto inode = state.inodes.find(number);
  return !inode || inode->is_gone(now);
}

}  // namespace ephfs::fs
