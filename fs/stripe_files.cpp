// SPDX-License-Identifier: Apache-2.0
#include "fs/stripe_files.hpp"

#include <algorithm>
#include <charconv>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace ephfs::fs {

using core::ByteView;
using core::Deadline;
using core::fail;

namespace files = std::filesystem;

namespace {

constexpr std::string_view kWholeSuffix = ".stripe";
constexpr std::string_view kPartSuffix = ".part";
constexpr std::size_t kOpenFilesMax = 128;

std::string stem_of(const StripeName& name) {
  return std::to_string(name.number.value) + "-" + name.id.hex();
}

std::optional<StripeName> parse_name(std::string_view text) {
  if (!text.ends_with(kWholeSuffix)) return std::nullopt;
  text.remove_suffix(kWholeSuffix.size());
  StripeName name;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), name.number.value);
  if (error != std::errc{} || end == text.data() + text.size() || *end != '-') return std::nullopt;
  const auto id = core::StripeId::from_hex(text.substr(static_cast<std::size_t>(end - text.data()) + 1));
  if (!id || name.number.value <= 0) return std::nullopt;
  name.id = *id;
  if (stem_of(name) != text) return std::nullopt;
  return name;
}

Result<std::vector<StripeName>> list_stripes(const files::path& directory) {
  std::vector<StripeName> names;
  std::error_code error;
  for (files::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    if (const auto name = parse_name(at->path().filename().string())) {
      names.push_back(*name);
    } else {
      std::error_code ignored;
      files::remove(at->path(), ignored);
    }
  }
  if (error) return fail(core::from_errno(error.value()), "read " + directory.string() + ": " + error.message());
  std::ranges::sort(names);
  return names;
}

struct FileFacts {
  std::uint64_t bytes = 0;
  bool shared = false;
};

std::optional<FileFacts> facts_of(const files::path& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) return std::nullopt;
  return FileFacts{static_cast<std::uint64_t>(facts.st_size), facts.st_nlink > 1};
}

}  // namespace

StripeFiles::StripeFiles(files::path volume, std::uint64_t cache_bytes)
    : staging_(volume / "staging"), cache_(volume / "cache"), cache_bytes_(cache_bytes) {}

Result<std::unique_ptr<StripeFiles>> StripeFiles::open(const files::path& volume, std::uint64_t cache_bytes) {
  std::unique_ptr<StripeFiles> made(new StripeFiles(volume, cache_bytes));
  EPHFS_TRY_VOID(made->scan());
  return made;
}

Result<> StripeFiles::scan() {
  for (const auto& directory : {staging_, cache_}) {
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
      return core::fail_errno("make " + directory.string());
    }
  }
  EPHFS_TRY(found_.staged, list_stripes(staging_));
  EPHFS_TRY(found_.cached, list_stripes(cache_));
  return {};
}

files::path StripeFiles::staged_path(const StripeName& name) const {
  return staging_ / (stem_of(name) + std::string(kWholeSuffix));
}

files::path StripeFiles::cached_path(const StripeName& name, bool whole) const {
  return cache_ / (stem_of(name) + std::string(whole ? kWholeSuffix : kPartSuffix));
}

bool StripeFiles::keep_cached(const StripeName& name, std::uint64_t bytes, Deadline deadline) {
  const auto path = cached_path(name, true);
  const auto facts = facts_of(path);
  if (!facts || facts->bytes < bytes) {
    ::unlink(path.c_str());
    return false;
  }
  const std::lock_guard lock(mutex_);
  Entry& entry = insert_locked(name, deadline);
  entry.shared = facts->shared;
  count_locked(entry, facts->shared ? 0 : facts->bytes);
  evict_locked();
  return true;
}

void StripeFiles::drop_found(const StripeName& name) {
  ::unlink(cached_path(name, true).c_str());
}

Result<SharedFile> StripeFiles::create_staged(const StripeName& name) {
  EPHFS_TRY(auto file, core::open_file(staged_path(name), O_RDWR | O_CREAT | O_EXCL, 0600));
  const std::lock_guard lock(mutex_);
  staging_changed_ = true;
  return std::make_shared<const core::FileDescriptor>(std::move(file));
}

Result<SharedFile> StripeFiles::open_staged(const StripeName& name) {
  EPHFS_TRY(auto file, core::open_file(staged_path(name), O_RDWR));
  return std::make_shared<const core::FileDescriptor>(std::move(file));
}

