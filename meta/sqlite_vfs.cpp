// SPDX-License-Identifier: Apache-2.0
#include "meta/sqlite_vfs.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "core/check.hpp"
#include "core/files.hpp"

namespace ephfs::meta {
namespace {

constexpr const char* kName = "ephfs-clean";

/// A file's methods with one of ours among them; SQLite sees the first member.
struct Methods {
  sqlite3_io_methods own;
  const sqlite3_io_methods* base;
};

const sqlite3_io_methods& base_of(const sqlite3_file* file) {
  return *reinterpret_cast<const Methods*>(file->pMethods)->base;
}

sqlite3_vfs* base_vfs() {
  static sqlite3_vfs* const base = sqlite3_vfs_find(nullptr);
  return base;
}

std::size_t load_big_endian(const std::uint8_t* bytes) {
  return std::size_t{bytes[0]} << 8U | bytes[1];
}

// --- Pages

constexpr std::size_t kFirstPageHeader = 100;  // bytes of the database's own header, in front of the first page's
constexpr std::size_t kLeafHeader = 8;
constexpr std::size_t kInnerHeader = 12;

/// The unallocated part of a page of a tree: between the cell pointers and the cells. Empty for any other
/// page.
struct Gap {
  std::size_t begin = 0;
  std::size_t end = 0;
};
Gap find_gap(const std::uint8_t* page, std::size_t size, bool is_first) {
  const std::size_t header = is_first ? kFirstPageHeader : 0;
  const std::uint8_t kind = page[header];
  const bool is_inner = kind == 0x02 || kind == 0x05;
  const bool is_leaf = kind == 0x0a || kind == 0x0d;
  if (!is_inner && !is_leaf) return {};
  const std::size_t cells = load_big_endian(page + header + 3);
  std::size_t content = load_big_endian(page + header + 5);
  if (content == 0) content = 65536;
  const std::size_t begin = header + (is_inner ? kInnerHeader : kLeafHeader) + 2 * cells;
  if (begin >= content || content > size) return {};
  return {begin, content};
}

int write_page(sqlite3_file* file, const void* bytes, int amount, sqlite3_int64 offset) {
  const auto size = static_cast<std::size_t>(amount);
  const bool is_page = std::has_single_bit(size) && size >= 512 && offset % amount == 0;
  if (!is_page) return base_of(file).xWrite(file, bytes, amount, offset);
  const auto* const page = static_cast<const std::uint8_t*>(bytes);
  const Gap gap = find_gap(page, size, offset == 0);
  if (gap.begin == gap.end) return base_of(file).xWrite(file, bytes, amount, offset);
  thread_local std::vector<std::uint8_t> clean;
  clean.assign(page, page + size);
  std::fill(clean.begin() + static_cast<std::ptrdiff_t>(gap.begin),
            clean.begin() + static_cast<std::ptrdiff_t>(gap.end), std::uint8_t{0});
  return base_of(file).xWrite(file, clean.data(), amount, offset);
}

// --- The log

constexpr std::size_t kWipeBytes = std::size_t{64} << 10U;  // at a time

/// What is cut off is zeros on the disk first, so that its blocks are clean when they are given back.
int truncate_log(sqlite3_file* file, sqlite3_int64 size) {
  const sqlite3_io_methods& methods = base_of(file);
  static const std::vector<std::uint8_t> zeros(kWipeBytes);
  sqlite3_int64 end = 0;
  int code = methods.xFileSize(file, &end);
  for (sqlite3_int64 at = size; at < end && code == SQLITE_OK;) {
    const auto part = std::min<sqlite3_int64>(kWipeBytes, end - at);
    code = methods.xWrite(file, zeros.data(), static_cast<int>(part), at);
    at += part;
  }
  if (code == SQLITE_OK && size < end) code = methods.xSync(file, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
  return code == SQLITE_OK ? methods.xTruncate(file, size) : code;
}

/// Best effort: a log that cannot be written any more is deleted as it is.
void wipe_log_at(const char* path) {
  const auto file = core::open_file(path, O_WRONLY);
  if (!file) return;
  const core::Bytes zeros(kWipeBytes);
  struct stat status {};
  if (::fstat(file->get(), &status) != 0) return;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  for (std::uint64_t at = 0; at < size; at += kWipeBytes) {
    const auto part = core::ByteView(zeros).first(std::min<std::uint64_t>(kWipeBytes, size - at));
    if (!core::write_all(*file, at, part)) return;
  }
  (void)core::sync_data(*file);
}

// --- Registration

/// `base` with one method replaced. Made once for each set of methods that the default VFS has.
template <class Replace>
const sqlite3_io_methods* changed(const sqlite3_io_methods* base, std::map<const void*, std::unique_ptr<Methods>>& made,
                                  Replace replace) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  auto& methods = made[base];
  if (!methods) {
    methods = std::make_unique<Methods>(Methods{*base, base});
    replace(methods->own);
  }
  return &methods->own;
}

int open_file(sqlite3_vfs*, const char* path, sqlite3_file* file, int flags, int* flags_out) {
  static auto& databases = *new std::map<const void*, std::unique_ptr<Methods>>;
  static auto& logs = *new std::map<const void*, std::unique_ptr<Methods>>;
  const int code = base_vfs()->xOpen(base_vfs(), path, file, flags, flags_out);
  if (code != SQLITE_OK || file->pMethods == nullptr) return code;
  if ((flags & SQLITE_OPEN_MAIN_DB) != 0) {
    file->pMethods = changed(file->pMethods, databases, [](sqlite3_io_methods& own) { own.xWrite = write_page; });
  } else if ((flags & SQLITE_OPEN_WAL) != 0) {
    file->pMethods = changed(file->pMethods, logs, [](sqlite3_io_methods& own) { own.xTruncate = truncate_log; });
  }
  return code;
}

int delete_file(sqlite3_vfs*, const char* path, int sync_directory) {
  if (std::string_view(path).ends_with("-wal")) wipe_log_at(path);
  return base_vfs()->xDelete(base_vfs(), path, sync_directory);
}

}  // namespace

const char* clean_vfs() {
  static const bool registered = [] {
    static sqlite3_vfs vfs = *base_vfs();
    vfs.pNext = nullptr;
    vfs.zName = kName;
    vfs.xOpen = open_file;
    vfs.xDelete = delete_file;
    return sqlite3_vfs_register(&vfs, 0) == SQLITE_OK;
  }();
  EPHFS_CHECK(registered, "SQLite takes a VFS");
  return kName;
}

}  // namespace ephfs::meta
