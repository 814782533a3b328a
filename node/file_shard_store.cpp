// SPDX-License-Identifier: Apache-2.0
#include "node/file_shard_store.hpp"

#include <algorithm>

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

constexpr std::size_t kTreeCacheBytes = 8U << 20U;
/// Ranges from this size on are read into buffers of a pool.
constexpr std::size_t kPooledBytes = 256U << 10U;
constexpr std::size_t kReadBuffersKept = 2;
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

/// A second name for a file that is exactly the shard; false when it is not, or cannot have one here.
bool link_shard(const files::path& source, std::uint64_t bytes, const files::path& target) {
  if (source.empty()) return false;
  struct stat status {};
  if (::stat(source.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  if (static_cast<std::uint64_t>(status.st_size) != bytes) return false;
  return ::link(source.c_str(), target.c_str()) == 0;
}

std::optional<core::ShardId> shard_of_name(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  return core::ShardId::from_hex(name.substr(0, name.size() - suffix.size()));
}

std::string named(const core::ShardId& shard) {
  return "shard " + shard.hex();
}

Result<> make_directory(const files::path& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno("mkdir " + path.string());
  return {};
}

}  // namespace

struct FileShardStore::Paths {
  files::path directory;
  files::path shard;
  files::path lease;
  files::path shard_temporary;
  files::path lease_temporary;

  /// Takes a failed put back: after it none of the names exists.
  void discard_all() const {
    for (const auto* path : {&lease_temporary, &shard_temporary, &lease, &shard}) {
      if (const auto removed = unlink_file(*path); !removed) core::log_line(removed.error().message());
    }
  }
};

/// The right to change one shard's files. Waits while another holds it.
class FileShardStore::Claim {
 public:
  Claim(FileShardStore& store, const core::ShardId& shard) : store_(store), shard_(shard) {
    std::unique_lock lock(store_.mutex_);
    store_.claim_released_.wait(lock, [this] { return !store_.claimed_.contains(shard_); });
    store_.claimed_.insert(shard_);
  }
  ~Claim() {
    {
      const std::lock_guard lock(store_.mutex_);
      store_.claimed_.erase(shard_);
    }
    store_.claim_released_.notify_all();
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

 private:
  FileShardStore& store_;
  const core::ShardId shard_;
};

FileShardStore::FileShardStore(files::path root, core::FileDescriptor root_directory, std::uint64_t capacity,
                               core::FileDescriptor lock)
    : root_(std::move(root)),
      root_directory_(std::move(root_directory)),
      capacity_(capacity),
      lock_(std::move(lock)),
      trees_(kTreeCacheBytes),
      read_buffers_(net::kShardBytesMax, kReadBuffersKept) {}

FileShardStore::Paths FileShardStore::paths_of(const core::ShardId& shard) const {
  const std::string hex = shard.hex();
  Paths paths;
  paths.directory = root_ / hex.substr(0, 2);
  const std::string stem = (paths.directory / hex).string();
  paths.shard = stem + std::string(kShardSuffix);
  paths.lease = stem + std::string(kLeaseSuffix);
  paths.shard_temporary = paths.shard.string() + std::string(kTemporarySuffix);
  paths.lease_temporary = paths.lease.string() + std::string(kTemporarySuffix);
  return paths;
}

Result<> FileShardStore::put(const HeldLease& lease, const net::ShardSource& shard) {
  const core::ShardId id = lease.lease.shard;
  const std::uint64_t bytes = lease.lease.bytes;
  EPHFS_CHECK(shard.bytes.size() == bytes && (!shard.tree || shard.tree->root() == id),
              "a store is given what its lease names");
  const Claim claim(*this, id);
  {
    const std::lock_guard lock(mutex_);
    if (held_.contains(id)) return fail(Error::exists, named(id));
    const std::uint64_t taken = used_ + reserved_;
    if (taken > capacity_ || bytes > capacity_ - taken) {
      return fail(Error::no_space, "the node's capacity of " + std::to_string(capacity_) + " bytes");
    }
    reserved_ += bytes;
  }
  auto written = write_new(lease, shard);
  if (written) trees_.insert(*written);
  const std::lock_guard lock(mutex_);
  reserved_ -= bytes;
  traces_.erase(id);
  if (!written) return written.error();
  index_locked(lease);
  return {};
}

/// The shard's tree.
Result<std::shared_ptr<const core::MerkleTree>> FileShardStore::write_new(const HeldLease& lease,
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

Result<> FileShardStore::ensure_directory(const core::ShardId& shard) {
  const auto index = std::to_integer<std::size_t>(shard.view()[0]);
  const std::lock_guard lock(directories_mutex_);
  if (directories_.test(index)) return {};
  EPHFS_TRY_VOID(make_directory(paths_of(shard).directory));
  EPHFS_TRY_VOID(core::sync_directory(root_));
  directories_.set(index);
  return {};
}

std::optional<HeldLease> FileShardStore::find(const core::ShardId& shard) const {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(shard);
  if (found == held_.end()) return std::nullopt;
  return found->second;
}

Result<std::shared_ptr<const core::MerkleTree>> FileShardStore::load_tree(const core::ShardId& shard) const {
  if (auto cached = trees_.find(shard)) return cached;
  const auto file = core::read_file(paths_of(shard).lease, kLeaseFileBytesMax);
  if (!file) {
    if (file.error().code == Error::not_found) return fail(Error::not_found, named(shard));
    return file.error();
  }
  auto leaves = parse_leaf_hashes(*file);
  if (!leaves) return fail(leaves.error().code, named(shard) + ": " + leaves.error().detail);
  auto tree = std::make_shared<const core::MerkleTree>(std::move(*leaves));
  if (tree->root() != shard) return fail(Error::damaged, named(shard) + ": its leaf hashes are not its own");
  trees_.insert(tree);
  return tree;
}

Result<core::MerkleTree> FileShardStore::tree(const core::ShardId& shard) const {
  if (!find(shard)) return fail(Error::not_found, named(shard));
  EPHFS_TRY(const auto tree, load_tree(shard));
  return *tree;
}

Result<net::ShardRange> FileShardStore::get(const net::FetchRequest& request) const {
  return get_range(request, Wait::for_disk);
}

Result<net::ShardRange> FileShardStore::try_get(const net::FetchRequest& request) const {
  return get_range(request, Wait::never);
}

Result<> FileShardStore::read_shard(const core::ShardId& shard, std::uint64_t offset, core::MutableByteView out,
                                    Wait wait) const {
  const std::string hex = shard.hex();
  if (wait == Wait::never) {
    const std::string name = hex.substr(0, 2) + '/' + hex + std::string(kShardSuffix);
    EPHFS_TRY(const auto file, core::open_cached(root_directory_, name));
    return core::read_cached(file, offset, out);
  }
  const auto file = core::open_file(paths_of(shard).shard, O_RDONLY);
  if (!file) {
    // It was removed since the index was asked.
    if (file.error().code == Error::not_found) return fail(Error::not_found, named(shard));
    return file.error();
  }
  const auto read = core::read_exactly(*file, offset, out);
  return read ? read : fail(read.error().code, named(shard) + ": " + read.error().detail);
}

Result<net::ShardRange> FileShardStore::get_range(const net::FetchRequest& request, Wait wait) const {
  std::uint64_t bytes = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto held = held_.find(request.shard);
    if (held == held_.end()) return fail(Error::not_found, named(request.shard));
    bytes = held->second.lease.bytes;
  }
  if (request.length == 0 || request.offset >= bytes || request.length > bytes - request.offset) {
    return fail(Error::invalid_argument, "a range outside " + named(request.shard));
  }
  if (request.with_proof) return prove_range(request, bytes, wait);
  net::ShardRange range;
  range.shard_bytes = bytes;
  range.offset = request.offset;
  EPHFS_TRY(range.bytes, read_range(request.shard, request.offset, request.length, wait));
  return range;
}

/// Whole leaves around what was asked for, and their proof.
Result<net::ShardRange> FileShardStore::prove_range(const net::FetchRequest& request, std::uint64_t shard_bytes,
                                                    Wait wait) const {
  auto tree = trees_.find(request.shard);
  if (!tree && wait == Wait::never) return fail(Error::would_block);
  if (!tree) {
    EPHFS_TRY(tree, load_tree(request.shard));
  }
  const std::size_t first = request.offset / core::kLeafBytes;
  const std::size_t count = (request.offset + request.length - 1) / core::kLeafBytes - first + 1;
  net::ShardRange range;
  range.shard_bytes = shard_bytes;
  range.offset = first * core::kLeafBytes;
  const std::uint64_t length = std::min(range.offset + count * core::kLeafBytes, shard_bytes) - range.offset;
  EPHFS_TRY(range.bytes, read_range(request.shard, range.offset, length, wait));
  const std::vector<core::Hash> hashes = core::hash_leaves(range.bytes.view());
  for (std::size_t i = 0; i < count; ++i) {
    if (hashes[i] == tree->leaves()[first + i]) continue;
    return fail(Error::damaged, named(request.shard) + " at byte " + std::to_string((first + i) * core::kLeafBytes));
  }
  if (count < tree->leaves().size()) range.proof = tree->prove_range(first, count);
  return range;
}

Result<core::SharedBytes> FileShardStore::read_range(const core::ShardId& shard, std::uint64_t offset,
                                                     std::uint64_t length, Wait wait) const {
  const auto pooled = length >= kPooledBytes ? read_buffers_.take() : std::make_shared<core::Buffer>(length);
  EPHFS_TRY_VOID(read_shard(shard, offset, pooled->view().first(length), wait));
  return core::shared_part(pooled, 0, length);
}

Result<> FileShardStore::set_lease(const HeldLease& lease) {
  const core::ShardId& id = lease.lease.shard;
  const Claim claim(*this, id);
  const auto held = find(id);
  if (!held) return fail(Error::not_found, named(id));
  EPHFS_CHECK(held->lease.bytes == lease.lease.bytes, "a lease is replaced by one for the same shard");

  const Paths paths = paths_of(id);
  EPHFS_TRY(const core::Bytes old, core::read_file(paths.lease, kLeaseFileBytesMax));
  EPHFS_TRY(const std::vector<core::Hash> leaves, parse_leaf_hashes(old));
  const auto write = [&]() -> Result<> {
    EPHFS_TRY_VOID(write_synced(paths.lease_temporary, encode_lease_file(lease, leaves)));
    return rename_file(paths.lease_temporary, paths.lease);
  };
  if (Result<> written = write(); !written) {
    (void)unlink_file(paths.lease_temporary);
    return written;
  }
  {
    // From the rename on, the file says so; the index follows it even when the sync below fails.
    const std::lock_guard lock(mutex_);
    drop_locked(id);
    index_locked(lease);
  }
  return core::sync_directory(paths.directory);
}

Result<> FileShardStore::remove(const core::ShardId& shard, RemovalSync sync) {
  const Claim claim(*this, shard);
  if (!find(shard)) return fail(Error::not_found, named(shard));
  const Paths paths = paths_of(shard);
  EPHFS_TRY_VOID(unlink_file(paths.shard));
  trees_.erase(shard);
  {
    const std::lock_guard lock(mutex_);
    traces_.insert_or_assign(shard, held_.at(shard));
    drop_locked(shard);
  }
  if (sync == RemovalSync::lazy) return {};
  return core::sync_directory(paths.directory);
}

std::optional<HeldLease> FileShardStore::trace(const core::ShardId& shard) const {
  const std::lock_guard lock(mutex_);
  const auto found = traces_.find(shard);
  if (found == traces_.end()) return std::nullopt;
  return found->second;
}

std::vector<HeldLease> FileShardStore::traces(std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  std::vector<HeldLease> traces;
  for (const auto& [shard, lease] : traces_) {
    if (traces.size() >= limit) break;
    traces.push_back(lease);
  }
  return traces;
}

Result<> FileShardStore::sync_removals(const std::vector<core::ShardId>& shards) {
  std::set<files::path> touched;
  for (const auto& shard : shards) touched.insert(paths_of(shard).directory);
  for (const auto& directory : touched) EPHFS_TRY_VOID(core::sync_directory(directory));
  return {};
}

Result<> FileShardStore::forget(const std::vector<core::ShardId>& shards) {
  for (const auto& shard : shards) {
    const Claim claim(*this, shard);
    if (!trace(shard)) continue;
    EPHFS_TRY_VOID(unlink_file(paths_of(shard).lease));
    const std::lock_guard lock(mutex_);
    traces_.erase(shard);
  }
  return {};
}

core::Deadline FileShardStore::next_deadline() const {
  const std::lock_guard lock(mutex_);
  return by_deadline_.empty() ? core::Deadline::never() : by_deadline_.begin()->first;
}

std::vector<core::ShardId> FileShardStore::expired(core::Instant now, std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  std::vector<core::ShardId> shards;
  for (const auto& [deadline, shard] : by_deadline_) {
    if (shards.size() >= limit || deadline.is_never() || !deadline.passed(now)) break;
    shards.push_back(shard);
  }
  return shards;
}

StoreUsage FileShardStore::usage() const {
  const std::lock_guard lock(mutex_);
  return {.capacity = capacity_, .used = used_, .shards = held_.size()};
}

std::vector<net::Holding> FileShardStore::held_for(const core::OwnerId& owner, const core::ShardId& after,
                                                   std::size_t limit) const {
  std::vector<net::Holding> holdings;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [shard, held] : held_) {
      if (held.lease.owner != owner || shard <= after) continue;
      holdings.push_back({shard, held.lease.bytes, held.lease.serial, held.lease.deadline, true});
    }
  }
  limit = std::min(limit, holdings.size());
  const auto end = holdings.begin() + static_cast<std::ptrdiff_t>(limit);
  std::ranges::partial_sort(holdings, end, {}, &net::Holding::shard);
  holdings.resize(limit);
  for (auto& holding : holdings) {
    struct stat status {};
    const auto path = paths_of(holding.shard).shard;
    holding.present = ::stat(path.c_str(), &status) == 0 && static_cast<std::uint64_t>(status.st_size) == holding.bytes;
  }
  return holdings;
}

