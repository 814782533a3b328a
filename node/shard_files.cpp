// SPDX-License-Identifier: Apache-2.0
#include "node/shard_files.hpp"

#include <algorithm>
#include <set>
#include <unordered_set>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.hpp"
#include "node/lease_file.hpp"

namespace ephfs::node {
namespace {

namespace files = std::filesystem;
using core::Error;
using core::fail;
using core::fail_errno;

constexpr std::size_t kWindowBytes = 32 * core::kLeafBytes;
constexpr std::string_view kShardSuffix = ".shard";
constexpr std::string_view kLeaseSuffix = ".lease";
constexpr std::string_view kTemporarySuffix = ".tmp";

/// unlink(2) for which a missing file is as good as a removed one.
Result<> unlink_file(const files::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno("unlink " + path.string());
  return {};
}

Result<> rename_file(const files::path& from, const files::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return fail_errno("rename " + from.string());
  return {};
}

Result<> make_directory(const files::path& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno("mkdir " + path.string());
  return {};
}

Result<> write_synced(const files::path& path, core::ByteView content) {
  EPHFS_TRY(const auto file, core::open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  EPHFS_TRY_VOID(core::write_all(file, 0, content));
  return core::sync_data(file);
}

/// The same, and the tree over `content`: each window is hashed and written while it is in the processor's cache.
Result<std::shared_ptr<const core::MerkleTree>> write_hashed(const files::path& path, core::ByteView content) {
  EPHFS_TRY(const auto file, core::open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  std::vector<core::Hash> leaves;
  for (std::uint64_t at = 0; at < content.size(); at += kWindowBytes) {
    const auto window = content.subspan(at, std::min<std::uint64_t>(kWindowBytes, content.size() - at));
    const auto hashes = core::hash_leaves(window);
    leaves.insert(leaves.end(), hashes.begin(), hashes.end());
    EPHFS_TRY_VOID(core::write_all(file, at, window));
  }
  EPHFS_TRY_VOID(core::sync_data(file));
  return std::make_shared<const core::MerkleTree>(std::move(leaves));
}

bool is_file_of(const files::path& path, std::uint64_t bytes) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         static_cast<std::uint64_t>(status.st_size) == bytes;
}

/// A second name for a file that is exactly the shard; false when it is not, or cannot have one here.
bool link_shard(const files::path& source, std::uint64_t bytes, const files::path& target) {
  return !source.empty() && is_file_of(source, bytes) && ::link(source.c_str(), target.c_str()) == 0;
}

std::optional<core::ShardId> shard_of_name(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  return core::ShardId::from_hex(name.substr(0, name.size() - suffix.size()));
}

}  // namespace

std::string named(const core::ShardId& shard) {
  return "shard " + shard.hex();
}

struct ShardFiles::Paths {
  files::path directory;
  files::path shard;
  files::path lease;
  files::path shard_temporary;
  files::path lease_temporary;

