// SPDX-License-Identifier: Apache-2.0
// Receipts in files: DIR/receipts/NUMBER.receipts, appended to one behind the other (docs/formats.md, "Receipt files").
// A file that is full, or whose first receipt is a day old, is followed by the next; whole files are dropped, oldest
// first, when all in them are too old or there are too many.
//
// Memory: about 60 bytes a receipt, for finding it. Threads: one mutex, held over reading and writing; callers are on
// the disk executor.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/files.hpp"
#include "core/time.hpp"
#include "node/receipt_store.hpp"

namespace ephfs::node {

struct ReceiptLimits {
  core::Milliseconds kept = std::chrono::hours(30 * 24);     // after the deletion
  core::Milliseconds segment_span = std::chrono::hours(24);  // from a file's first receipt to its last
  std::uint64_t segment_receipts = 8192;
  std::uint64_t receipts = std::uint64_t{1} << 19U;  // in all; older files go before more is kept
};

class FileReceiptStore final : public ReceiptStore {
 public:
  /// Opens the store in `directory`, or makes it there, and drops what is too old at `now`. A file that ends in half a
  /// receipt, as a crash leaves it, is cut behind its last whole one; a file damaged elsewhere is used up to the
  /// damage, with a line in the log. version, naming the file, for one of a later ephfs.
  [[nodiscard]] static Result<std::unique_ptr<FileReceiptStore>> open(const std::filesystem::path& directory,
                                                                      core::Instant now, ReceiptLimits limits = {});
  FileReceiptStore(const FileReceiptStore&) = delete;
  FileReceiptStore& operator=(const FileReceiptStore&) = delete;
  ~FileReceiptStore() override = default;

  [[nodiscard]] Result<> append(const std::vector<KeptReceipt>& receipts) override;
  [[nodiscard]] Result<std::optional<core::Envelope>> find(const core::ShardId& shard) const override;
  [[nodiscard]] std::uint64_t size() const override;

 private:
  struct Segment {
    core::FileDescriptor file;
    std::uint64_t bytes = 0;  // up to the end of the last whole receipt
    std::uint64_t receipts = 0;
    core::Instant first, last;  // of the receipts in it
  };
  struct Place {
    std::uint64_t segment = 0;
    std::uint32_t offset = 0;
    std::uint32_t length = 0;  // of the envelope
  };

  FileReceiptStore(std::filesystem::path directory, ReceiptLimits limits)
      : directory_(std::move(directory)), limits_(limits) {}
  [[nodiscard]] std::filesystem::path path_of(std::uint64_t segment) const;
  [[nodiscard]] Result<> load(std::uint64_t number, bool is_last);
  [[nodiscard]] Result<> begin_segment();
  [[nodiscard]] Result<> append_some(const KeptReceipt* receipts, std::size_t count);
  [[nodiscard]] Result<> drop_old(core::Instant now, std::uint64_t coming);
  [[nodiscard]] Result<> drop_first();

  const std::filesystem::path directory_;
  const ReceiptLimits limits_;

  mutable std::mutex mutex_;  // guards all below
  std::map<std::uint64_t, Segment> segments_;
  std::uint64_t next_segment_ = 1;
  std::uint64_t receipts_ = 0;
  std::unordered_map<core::ShardId, Place> places_;
};

}  // namespace ephfs::node
