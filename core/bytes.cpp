// SPDX-License-Identifier: Apache-2.0
#include "core/bytes.hpp"

#include <new>

namespace ephfs::core {
namespace {

constexpr std::align_val_t kBufferAlignment{64};

int digit_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

}  // namespace

std::string to_hex(ByteView bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const std::byte value : bytes) {
    hex += kDigits[std::to_integer<unsigned>(value) >> 4U];
    hex += kDigits[std::to_integer<unsigned>(value) & 15U];
  }
  return hex;
}

bool from_hex(std::string_view hex, MutableByteView out) {
  if (hex.size() != out.size() * 2) return false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = digit_value(hex[2 * i]);
    const int low = digit_value(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<std::byte>(high * 16 + low);
  }
  return true;
}

Buffer::Buffer(std::size_t size)
    : data_(static_cast<std::byte*>(::operator new[](size, kBufferAlignment))), size_(size) {}

Buffer Buffer::copy_of(ByteView bytes) {
  Buffer buffer(bytes.size());
  if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
  return buffer;
}

void Buffer::Free::operator()(std::byte* bytes) const noexcept {
  ::operator delete[](bytes, kBufferAlignment);
}

}  // namespace ephfs::core