void FileShardStore::index_locked(const HeldLease& lease) {
  held_.emplace(lease.lease.shard, lease);
  by_deadline_.emplace(lease.lease.deadline, lease.lease.shard);
  used_ += lease.lease.bytes;
}

void FileShardStore::drop_locked(const core::ShardId& shard) {
  const auto found = held_.find(shard);
  EPHFS_CHECK(found != held_.end(), "what is dropped was held");
  by_deadline_.erase({found->second.lease.deadline, shard});
  used_ -= found->second.lease.bytes;
  held_.erase(found);
}

Result<> FileShardStore::scan(core::Instant now) {
  for (std::size_t index = 0; index < directories_.size(); ++index) {
    const auto byte = static_cast<std::byte>(index);
    const files::path directory = root_ / core::to_hex({&byte, 1});
    std::error_code error;
    if (!files::is_directory(directory, error)) continue;
    directories_.set(index);
    EPHFS_TRY_VOID(scan_directory(directory, now));
  }
  // A directory whose making was cut off by a crash may not have been synced.
  return core::sync_directory(root_);
}

Result<> FileShardStore::scan_directory(const files::path& directory, core::Instant now) {
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
    EPHFS_TRY_VOID(unlink_file(paths_of(shard).shard));  // a put that did not happen
  }
  for (const auto& shard : leases) EPHFS_TRY_VOID(adopt(shard, shards.contains(shard), now));
  return {};
}

