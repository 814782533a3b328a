// SPDX-License-Identifier: Apache-2.0
// The ReceiptStore seam: where a node keeps the receipts of what it deleted, until the owners have had time to ask for
// them. FileReceiptStore is the real one; tests/support has one in memory. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/records.hpp"
#include "core/result.hpp"

namespace ephfs::node {

using core::Result;

/// A receipt as it was signed, and what it says.
struct KeptReceipt {
  core::Receipt receipt;
  core::Envelope envelope;
};

class ReceiptStore {
 public:
  virtual ~ReceiptStore() = default;

  /// Keeps all of them, on stable storage when it returns. After a failure some may be kept. What has become too old or
  /// too much is dropped on the way.
  [[nodiscard]] virtual Result<> append(const std::vector<KeptReceipt>& receipts) = 0;
  /// The latest receipt kept for a shard; none when there is none. damaged when it cannot be read back.
  [[nodiscard]] virtual Result<std::optional<core::Envelope>> find(const core::ShardId& shard) const = 0;
  /// How many shards have one.
  [[nodiscard]] virtual std::uint64_t size() const = 0;
};

}  // namespace ephfs::node