Result<> StripeFiles::sync_staging() {
  // Who finds nothing new may rely on it.
  const std::lock_guard syncing(sync_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (!staging_changed_) return {};
    staging_changed_ = false;
  }
  auto synced = core::sync_directory(staging_);
  if (!synced) {
    const std::lock_guard lock(mutex_);
    staging_changed_ = true;
  }
  return synced;
}

Result<> StripeFiles::adopt(const StripeName& name, std::uint64_t bytes, Deadline deadline) {
  const auto path = cached_path(name, true);
  const std::lock_guard lock(mutex_);
  if (::rename(staged_path(name).c_str(), path.c_str()) != 0) return core::fail_errno("rename to " + path.string());
  const auto facts = facts_of(path);
  Entry& entry = insert_locked(name, deadline);
  entry.shared = facts && facts->shared;
  entry.chunks.clear();
  count_locked(entry, entry.shared ? 0 : bytes);
  evict_locked();
  return {};
}

void StripeFiles::remove_staged(const StripeName& name) {
  ::unlink(staged_path(name).c_str());
}

SharedFile StripeFiles::cached(const StripeName& name) {
  const std::lock_guard lock(mutex_);
  const auto found = cached_.find(name);
  if (found == cached_.end() || !found->second.chunks.empty()) return nullptr;
  return file_locked(found->second);
}

SharedFile StripeFiles::cached_range(const StripeName& name, std::uint64_t offset, std::uint64_t length) {
  const std::lock_guard lock(mutex_);
  const auto found = cached_.find(name);
  if (found == cached_.end()) return nullptr;
  Entry& entry = found->second;
  if (!entry.chunks.empty()) {
    if (offset > entry.total || length > entry.total - offset) return nullptr;
    for (std::uint64_t chunk = offset / kChunkBytes; chunk * kChunkBytes < offset + length; ++chunk) {
      if (!entry.chunks[chunk]) return nullptr;
    }
  }
  return file_locked(entry);
}

bool StripeFiles::holds(const StripeName& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = cached_.find(name);
  return found != cached_.end() && found->second.chunks.empty();
}

void StripeFiles::put_whole(const StripeName& name, const std::vector<core::SharedBytes>& parts, Deadline deadline) {
  std::uint64_t total = 0;
  for (const auto& part : parts) total += part.size();
  if (total > cache_bytes_ || holds(name)) return;
  // Another suffix than that of partly cached stripes, whose file readers may be using meanwhile.
  const auto temporary = cache_ / (stem_of(name) + ".new");
  auto file = core::open_file(temporary, O_RDWR | O_CREAT | O_TRUNC, 0600);
  bool written = file.has_value();
  std::uint64_t at = 0;
  for (const auto& part : parts) {
    written = written && core::write_all(*file, at, part.view()).has_value();
    at += part.size();
  }
  const std::lock_guard lock(mutex_);
  if (!written || ::rename(temporary.c_str(), cached_path(name, true).c_str()) != 0) {
    ::unlink(temporary.c_str());
    return;
  }
  if (const auto found = cached_.find(name); found != cached_.end() && !found->second.chunks.empty()) {
    ::unlink(cached_path(name, false).c_str());
    open_files_.remove(name);
    found->second.file = nullptr;
    found->second.chunks.clear();
  }
  Entry& entry = insert_locked(name, deadline);
  count_locked(entry, total);
  evict_locked();
}

