// SPDX-License-Identifier: Apache-2.0
// Memory that files' bytes are in before they are encrypted and after they are decrypted. What is released is wiped.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#include "core/secret.hpp"

namespace ephfs::fs {

/// A growing run of plaintext. Memory is wiped when it is released. Large pieces are kept out of core dumps as well,
/// and those of a stripe's size are used again: fresh ones would cost a stream more than wiping does, since the kernel
/// clears and maps each page. Movable only.
class PlainBytes {
 public:
  PlainBytes() = default;
  explicit PlainBytes(core::ByteView bytes) { append(bytes); }
  /// Contents unspecified.
  [[nodiscard]] static PlainBytes of_size(std::size_t size) {
    PlainBytes bytes;
    bytes.reserve(size);
    bytes.size_ = size;
    return bytes;
  }
  ~PlainBytes() { release(); }
  PlainBytes(PlainBytes&& other) noexcept
      : memory_(std::move(other.memory_)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  PlainBytes& operator=(PlainBytes&& other) noexcept {
    if (this != &other) {
      release();
      memory_ = std::move(other.memory_);
      size_ = std::exchange(other.size_, 0);
      capacity_ = std::exchange(other.capacity_, 0);
    }
    return *this;
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] core::ByteView view() const noexcept { return {memory_.get(), size_}; }
  [[nodiscard]] core::MutableByteView mutable_view() noexcept { return {memory_.get(), size_}; }
  void reserve(std::size_t capacity) {
    if (capacity <= capacity_) return;
    std::unique_ptr<std::byte[]> grown = allocate(capacity);
    if (size_ > 0) std::memcpy(grown.get(), memory_.get(), size_);
    release();
    memory_ = std::move(grown);
    capacity_ = capacity;
  }
  /// `bytes` are none of its own.
  void append(core::ByteView bytes) {
    if (bytes.empty()) return;
    reserve(size_ + bytes.size());
    std::memcpy(memory_.get() + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }
  /// Forgets all behind the first `size` bytes. `size` is at most size().
  void shrink(std::size_t size) {
    core::wipe(mutable_view().subspan(size));
    size_ = size;
  }

 private:
  [[nodiscard]] static std::unique_ptr<std::byte[]> allocate(std::size_t capacity);
  /// Wipes what was written to it. The bytes only: size_ stays.
  void release() noexcept;

  std::unique_ptr<std::byte[]> memory_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

/// Wipes bytes of somebody else's type when it goes.
class WipeAtEnd {
 public:
  explicit WipeAtEnd(core::Bytes& bytes) : bytes_(bytes) {}
  ~WipeAtEnd() { core::wipe(bytes_); }
  WipeAtEnd(const WipeAtEnd&) = delete;
  WipeAtEnd& operator=(const WipeAtEnd&) = delete;

 private:
  core::Bytes& bytes_;
};

}  // namespace ephfs::fs
