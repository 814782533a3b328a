// SPDX-License-Identifier: Apache-2.0
// Names: looking them up, making and removing them, listing them. rename is in engine_rename.cpp.
#include <fcntl.h>

#include "core/secret.hpp"
#include "fs/reaper.hpp"
#include "fs/tree_edit.hpp"
#include "fs/warner.hpp"

namespace ephfs::fs {
namespace {

constexpr std::uint32_t kLinksMax = 65'000;
constexpr std::size_t kTargetBytesMax = 4095;
constexpr std::uint32_t kPermissionBits = 07777;

bool is_known_type(std::uint32_t mode) {
  return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode) || S_ISCHR(mode) ||
         S_ISBLK(mode);
}

/// The record of something made now in `parent`, whose lock is held.
/// A regular file takes over what a file that has just left its name had.
Result<meta::InodeRecord> new_record(EngineState& state, const meta::InodeRecord& parent, std::uint32_t mode,
                                     Caller caller, const std::optional<CarriedDeadline>& left) {
  meta::InodeRecord record;
  record.number = {state.next_inode.fetch_add(1)};
  record.mode = mode;
  record.uid = caller.uid;
  record.gid = caller.gid;
  record.links = 1;
  record.accessed = record.modified = record.changed = file_time_now(state.clock);
  record.profile = parent.profile;
  if ((parent.mode & S_ISGID) != 0) {
    record.gid = parent.gid;
    if (S_ISDIR(mode)) record.mode |= S_ISGID;
  }
  if (S_ISDIR(mode)) {
    record.links = 2;
    record.ttl = parent.ttl;
    record.default_deadline = parent.default_deadline;
    record.ttl_mode = parent.ttl_mode;
    record.deadline_explicit = parent.deadline_explicit;
    return record;
  }
  const InheritedTtl inherited = inherited_ttl(state, parent);
  record.deadline = inherited.deadline;
  record.ttl = inherited.ttl;
  record.ttl_mode = inherited.mode;
  if (S_ISREG(mode)) {
    if (left && !left->deadline.passed(state.clock.now() + kLastMoment)) {
      record.deadline = left->deadline;
      record.ttl = left->ttl;
      record.ttl_mode = left->mode;
      record.deadline_explicit = left->is_explicit;
    }
    record.file = core::random_id<core::FileId>();
    EPHFS_TRY(record.wrapped_key, wrap_file_key(state, record, core::random_key()));
  }
  return record;
}

Result<Attributes> looked_up(const EngineState& state, Inode& inode) {
  inode.lookups.fetch_add(1);
  const std::shared_lock lock(inode.mutex);
  return attributes_of(state, inode);
}

Result<> add_link(EngineState& state, TreeEdit& edit, const std::shared_ptr<Inode>& inode, InodeNumber parent,
                  const std::string& name) {
  const std::lock_guard names(state.namespace_mutex);
  EPHFS_TRY(const auto directory, live_directory(state, parent));
  EPHFS_TRY(const auto existing, living_child(state, parent, name, edit));
  if (existing) return core::fail(core::Error::exists);
  const InodeLocks locks{directory.get(), inode.get()};
  EPHFS_TRY_VOID(check_alive(state, *inode, false));
  if (directory->removed || inode->removed) return core::fail(core::Error::not_found);
  // The kernel lets only those be linked that never had a name, not what was unlinked.
  if (inode->record.links == 0 && inode->handles == 0) return core::fail(core::Error::not_found);
  if (inode->record.links >= kLinksMax) return core::fail(core::Error::too_many_links);
  auto& record = edit.of(inode);
  ++record.links;
  record.changed = file_time_now(state.clock);
  edit.touch_directory(directory);
  edit.put_name(parent, name, inode->number);
  return edit.commit();
}

Result<> drop_file(EngineState& state, TreeEdit& edit, InodeNumber parent, const std::string& name) {
  const std::lock_guard names(state.namespace_mutex);
  EPHFS_TRY(const auto directory, live_directory(state, parent));
  EPHFS_TRY(const auto inode, state.inodes.lookup(parent, name));
  EPHFS_TRY_VOID(check_alive(state, *inode, false));
  if (inode->is_directory()) return core::fail(core::Error::is_directory);
  const InodeLocks locks{directory.get(), inode.get()};
  edit.drop_name(parent, name);
  edit.unlink(inode);
  edit.touch_directory(directory);
  const auto carried = carried_deadline(state, inode->record);
  EPHFS_TRY_VOID(edit.commit());
  if (inode->is_regular() && carried.is_explicit) {
    state.left_names.leave(parent, name, carried, state.clock.boot_now());
  }
  return {};
}

Result<> drop_directory(EngineState& state, TreeEdit& edit, InodeNumber parent, const std::string& name) {
  const std::lock_guard names(state.namespace_mutex);
  EPHFS_TRY(const auto directory, live_directory(state, parent));
  EPHFS_TRY(const auto inode, state.inodes.lookup(parent, name));
  EPHFS_TRY_VOID(check_alive(state, *inode, false));
  if (!inode->is_directory()) return core::fail(core::Error::not_directory);
  EPHFS_TRY_VOID(check_empty(state, inode->number, edit));
  const InodeLocks locks{directory.get(), inode.get()};
  edit.drop_name(parent, name);
  edit.remove(inode);
  edit.touch_directory(directory, -1);
  return edit.commit();
}

}  // namespace

