// SPDX-License-Identifier: Apache-2.0
// A ReceiptStore in memory, which keeps everything until told to fail. Thread-safe.
#pragma once

#include <map>
#include <mutex>

#include "node/receipt_store.hpp"

namespace ephfs::testing {

class MemoryReceiptStore final : public node::ReceiptStore {
 public:
  [[nodiscard]] core::Result<> append(const std::vector<node::KeptReceipt>& receipts) override {
    const std::lock_guard lock(mutex_);
    if (failing_) return core::fail(core::Error::io, "injected fault in append");
    for (const auto& kept : receipts) kept_.insert_or_assign(kept.receipt.shard, kept.envelope);
    return {};
  }
  [[nodiscard]] core::Result<std::optional<core::Envelope>> find(const core::ShardId& shard) const override {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.find(shard);
    return found == kept_.end() ? std::nullopt : std::optional(found->second);
  }
  [[nodiscard]] std::uint64_t size() const override {
    const std::lock_guard lock(mutex_);
    return kept_.size();
  }
  void set_failing(bool failing) {
    const std::lock_guard lock(mutex_);
    failing_ = failing;
  }

 private:
  mutable std::mutex mutex_;
  bool failing_ = false;
  std::map<core::ShardId, core::Envelope> kept_;
};

}  // namespace ephfs::testing
