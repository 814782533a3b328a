// SPDX-License-Identifier: Apache-2.0
// Shards as files: DIR/shards/ab/HEX.shard with HEX.lease beside it (docs/formats.md, "Shard and lease files").
//
// Invariants. A file under a whole name is whole: both are written under temporary names, synced, then renamed, the
// shard first. The lease's rename is the moment a shard comes to be there and the shard's unlink the moment it goes; a
// lease without its shard is the trace of a removal.
#pragma once

#include <bitset>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <span>

#include "core/files.hpp"
#include "core/merkle.hpp"
#include "node/shard_store.hpp"

namespace ephfs::node {

/// "shard HEX", for messages.
[[nodiscard]] std::string named(const core::ShardId& shard);

/// Thread-safe, but for changes of one shard, which whoever asks for them keeps apart.
class ShardFiles {
 public:
  enum class Wait : std::uint8_t { never, for_disk };

  /// Those in `directory`, which is made where it is missing. busy when another process has it open.
  [[nodiscard]] static Result<std::unique_ptr<ShardFiles>> open(const std::filesystem::path& directory);

  /// Writes and syncs both files in place of whatever had their names. The shard's tree; damaged when the bytes are not
  /// the lease's shard. Of a failure nothing is left.
  [[nodiscard]] Result<std::shared_ptr<const core::MerkleTree>> write(const HeldLease& lease,
                                                                      const net::ShardSource& shard);
  /// Puts a lease in place of the one that is there. It lasts from sync() on.
  [[nodiscard]] Result<> replace_lease(const HeldLease& lease);
  /// A missing file is as good as a removed one. Lasts from sync() on.
  [[nodiscard]] Result<> remove_shard(const core::ShardId& shard);
  [[nodiscard]] Result<> remove_lease(const core::ShardId& shard);
  /// Makes what happened to the names of these last.
  [[nodiscard]] Result<> sync(std::span<const core::ShardId> shards);

  /// Bytes as they are on the disk, unchecked. not_found; would_block with Wait::never when they are not in memory.
  [[nodiscard]] Result<> read(const core::ShardId& shard, std::uint64_t offset, core::MutableByteView out,
                              Wait wait) const;
  /// Checked against the shard's name.
  [[nodiscard]] Result<core::MerkleTree> read_tree(const core::ShardId& shard) const;
  [[nodiscard]] Result<HeldLease> read_lease(const core::ShardId& shard) const;
  /// Whether its file is there, so many bytes long.
  [[nodiscard]] bool has(const core::ShardId& shard, std::uint64_t bytes) const;

  /// Removes what a crash left unfinished and calls `found` for each lease, until that fails. Before anything else.
  using Found = std::function<Result<>(const core::ShardId& shard, bool has_shard)>;
  [[nodiscard]] Result<> recover(const Found& found);

 private:
  struct Paths;

  ShardFiles(std::filesystem::path root, core::FileDescriptor root_directory, core::FileDescriptor lock);
  [[nodiscard]] std::filesystem::path directory_of(std::byte first) const;
  [[nodiscard]] Paths paths_of(const core::ShardId& shard) const;
  [[nodiscard]] Result<> ensure_directory(const core::ShardId& shard);
  [[nodiscard]] Result<> recover_directory(const std::filesystem::path& directory, const Found& found);

  const std::filesystem::path root_;  // DIR/shards
  const core::FileDescriptor root_directory_;
  const core::FileDescriptor lock_;  // keeps a second process out while it is open
  std::mutex directories_mutex_;
  std::bitset<256> directories_;  // made and synced; guarded by directories_mutex_
};

}  // namespace ephfs::node