Result<std::shared_ptr<Inode>> make_inode(EngineState& state, InodeNumber parent, const std::string& name,
                                          std::uint32_t mode, std::uint64_t rdev, const std::string& target,
                                          Caller caller) {
  EPHFS_TRY_VOID(check_name(name));
  if ((mode & S_IFMT) == 0) mode |= S_IFREG;
  if (!is_known_type(mode)) return core::fail(core::Error::invalid_argument);
  TreeEdit edit(state);
  std::shared_ptr<Inode> made;
  {
    const std::lock_guard names(state.namespace_mutex);
    EPHFS_TRY(const auto directory, live_directory(state, parent));
    EPHFS_TRY(const auto existing, living_child(state, parent, name, edit));
    if (existing) return core::fail(core::Error::exists);
    const InodeLocks locks{directory.get()};
    if (directory->removed) return core::fail(core::Error::not_found);
    std::optional<CarriedDeadline> left;
    if (S_ISREG(mode)) left = state.left_names.take(parent, name, caller.uid, state.clock.boot_now());
    EPHFS_TRY(auto record, new_record(state, directory->record, mode & (S_IFMT | kPermissionBits), caller, left));
    record.rdev = rdev;
    record.target = target;
    if (S_ISLNK(mode)) record.size = target.size();
    edit.touch_directory(directory, S_ISDIR(mode) ? 1 : 0);
    edit.put_inode(record);
    edit.put_name(parent, name, record.number);
    EPHFS_TRY_VOID(edit.commit());
    made = state.inodes.adopt(std::move(record));
    made->no_capability = true;  // it has no attribute yet
  }
  edit.announce();
  if (state.reaper) state.reaper->notify(made->deadline());
  if (state.warner) state.warner->notify(made);
  return made;
}

Result<Attributes> Engine::lookup(InodeNumber parent, const std::string& name) {
  EPHFS_TRY_VOID(check_name(name));
  EPHFS_TRY(const auto directory, live_directory(*state_, parent));
  EPHFS_TRY(const auto inode, state_->inodes.lookup(parent, name));
  EPHFS_TRY_VOID(check_alive(*state_, *inode, false));
  return looked_up(*state_, *inode);
}

void Engine::expect_lookups(std::span<const meta::NameRecord> names) {
  std::vector<InodeNumber> numbers;
  numbers.reserve(names.size());
  for (const auto& name : names) numbers.push_back(name.inode);
  state_->inodes.load_all(numbers);
}

void Engine::forget(InodeNumber number, std::uint64_t lookups) {
  const auto forgotten = state_->inodes.forget(number, lookups);
  if (forgotten && S_ISLNK(*forgotten) && state_->kernel != nullptr) state_->kernel->unwatch(number);
}

Result<Attributes> Engine::make_node(InodeNumber parent, const std::string& name, std::uint32_t mode,
                                     std::uint64_t rdev, Caller caller) {
  if (S_ISLNK(mode)) return core::fail(core::Error::invalid_argument);
  EPHFS_TRY(const auto made, make_inode(*state_, parent, name, mode, rdev, {}, caller));
  return looked_up(*state_, *made);
}

Result<Attributes> Engine::make_symlink(InodeNumber parent, const std::string& name, const std::string& target,
                                        Caller caller) {
  if (target.empty()) return core::fail(core::Error::not_found);
  if (target.size() > kTargetBytesMax) return core::fail(core::Error::name_too_long);
  constexpr std::uint32_t kLinkMode = S_IFLNK | 0777;
  EPHFS_TRY(const auto made, make_inode(*state_, parent, name, kLinkMode, 0, target, caller));
  return looked_up(*state_, *made);
}

