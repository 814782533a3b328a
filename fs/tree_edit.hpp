// SPDX-License-Identifier: Apache-2.0
// One change of the tree: changed copies of inode records and the names that go with them, made true by one
// catalog commit and put into the inodes in memory only after it. Made and used with the namespace mutex
// held; the inodes whose records it changes stay locked, exclusively, until commit() has returned.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fs/engine_state.hpp"

namespace ephfs::fs {

/// Exclusive locks on some inodes, taken by rising number. Null ones are skipped, one named twice is locked
/// once.
class InodeLocks {
 public:
  static constexpr std::size_t kInodesMax = 4;
  InodeLocks(std::initializer_list<Inode*> inodes);

 private:
  std::array<std::unique_lock<std::shared_mutex>, kInodesMax> locks_;
};

class TreeEdit {
 public:
  explicit TreeEdit(EngineState& state) : state_(state) {}

  /// The copy of a locked inode's record that will be committed.
  [[nodiscard]] meta::InodeRecord& of(const std::shared_ptr<Inode>& inode);
  /// Notes that a locked directory's names changed now, and its subdirectories by `links`.
  void touch_directory(const std::shared_ptr<Inode>& directory, int links = 0);
  void put_inode(const meta::InodeRecord& made) { records_.emplace_back(meta::PutInode{made}); }
  void put_name(InodeNumber parent, const std::string& name, InodeNumber inode);
  void drop_name(InodeNumber parent, const std::string& name);
  /// A locked inode loses one of its links, and goes for good when it was the last and no descriptor holds
  /// it.
  void unlink(const std::shared_ptr<Inode>& inode);
  /// A locked inode goes for good.
  void remove(const std::shared_ptr<Inode>& inode);
  /// Not locked. Removes an inode that died at `now`, with all its names. False when it turns out to live.
  /// Death is not undone: what it held in memory is dropped at once, whether the commit succeeds or not.
  [[nodiscard]] Result<bool> bury(InodeNumber number, core::Instant now);
  /// The same, with what the catalog has of it.
  [[nodiscard]] Result<bool> bury(meta::ExpiredInode dead, core::Instant now);

  /// Remembers those who die (death_record.hpp) in the commit that makes it so.
  [[nodiscard]] Result<> commit();
  /// After the commit, the locks let go: tells the kernel of deaths and the stripes of room, and lets inodes
  /// go that nobody holds any more.
  void announce();

 private:
  struct Edited {
    std::shared_ptr<Inode> inode;
    meta::InodeRecord record;
  };
  struct Buried {
    InodeNumber number;
    std::vector<std::pair<InodeNumber, std::string>> names;
  };

  struct Dead {
    meta::DeadFileRecord record;
    bool has_extents = false;  // or they are read when it is committed
  };

  [[nodiscard]] bool is_buried(InodeNumber number) const;
  /// Buries an inode in memory; none when it is not in memory, false when it turns out to live.
  [[nodiscard]] std::optional<bool> bury_in_memory(InodeNumber number, core::Instant now);
  /// No lock held. The object of one that is buried and came into memory after that, if it did.
  void mark_removed(InodeNumber number);
  void drop_names(InodeNumber number, std::vector<std::pair<InodeNumber, std::string>> names);
  /// `inode` is its object, locked, or null for one that is not in memory.
  void note_death(const meta::InodeRecord& record, const Inode* inode, meta::DeathCause cause);

  EngineState& state_;
  std::vector<Edited> edited_;
  std::vector<std::shared_ptr<Inode>> removed_;
  std::vector<Buried> buried_;
  std::vector<InodeNumber> unlinked_;  // by the commit: nobody should be given them any more
  meta::Changes records_;              // committed first: names lead to inodes that are there
  meta::Changes names_;
  std::vector<Dead> dead_;
  meta::Changes drops_;  // last: no name leads to what is dropped
};

// What the namespace operations ask before they begin.
/// not_found, invalid_argument or name_too_long for what cannot be a name.
[[nodiscard]] Result<> check_name(const std::string& name);
/// not_found for one that is removed, not_directory.
[[nodiscard]] Result<std::shared_ptr<Inode>> live_directory(EngineState& state, InodeNumber number);
/// Namespace mutex held. The living inode of that name, or null; one that died there is buried by `edit`.
[[nodiscard]] Result<std::shared_ptr<Inode>> living_child(EngineState& state, InodeNumber parent,
                                                          const std::string& name, TreeEdit& edit);
/// Namespace mutex held. not_empty when anything living is in the directory; what died there is buried by
/// `edit`.
[[nodiscard]] Result<> check_empty(EngineState& state, InodeNumber directory, TreeEdit& edit);
/// Whether an inode of which the catalog says `deadline` is gone: one in memory may have slid on.
[[nodiscard]] bool is_dead(const EngineState& state, InodeNumber number, Deadline deadline, core::Instant now);

}  // namespace ephfs::fs