  /// After it none of the names exists.
  void discard_all() const {
    for (const auto* path : {&lease_temporary, &shard_temporary, &lease, &shard}) {
      if (const auto removed = unlink_file(*path); !removed) core::log_line(removed.error().message());
    }
  }
};

ShardFiles::ShardFiles(files::path root, core::FileDescriptor root_directory, core::FileDescriptor lock)
    : root_(std::move(root)), root_directory_(std::move(root_directory)), lock_(std::move(lock)) {}

Result<std::unique_ptr<ShardFiles>> ShardFiles::open(const files::path& directory) {
  std::error_code error;
  files::create_directories(directory, error);
  if (error) return fail_errno("create " + directory.string(), error.value());
  const files::path lock_path = directory / "lock";
  EPHFS_TRY(auto lock, core::open_file(lock_path, O_RDWR | O_CREAT, 0600));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return fail(Error::busy, directory.string() + " is in use by another process");
    return fail_errno("lock " + lock_path.string());
  }
  const files::path root = directory / "shards";
  EPHFS_TRY_VOID(make_directory(root));
  EPHFS_TRY_VOID(core::sync_directory(directory));
  EPHFS_TRY(auto root_directory, core::open_file(root, O_PATH | O_DIRECTORY));
  return std::unique_ptr<ShardFiles>(new ShardFiles(root, std::move(root_directory), std::move(lock)));
}

files::path ShardFiles::directory_of(std::byte first) const {
  return root_ / core::to_hex({&first, 1});
}

ShardFiles::Paths ShardFiles::paths_of(const core::ShardId& shard) const {
  Paths paths;
  paths.directory = directory_of(shard.view()[0]);
  const std::string stem = (paths.directory / shard.hex()).string();
  paths.shard = stem + std::string(kShardSuffix);
  paths.lease = stem + std::string(kLeaseSuffix);
  paths.shard_temporary = paths.shard.string() + std::string(kTemporarySuffix);
  paths.lease_temporary = paths.lease.string() + std::string(kTemporarySuffix);
  return paths;
}

Result<std::shared_ptr<const core::MerkleTree>> ShardFiles::write(const HeldLease& lease,
                                                                  const net::ShardSource& shard) {
  const core::ShardId& id = lease.lease.shard;
  EPHFS_TRY_VOID(ensure_directory(id));
  const Paths paths = paths_of(id);
  auto tree = shard.tree;
  const auto write = [&]() -> Result<> {
    // rename(2) between two names of one file does nothing, so a leftover of an earlier failure must go first.
    EPHFS_TRY_VOID(unlink_file(paths.shard_temporary));
    EPHFS_TRY_VOID(unlink_file(paths.shard));
    // Nor may the new shard ever stand beside the trace of an old one.
    EPHFS_TRY_VOID(unlink_file(paths.lease));
    if (!tree) {
      EPHFS_TRY(tree, write_hashed(paths.shard_temporary, shard.bytes.view()));
      if (tree->root() != id) return fail(Error::damaged, "the bytes are not " + named(id));
    } else if (!link_shard(shard.file, lease.lease.bytes, paths.shard_temporary)) {
      EPHFS_TRY_VOID(write_synced(paths.shard_temporary, shard.bytes.view()));
    }
    EPHFS_TRY_VOID(write_synced(paths.lease_temporary, encode_lease_file(lease, tree->leaves())));
    EPHFS_TRY_VOID(rename_file(paths.shard_temporary, paths.shard));
    EPHFS_TRY_VOID(rename_file(paths.lease_temporary, paths.lease));
    return core::sync_directory(paths.directory);
  };
  if (Result<> written = write(); !written) {
    paths.discard_all();
    return written.error();
  }
  return tree;
}

Result<> ShardFiles::ensure_directory(const core::ShardId& shard) {
  const auto index = std::to_integer<std::size_t>(shard.view()[0]);
  const std::lock_guard lock(directories_mutex_);
  if (directories_.test(index)) return {};
  EPHFS_TRY_VOID(make_directory(directory_of(shard.view()[0])));
  EPHFS_TRY_VOID(core::sync_directory(root_));
  directories_.set(index);
  return {};
}

Result<> ShardFiles::replace_lease(const HeldLease& lease) {
  const Paths paths = paths_of(lease.lease.shard);
  EPHFS_TRY(const core::Bytes old, core::read_file(paths.lease, kLeaseFileBytesMax));
  EPHFS_TRY(const std::vector<core::Hash> leaves, parse_leaf_hashes(old));
  const auto write = [&]() -> Result<> {
    EPHFS_TRY_VOID(write_synced(paths.lease_temporary, encode_lease_file(lease, leaves)));
    return rename_file(paths.lease_temporary, paths.lease);
  };
  Result<> written = write();
  if (!written) (void)unlink_file(paths.lease_temporary);
  return written;
}

Result<> ShardFiles::remove_shard(const core::ShardId& shard) {
  return unlink_file(paths_of(shard).shard);
}

Result<> ShardFiles::remove_lease(const core::ShardId& shard) {
  return unlink_file(paths_of(shard).lease);
}

Result<> ShardFiles::sync(std::span<const core::ShardId> shards) {
  std::set<std::byte> touched;
  for (const auto& shard : shards) touched.insert(shard.view()[0]);
  for (const std::byte first : touched) EPHFS_TRY_VOID(core::sync_directory(directory_of(first)));
  return {};
}

Result<> ShardFiles::read(const core::ShardId& shard, std::uint64_t offset, core::MutableByteView out,
                          Wait wait) const {
  if (wait == Wait::never) {
    const std::string hex = shard.hex();
    const std::string name = hex.substr(0, 2) + '/' + hex + std::string(kShardSuffix);
    EPHFS_TRY(const auto file, core::open_cached(root_directory_, name));
    return core::read_cached(file, offset, out);
  }
  const auto file = core::open_file(paths_of(shard).shard, O_RDONLY);
  if (!file) {
    if (file.error().code == Error::not_found) return fail(Error::not_found, named(shard));
    return file.error();
  }
  const auto read = core::read_exactly(*file, offset, out);
  return read ? read : fail(read.error().code, named(shard) + ": " + read.error().detail);
}

Result<core::MerkleTree> ShardFiles::read_tree(const core::ShardId& shard) const {
  const auto file = core::read_file(paths_of(shard).lease, kLeaseFileBytesMax);
  if (!file) {
    if (file.error().code == Error::not_found) return fail(Error::not_found, named(shard));
    return file.error();
  }
  auto leaves = parse_leaf_hashes(*file);
  if (!leaves) return fail(leaves.error().code, named(shard) + ": " + leaves.error().detail);
  core::MerkleTree tree(std::move(*leaves));
  if (tree.root() != shard) return fail(Error::damaged, named(shard) + ": its leaf hashes are not its own");
  return tree;
}

Result<HeldLease> ShardFiles::read_lease(const core::ShardId& shard) const {
  const files::path path = paths_of(shard).lease;
  const auto read = [&]() -> Result<HeldLease> {
    EPHFS_TRY(const auto file, core::open_file(path, O_RDONLY));
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno("stat " + path.string());
    const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
    core::Bytes prefix(std::min<std::uint64_t>(file_bytes, kLeaseHeadBytesMax));
    EPHFS_TRY_VOID(core::read_exactly(file, 0, prefix));
    EPHFS_TRY(LeaseHead head, parse_lease_head(prefix, file_bytes));
    if (head.held.lease.shard != shard) return fail(Error::damaged, "the lease of another shard");
    return std::move(head.held);
  };
  auto held = read();
  return held ? held : fail(held.error().code, path.string() + ": " + held.error().detail);
}

bool ShardFiles::has(const core::ShardId& shard, std::uint64_t bytes) const {
  return is_file_of(paths_of(shard).shard, bytes);
}

Result<> ShardFiles::recover(const Found& found) {
  for (std::size_t index = 0; index < directories_.size(); ++index) {
    const files::path directory = directory_of(static_cast<std::byte>(index));
    std::error_code error;
    if (!files::is_directory(directory, error)) continue;
    directories_.set(index);
    EPHFS_TRY_VOID(recover_directory(directory, found));
  }
  // A directory whose making was cut off by a crash may not have been synced.
  return core::sync_directory(root_);
}

Result<> ShardFiles::recover_directory(const files::path& directory, const Found& found) {
  std::error_code error;
  std::unordered_set<core::ShardId> shards;
  std::unordered_set<core::ShardId> leases;
  const std::string prefix = directory.filename().string();
  for (files::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    if (name.ends_with(kTemporarySuffix)) {
      EPHFS_TRY_VOID(unlink_file(entry->path()));
    } else if (const auto shard = shard_of_name(name, kShardSuffix)) {
      shards.insert(*shard);
    } else if (const auto lease = shard_of_name(name, kLeaseSuffix)) {
      leases.insert(*lease);
    }
  }
  if (error) return fail_errno("read " + directory.string(), error.value());
  for (const auto& shard : shards) {
    if (leases.contains(shard)) continue;
    EPHFS_TRY_VOID(remove_shard(shard));  // it never came to be there
  }
  for (const auto& shard : leases) EPHFS_TRY_VOID(found(shard, shards.contains(shard)));
  return {};
}

}  // namespace ephfs::node