void StripeFiles::put_range(const StripeName& name, std::uint64_t total, std::uint64_t offset, ByteView bytes,
                            Deadline deadline) {
  if (total > cache_bytes_ || bytes.empty()) return;
  SharedFile file;
  {
    const std::lock_guard lock(mutex_);
    auto found = cached_.find(name);
    if (found == cached_.end()) {
      auto made = core::open_file(cached_path(name, false), O_RDWR | O_CREAT | O_TRUNC, 0600);
      if (!made) return;
      Entry& entry = insert_locked(name, deadline);
      entry.chunks.assign((total + kChunkBytes - 1) / kChunkBytes, false);
      entry.total = total;
      entry.file = std::make_shared<const core::FileDescriptor>(std::move(*made));
      open_files_.push_back(name);
      bound_descriptors_locked();
      file = entry.file;
    } else {
      if (found->second.chunks.empty() || found->second.total != total) return;
      file = file_locked(found->second);
    }
  }
  if (!file || !core::write_all(*file, offset, bytes)) return;

  const std::lock_guard lock(mutex_);
  const auto found = cached_.find(name);
  // The entry may have been evicted, and made again with another file, since the bytes were written.
  if (found == cached_.end() || found->second.chunks.empty() || found->second.file != file) return;
  Entry& entry = found->second;
  const std::uint64_t end = offset + bytes.size();
  std::uint64_t added = 0;
  for (std::uint64_t chunk = (offset + kChunkBytes - 1) / kChunkBytes; chunk < entry.chunks.size(); ++chunk) {
    const std::uint64_t chunk_end = std::min((chunk + 1) * kChunkBytes, entry.total);
    if (chunk_end > end) break;
    if (!entry.chunks[chunk]) added += chunk_end - chunk * kChunkBytes;
    entry.chunks[chunk] = true;
  }
  count_locked(entry, entry.bytes + added);
  evict_locked();
}

void StripeFiles::remove_cached(const StripeName& name) {
  const std::lock_guard lock(mutex_);
  if (const auto found = cached_.find(name); found != cached_.end()) erase_locked(found);
}

void StripeFiles::set_deadline(const StripeName& name, Deadline deadline) {
  const std::lock_guard lock(mutex_);
  if (cached_.contains(name)) insert_locked(name, deadline);
}

Deadline StripeFiles::remove_expired(core::Instant now) {
  const std::lock_guard lock(mutex_);
  while (!by_deadline_.empty() && by_deadline_.begin()->first.passed(now)) {
    erase_locked(cached_.find(by_deadline_.begin()->second));
  }
  return by_deadline_.empty() ? Deadline::never() : by_deadline_.begin()->first;
}

std::uint64_t StripeFiles::cached_bytes() const {
  const std::lock_guard lock(mutex_);
  return counted_;
}

/// The entry, made when there is none, with this deadline, and the most recently used.
StripeFiles::Entry& StripeFiles::insert_locked(const StripeName& name, Deadline deadline) {
  const auto [at, made] = cached_.try_emplace(name);
  Entry& entry = at->second;
  if (made) {
    entry.name = name;
    entry.used = by_use_.insert(by_use_.end(), name);
  } else {
    by_deadline_.erase({entry.deadline, name});
    touch_locked(entry);
  }
  entry.deadline = deadline;
  by_deadline_.insert({deadline, name});
  return entry;
}

SharedFile StripeFiles::file_locked(Entry& entry) {
  touch_locked(entry);
  if (!entry.file) {
    auto file = core::open_file(cached_path(entry.name, entry.chunks.empty()), O_RDWR);
    if (!file) {
      erase_locked(cached_.find(entry.name));
      return nullptr;
    }
    entry.file = std::make_shared<const core::FileDescriptor>(std::move(*file));
    open_files_.push_back(entry.name);
  }
  SharedFile file = entry.file;
  bound_descriptors_locked();
  return file;
}

void StripeFiles::touch_locked(Entry& entry) {
  by_use_.splice(by_use_.end(), by_use_, entry.used);
}

void StripeFiles::count_locked(Entry& entry, std::uint64_t bytes) {
  counted_ = counted_ - entry.bytes + bytes;
  entry.bytes = bytes;
}

void StripeFiles::evict_locked() {
  for (auto at = by_use_.begin(); counted_ > cache_bytes_ && at != by_use_.end();) {
    const auto entry = cached_.find(*at++);
    if (entry->second.bytes > 0) erase_locked(entry);
  }
}

void StripeFiles::erase_locked(std::map<StripeName, Entry>::iterator at) {
  Entry& entry = at->second;
  ::unlink(cached_path(entry.name, entry.chunks.empty()).c_str());
  counted_ -= entry.bytes;
  by_use_.erase(entry.used);
  by_deadline_.erase({entry.deadline, entry.name});
  if (entry.file) open_files_.remove(entry.name);
  cached_.erase(at);
}

void StripeFiles::bound_descriptors_locked() {
  while (open_files_.size() > kOpenFilesMax) {
    cached_.at(open_files_.front()).file = nullptr;
    open_files_.pop_front();
  }
}

}  // namespace ephfs::fs