Result<> FileShardStore::adopt(const core::ShardId& shard, bool is_there, core::Instant now) {
  const Paths paths = paths_of(shard);
  const auto read = [&]() -> Result<LeaseHead> {
    EPHFS_TRY(const auto file, core::open_file(paths.lease, O_RDONLY));
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return fail_errno("stat " + paths.lease.string());
    const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
    core::Bytes prefix(std::min<std::uint64_t>(file_bytes, kLeaseHeadBytesMax));
    EPHFS_TRY_VOID(core::read_exactly(file, 0, prefix));
    EPHFS_TRY(LeaseHead head, parse_lease_head(prefix, file_bytes));
    if (head.held.lease.shard != shard) return fail(Error::damaged, "the lease of another shard");
    return head;
  };
  const auto head = read();
  if (head && is_there && !head->held.lease.deadline.passed(now)) {
    index_locked(head->held);
    return {};
  }
  if (!head) {
    const bool lost = head.error().code == Error::damaged || head.error().code == Error::io;
    if (!lost) return fail(head.error().code, paths.lease.string() + ": " + head.error().detail);
    core::log_line(paths.lease.string() + ": " + head.error().message() + "; its shard is deleted");
  }
  EPHFS_TRY_VOID(unlink_file(paths.shard));
  if (!head) return unlink_file(paths.lease);
  traces_.emplace(shard, head->held);
  return {};
}

Result<std::unique_ptr<FileShardStore>> open_file_shard_store(const files::path& directory, std::uint64_t capacity,
                                                              core::Instant now) {
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
  std::unique_ptr<FileShardStore> store(new FileShardStore(root, std::move(root_directory), capacity, std::move(lock)));
  EPHFS_TRY_VOID(store->scan(now));
  return store;
}

}  // namespace ephfs::node