Result<std::pair<Attributes, std::shared_ptr<OpenFile>>> Engine::create(InodeNumber parent, const std::string& name,
                                                                        std::uint32_t mode, int flags, Caller caller) {
  auto made = make_inode(*state_, parent, name, (mode & kPermissionBits) | S_IFREG, 0, {}, caller);
  if (!made) {
    // Without O_EXCL a file that another call has just made is opened.
    if (made.error().code != core::Error::exists || (flags & O_EXCL) != 0) return std::move(made).error();
    made = state_->inodes.lookup(parent, name);
    if (!made) return std::move(made).error();
  } else {
    flags &= ~O_TRUNC;
  }
  EPHFS_TRY(auto file, open_inode(*state_, *made, flags));
  EPHFS_TRY(const auto attributes, looked_up(*state_, **made));
  return std::pair(attributes, std::move(file));
}

Result<std::pair<Attributes, std::shared_ptr<OpenFile>>> Engine::create_unnamed(InodeNumber parent, std::uint32_t mode,
                                                                                int flags, Caller caller) {
  EngineState& state = *state_;
  TreeEdit edit(state);
  std::shared_ptr<Inode> made;
  {
    const std::lock_guard names(state.namespace_mutex);
    EPHFS_TRY(const auto directory, live_directory(state, parent));
    const InodeLocks locks{directory.get()};
    if (directory->removed) return core::fail(core::Error::not_found);
    EPHFS_TRY(auto record,
              new_record(state, directory->record, (mode & kPermissionBits) | S_IFREG, caller, std::nullopt));
    record.links = 0;
    edit.put_inode(record);
    EPHFS_TRY_VOID(edit.commit());
    made = state.inodes.adopt(std::move(record));
    made->no_capability = true;
  }
  auto file = open_inode(state, made, flags & ~(O_TRUNC | O_EXCL));
  if (!file) {
    close_inode(state, made);
    return std::move(file).error();
  }
  if (state.reaper) state.reaper->notify(made->deadline());
  // It may yet get a name.
  if (state.warner) state.warner->notify(made);
  EPHFS_TRY(const auto attributes, looked_up(state, *made));
  return std::pair(attributes, *std::move(file));
}

Result<Attributes> Engine::make_link(InodeNumber number, InodeNumber parent, const std::string& name) {
  EPHFS_TRY_VOID(check_name(name));
  EPHFS_TRY(const auto inode, live_inode(*state_, number));
  if (inode->is_directory()) return core::fail(core::Error::not_permitted);
  TreeEdit edit(*state_);
  EPHFS_TRY_VOID(add_link(*state_, edit, inode, parent, name));
  edit.announce();
  return looked_up(*state_, *inode);
}

Result<> Engine::unlink(InodeNumber parent, const std::string& name) {
  EPHFS_TRY_VOID(check_name(name));
  TreeEdit edit(*state_);
  EPHFS_TRY_VOID(drop_file(*state_, edit, parent, name));
  edit.announce();
  return {};
}

Result<> Engine::remove_directory(InodeNumber parent, const std::string& name) {
  EPHFS_TRY_VOID(check_name(name));
  TreeEdit edit(*state_);
  EPHFS_TRY_VOID(drop_directory(*state_, edit, parent, name));
  edit.announce();
  return {};
}

Result<std::string> Engine::read_link(InodeNumber number) {
  EPHFS_TRY(const auto inode, live_inode(*state_, number));
  if (!S_ISLNK(inode->type)) return core::fail(core::Error::invalid_argument);
  const std::shared_lock lock(inode->mutex);
  // The kernel keeps the target in a page, and who holds the link by a descriptor needs no name to see it.
  if (state_->kernel != nullptr && !inode->deadline().is_never()) {
    state_->kernel->watch(number, page_watch(*state_, *inode));
  }
  return inode->record.target;
}

Result<std::shared_ptr<OpenDirectory>> Engine::open_directory(InodeNumber number) {
  auto directory = std::make_shared<OpenDirectory>();
  EPHFS_TRY(directory->inode, live_directory(*state_, number));
  return directory;
}

Result<> Engine::rewind(OpenDirectory& directory) {
  constexpr std::size_t kBatch = 65'536;  // most directories are one consistent read
  std::vector<meta::NameRecord> listed;
  const core::Instant now = state_->clock.now();
  std::string after;
  for (bool more = true; more;) {
    EPHFS_TRY(auto names, state_->inodes.list(directory.inode->number, after, kBatch));
    more = names.size() == kBatch;
    if (more) after = names.back().name;
    for (auto& name : names) {
      if (is_dead(*state_, name.inode, name.deadline, now)) continue;
      // One that slid on in memory is listed by what memory says.
      if (name.deadline.passed(now + kLastMoment)) name.deadline = Deadline::never();
      listed.push_back(std::move(name));
    }
  }
  const std::lock_guard lock(directory.mutex);
  directory.names = std::move(listed);
  directory.loaded = true;
  return {};
}

}  // namespace ephfs::fs
