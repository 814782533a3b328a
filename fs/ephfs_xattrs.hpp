// SPDX-License-Identifier: Apache-2.0
// The user.ephfs.* attributes (system.ephfs.* where the kernel allows no user attributes): one row a name,
// with what reading, setting and removing it mean. Private to the engine.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fs/engine_state.hpp"

namespace ephfs::fs {

/// What a set or removal works on: a copy of the inode's record, committed when it succeeded. Its lock is
/// held.
struct XattrTarget {
  const EngineState& state;
  meta::InodeRecord record;
  const meta::InodeRecord& parent;  // a directory it is in: what it inherits from
};

struct EphfsXattr {
  std::string_view name;                                         // behind the prefix
  Result<std::string> (*get)(EngineState& state, Inode& inode);  // no lock held
  /// Whether somebody set it, as XATTR_CREATE, XATTR_REPLACE and removexattr ask.
  bool (*is_set)(const meta::InodeRecord& record);
  Result<> (*set)(XattrTarget& target, std::string_view value);  // null: read-only
  Result<> (*remove)(XattrTarget& target);
};

[[nodiscard]] bool is_ephfs_xattr(std::string_view name);
/// invalid_argument for a name that is none of ours.
[[nodiscard]] Result<const EphfsXattr*> find_ephfs_xattr(std::string_view name);
/// The one that tools which copy attributes are shown: an explicitly set deadline.
[[nodiscard]] std::optional<std::string> listed_ephfs_xattr(const meta::InodeRecord& record);
/// The record of a directory the inode is in; the root's for one without a name.
[[nodiscard]] Result<meta::InodeRecord> parent_record(const EngineState& state, const Inode& inode);

// file_report.cpp: what the read-only ones say of a file. No lock held.
[[nodiscard]] Result<std::string> describe_state(EngineState& state, Inode& inode);
[[nodiscard]] Result<std::string> describe_health(EngineState& state, Inode& inode);
[[nodiscard]] Result<std::string> describe_placement(EngineState& state, Inode& inode);
[[nodiscard]] Result<std::string> signed_manifest(EngineState& state, Inode& inode);
[[nodiscard]] Result<std::string> signed_proof(EngineState& state, Inode& inode);

}  // namespace ephfs::fs
