// SPDX-License-Identifier: Apache-2.0
// Bytes: views of them, an owned buffer that is not zeroed when made, and a shared slice that payloads travel in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/check.hpp"

namespace ephfs::core {

using ByteView = std::span<const std::byte>;
using MutableByteView = std::span<std::byte>;
using Bytes = std::vector<std::byte>;

[[nodiscard]] inline ByteView as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
[[nodiscard]] inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
[[nodiscard]] inline Bytes to_bytes(ByteView view) {
  return {view.begin(), view.end()};
}
/// The same bytes for C libraries, which speak of unsigned char.
[[nodiscard]] inline const std::uint8_t* as_u8(ByteView view) {
  return reinterpret_cast<const std::uint8_t*>(view.data());
}
[[nodiscard]] inline std::uint8_t* as_u8(MutableByteView view) {
  return reinterpret_cast<std::uint8_t*>(view.data());
}

/// Lower-case hexadecimal.
[[nodiscard]] std::string to_hex(ByteView bytes);
/// Fills `out` from exactly twice as many hexadecimal digits; false, with `out` unspecified, for anything else.
[[nodiscard]] bool from_hex(std::string_view hex, MutableByteView out);

/// An owned run of bytes, aligned to 64 for vector instructions, contents unspecified when made. Movable only.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size);
  [[nodiscard]] static Buffer copy_of(ByteView bytes);

  [[nodiscard]] std::byte* data() noexcept { return data_.get(); }
  [[nodiscard]] const std::byte* data() const noexcept { return data_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] MutableByteView view() noexcept { return {data_.get(), size_}; }
  [[nodiscard]] ByteView view() const noexcept { return {data_.get(), size_}; }
  /// Forgets all behind the first `size` bytes. `size` is at most size().
  void shrink(std::size_t size) {
    EPHFS_CHECK(size <= size_, "a buffer only shrinks");
    size_ = size;
  }

 private:
  struct Free {
    void operator()(std::byte* bytes) const noexcept;
  };
  std::unique_ptr<std::byte[], Free> data_;
  std::size_t size_ = 0;
};

/// A slice of immutable bytes that keeps what it points into alive. Cheap to copy; safe to share between threads.
class SharedBytes {
 public:
  SharedBytes() = default;
  explicit SharedBytes(Buffer buffer) {
    auto owner = std::make_shared<Buffer>(std::move(buffer));
    view_ = std::as_const(*owner).view();
    owner_ = std::move(owner);
  }
  SharedBytes(std::shared_ptr<const void> owner, ByteView view) : owner_(std::move(owner)), view_(view) {}
  [[nodiscard]] static SharedBytes copy_of(ByteView bytes) { return SharedBytes(Buffer::copy_of(bytes)); }

  [[nodiscard]] ByteView view() const noexcept { return view_; }
  [[nodiscard]] const std::byte* data() const noexcept { return view_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return view_.size(); }
  [[nodiscard]] bool empty() const noexcept { return view_.empty(); }
  /// Bytes [offset, offset + length) of this slice, sharing its owner.
  [[nodiscard]] SharedBytes slice(std::size_t offset, std::size_t length) const {
    EPHFS_CHECK(offset <= size() && length <= size() - offset, "a slice lies within its bytes");
    return {owner_, view_.subspan(offset, length)};
  }

 private:
  std::shared_ptr<const void> owner_;
  ByteView view_;
};

}  // namespace ephfs::core
