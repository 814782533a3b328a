// SPDX-License-Identifier: Apache-2.0
#include "meta/journal_file.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/little_endian.hpp"

namespace ephfs::meta {

using core::Error;
using core::fail;

namespace {

constexpr std::string_view kMagic = "EPHFSJNL";
constexpr std::uint32_t kVersion = 2;  // 1: without bytes of staged files
constexpr std::size_t kBootBytes = 36;
constexpr std::size_t kPrefixBytes = 24;  // sum, length, synced, generation
constexpr std::size_t kAlignment = 8;

constexpr std::size_t kBootAt = 12;
constexpr std::size_t kEpochAt = kBootAt + kBootBytes;
constexpr std::size_t kHeadSumAt = kEpochAt + 8;

/// SipHash-2-4 (Aumasson, Bernstein 2012): finds damage; it is no protection against who may write the file.
std::uint64_t sum_of(std::uint64_t epoch, core::ByteView bytes) {
  std::array<std::byte, crypto_shorthash_KEYBYTES> key{};
  core::store_le(key, epoch);
  std::array<std::byte, crypto_shorthash_BYTES> sum{};
  crypto_shorthash(core::as_u8(core::MutableByteView(sum)), core::as_u8(bytes), bytes.size(),
                   core::as_u8(core::ByteView(key)));
  return core::load_le<std::uint64_t>(sum);
}

/// What names this run of the kernel; zeros where the system does not say.
std::array<std::byte, kBootBytes> boot_id() {
  std::array<std::byte, kBootBytes> id{};
  const auto file = core::open_file("/proc/sys/kernel/random/boot_id", O_RDONLY);
  if (file && ::read(file->get(), id.data(), id.size()) != static_cast<ssize_t>(id.size())) id = {};
  return id;
}

struct Parsed {
  std::uint64_t generation = 0;
  std::uint64_t synced = 0;
  core::ByteView payload;
};

/// The record at `offset`; none when no whole one is there.
std::optional<Parsed> parse(core::ByteView content, std::uint64_t offset, std::uint64_t epoch) {
  if (content.size() - offset < kPrefixBytes) return std::nullopt;
  const core::ByteView here = content.subspan(offset);
  const auto length = core::load_le<std::uint32_t>(here.subspan(8));
  if (length == 0 || length > kRecordBytesMax) return std::nullopt;
  const std::uint64_t size = JournalFile::record_bytes(length);
  if (size > here.size()) return std::nullopt;
  if (core::load_le<std::uint64_t>(here) != sum_of(epoch, here.first(size).subspan(8))) return std::nullopt;
  return Parsed{core::load_le<std::uint64_t>(here.subspan(16)), core::load_le<std::uint32_t>(here.subspan(12)),
                here.subspan(kPrefixBytes, length)};
}

/// How many bytes there are up to the last one that is not zero.
std::size_t length_without_zeros(core::ByteView bytes) {
  static constexpr std::array<std::byte, 4096> kZeros{};
  while (bytes.size() >= kZeros.size() &&
         std::memcmp(bytes.last(kZeros.size()).data(), kZeros.data(), kZeros.size()) == 0) {
    bytes = bytes.first(bytes.size() - kZeros.size());
  }
  while (!bytes.empty() && bytes.back() == std::byte{0}) bytes = bytes.first(bytes.size() - 1);
  return bytes.size();
}

/// Never the same twice, so that neither an old record nor a value that looks like one is taken for one.
std::uint64_t new_epoch() {
  std::uint64_t epoch = 0;
  ::randombytes_buf(&epoch, sizeof epoch);
  return epoch;
}

}  // namespace

std::uint64_t JournalFile::record_bytes(std::size_t payload_bytes) {
  return (kPrefixBytes + payload_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

core::Failure JournalFile::damaged(std::uint64_t offset) const {
  return fail(Error::damaged, "journal " + path_.string() + ": at byte " + std::to_string(offset));
}

Result<JournalFile> JournalFile::open(const std::filesystem::path& path) {
  EPHFS_TRY(auto file, core::open_file(path, O_RDWR | O_CREAT, 0600));
  JournalFile journal(path, std::move(file));
  struct stat status {};
  if (::fstat(journal.file_.get(), &status) != 0) return core::fail_errno("reading " + path.string());
  // Its space is set aside before anything is in it, so a shorter one was never used.
  if (static_cast<std::uint64_t>(status.st_size) >= kJournalBytes) {
    EPHFS_TRY_VOID(journal.read_all());
    return journal;
  }
  auto prepared = journal.prepare();
  if (!prepared && prepared.error().code != Error::no_space) return prepared.error();
  return journal;
}

Result<> JournalFile::prepare() {
  if (ready_) return {};
  if (const int code = ::posix_fallocate(file_.get(), 0, static_cast<off_t>(kJournalBytes)); code != 0) {
    // A part of it would be space lost.
    if (::ftruncate(file_.get(), 0) != 0) return core::fail_errno("giving back the space of " + path_.string());
    return core::fail_errno("setting space aside for " + path_.string(), code);
  }
  // Written once, it is synced without the file system having to note that it is.
  EPHFS_TRY_VOID(core::write_all(file_, kHeadBytes, core::Bytes(kJournalBytes - kHeadBytes)));
  EPHFS_TRY_VOID(write_head(new_epoch()));
  EPHFS_TRY_VOID(core::sync_data(file_));
  ready_ = true;
  return core::sync_directory(path_.parent_path());
}

Result<> JournalFile::read_all() {
  core::Bytes content(kJournalBytes);
  EPHFS_TRY_VOID(core::read_exactly(file_, 0, content));
  const core::ByteView all(content);
  const std::size_t end = length_without_zeros(all);
  if (end == 0) return prepare();
  if (core::as_text(all.first(kMagic.size())) != kMagic) return damaged(0);
  const auto version = core::load_le<std::uint32_t>(all.subspan(kMagic.size()));
  is_old_ = version < kVersion;
  if (version == 0 || version > kVersion) {
    return fail(Error::version, "journal " + path_.string());
  }
  if (core::load_le<std::uint64_t>(all.subspan(kHeadSumAt)) != sum_of(0, all.first(kHeadSumAt))) return damaged(0);
  epoch_ = core::load_le<std::uint64_t>(all.subspan(kEpochAt));
  ready_ = true;
  // What a crash left may be anywhere.
  written_ = std::max<std::uint64_t>(kHeadBytes, end);
  const auto boot = boot_id();
  // A record may end in zeros.
  const std::uint64_t records_end = std::min(kJournalBytes, written_ + kRecordBytesMax);
  return read_records(all.first(records_end), std::ranges::equal(all.subspan(kBootAt, kBootBytes), boot));
}

Result<> JournalFile::read_records(core::ByteView content, bool same_boot) {
  std::vector<std::uint64_t> starts;
  std::uint64_t synced = 0;
  while (used_ < content.size()) {
    const auto record = parse(content, used_, epoch_);
    if (!record) break;
    records_.push_back({record->generation, core::to_bytes(record->payload), same_boot});
    starts.push_back(used_);
    synced = std::max(synced, record->synced);
    used_ += record_bytes(record->payload.size());
  }
  // A kill tears the last record only; a loss of power, any that was not synced. A record behind the tear
  // tells.
  for (std::uint64_t at = used_ + kAlignment; at < written_ && at + kPrefixBytes <= content.size(); at += kAlignment) {
    const auto later = parse(content, at, epoch_);
    if (later && (same_boot || later->synced > used_)) return damaged(used_);
  }
  for (std::size_t index = 0; index < starts.size(); ++index) {
    if (starts[index] < synced) records_[index].promised = true;
  }
  return {};
}

Result<> JournalFile::append(std::uint64_t generation, std::uint64_t synced, core::ByteView payload) {
  const std::uint64_t size = record_bytes(payload.size());
  EPHFS_CHECK(ready_ && !payload.empty() && used_ + size <= kJournalBytes, "there is room in the journal");
  buffer_.assign(size, std::byte{0});
  const core::MutableByteView record(buffer_);
  core::store_le(record.subspan(8), static_cast<std::uint32_t>(payload.size()));
  core::store_le(record.subspan(12), static_cast<std::uint32_t>(synced));
  core::store_le(record.subspan(16), generation);
  std::ranges::copy(payload, record.subspan(kPrefixBytes).begin());
  core::store_le(record, sum_of(epoch_, record.subspan(8)));
  written_ = std::max(written_, used_ + size);
  EPHFS_TRY_VOID(core::write_all(file_, used_, record));
  used_ += size;
  return {};
}

Result<> JournalFile::clear() {
  if (is_clean()) return {};
  // The head first, and on the disk: records that are half overwritten would be damage under the old one.
  EPHFS_TRY_VOID(write_head(new_epoch()));
  EPHFS_TRY_VOID(core::sync_data(file_));
  const core::Bytes zeros(written_ - kHeadBytes);
  EPHFS_TRY_VOID(core::write_all(file_, kHeadBytes, zeros));
  EPHFS_TRY_VOID(core::sync_data(file_));
  written_ = kHeadBytes;
  return {};
}

Result<> JournalFile::write_head(std::uint64_t epoch) {
  core::Bytes head(kHeadBytes);
  const core::MutableByteView view(head);
  std::ranges::copy(core::as_bytes(kMagic), view.begin());
  core::store_le(view.subspan(kMagic.size()), kVersion);
  std::ranges::copy(boot_id(), view.subspan(kBootAt).begin());
  core::store_le(view.subspan(kEpochAt), epoch);
  core::store_le(view.subspan(kHeadSumAt), sum_of(0, view.first(kHeadSumAt)));
  EPHFS_TRY_VOID(core::write_all(file_, 0, head));
  epoch_ = epoch;
  used_ = kHeadBytes;
  is_old_ = false;
  return {};
}

}  // namespace ephfs::meta
