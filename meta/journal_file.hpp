// SPDX-License-Identifier: Apache-2.0
// The catalog's journal on disk: records appended one after another to a file whose space is set aside beforehand, so
// that appending works on a full disk. A record that append() returned for survives kill -9; one that sync() returned
// for survives loss of power. Format: docs/formats.md, "Catalog journal". Not thread-safe, but for sync() beside
// append(). Private to meta/.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>

#include "core/files.hpp"
#include "meta/catalog.hpp"

namespace ephfs::meta {

constexpr std::uint64_t kJournalBytes = std::uint64_t{4} << 20;
constexpr std::uint64_t kRecordBytesMax = std::uint64_t{512} << 10;  // of a record with all around it

struct JournalRecord {
  std::uint64_t generation = 0;
  core::Bytes payload;
  bool promised =
      true;  // false: written, never synced, and the machine has started since: it may refer to what is lost
};

class JournalFile {
 public:
  /// The journal at `path`, made when there is none. damaged, naming the file, where a record is that cannot
  /// be read although it had to be; what was torn at the end is cut off. version for a later format.
  [[nodiscard]] static Result<JournalFile> open(const std::filesystem::path& path);

  /// What was in it when it was opened, once.
  [[nodiscard]] std::vector<JournalRecord> take_records() { return std::move(records_); }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// The file's bytes that a payload of this size takes.
  [[nodiscard]] static std::uint64_t record_bytes(std::size_t payload_bytes);
  [[nodiscard]] std::uint64_t used() const { return used_; }
  /// Whether nothing was written that has not been overwritten, and the head is of this version.
  [[nodiscard]] bool is_clean() const { return written_ <= kHeadBytes && !is_old_; }
  /// Whether its space is set aside; nothing is appended while it is not.
  [[nodiscard]] bool is_ready() const { return ready_; }
  /// Sets its space aside where a full disk prevented that before.
  [[nodiscard]] Result<> prepare();
  /// It must be ready, and there must be room. Everything before `synced` has been synced: what is lost of it from now
  /// on is damage. On a failure nothing was appended.
  [[nodiscard]] Result<> append(std::uint64_t generation, std::uint64_t synced, core::ByteView payload);
  [[nodiscard]] Result<> sync() const { return core::sync_data(file_); }
  /// Overwrites all that was ever written behind the head with zeros, on the disk as well, and starts over.
  [[nodiscard]] Result<> clear();

 private:
  JournalFile(std::filesystem::path path, core::FileDescriptor file) : path_(std::move(path)), file_(std::move(file)) {}
  [[nodiscard]] Result<> write_head(std::uint64_t epoch);
  [[nodiscard]] Result<> read_all();
  [[nodiscard]] Result<> read_records(core::ByteView content, bool same_boot);
  [[nodiscard]] core::Failure damaged(std::uint64_t offset) const;

  std::filesystem::path path_;
  core::FileDescriptor file_;
  static constexpr std::uint64_t kHeadBytes = 64;  // magic, version, boot, epoch, sum
  bool ready_ = false;
  bool is_old_ = false;      // of an earlier version, until it is cleared
  std::uint64_t epoch_ = 0;  // a new one at each clearing: a record of an earlier one is none
  std::uint64_t used_ = kHeadBytes;
  std::uint64_t written_ = kHeadBytes;  // behind this are zeros
  std::vector<JournalRecord> records_;
  core::Bytes buffer_;
};

}  // namespace ephfs::meta
