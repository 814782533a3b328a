// SPDX-License-Identifier: Apache-2.0
// Large buffers, made once and used again: streaming must neither hold more than a few of them nor have the allocator
// map and unmap megabytes for each stripe or shard, which the kernel clears every time. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "core/bytes.hpp"

namespace ephfs::core {

class BufferPool {
 public:
  /// Buffers are `bytes` long; at most `kept` are kept for later.
  BufferPool(std::size_t bytes, std::size_t kept) : shelf_(std::make_shared<Shelf>()) {
    shelf_->bytes = bytes;
    shelf_->kept = kept;
  }

  /// A buffer that comes back to the pool when the last pointer to it goes.
  [[nodiscard]] std::shared_ptr<Buffer> take() {
    Buffer buffer;
    {
      const std::lock_guard lock(shelf_->mutex);
      if (!shelf_->buffers.empty()) {
        buffer = std::move(shelf_->buffers.back());
        shelf_->buffers.pop_back();
      }
      ++shelf_->out;
    }
    if (buffer.empty()) buffer = Buffer(shelf_->bytes);
    return {new Buffer(std::move(buffer)), [shelf = shelf_](Buffer* used) {
              shelf->give_back(std::move(*used));
              delete used;
            }};
  }
  /// The same, or null when `limit` buffers are out already: for uses that can do without.
  [[nodiscard]] std::shared_ptr<Buffer> try_take(std::size_t limit) {
    {
      const std::lock_guard lock(shelf_->mutex);
      if (shelf_->out >= limit) return nullptr;
    }
    return take();
  }
  [[nodiscard]] std::size_t buffer_bytes() const { return shelf_->bytes; }

 private:
  struct Shelf {
    std::mutex mutex;
    std::vector<Buffer> buffers;
    std::size_t bytes = 0;
    std::size_t kept = 0;
    std::size_t out = 0;

    void give_back(Buffer buffer) {
      const std::lock_guard lock(mutex);
      --out;
      if (buffers.size() < kept) buffers.push_back(std::move(buffer));
    }
  };
  std::shared_ptr<Shelf> shelf_;
};

/// The first `length` bytes of a pooled buffer, shared.
[[nodiscard]] inline SharedBytes shared_part(const std::shared_ptr<Buffer>& buffer, std::size_t offset,
                                             std::size_t length) {
  const ByteView view = std::as_const(*buffer).view().subspan(offset, length);
  return {buffer, view};
}

}  // namespace ephfs::core
