// SPDX-License-Identifier: Apache-2.0
// Integers as every format of ours carries them: little-endian, whatever the machine.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

#include "core/bytes.hpp"
#include "core/check.hpp"

namespace ephfs::core {

/// Writes `value` to the first sizeof value bytes of `out`.
template <std::integral Integer>
void store_le(MutableByteView out, Integer value) {
  EPHFS_CHECK(out.size() >= sizeof value, "there is room for the integer");
  auto rest = static_cast<std::make_unsigned_t<Integer>>(value);
  for (std::size_t i = 0; i < sizeof value; ++i) {
    out[i] = static_cast<std::byte>(rest & 0xffU);
    if constexpr (sizeof value > 1) rest >>= 8U;
  }
}

/// Reads an Integer from the first bytes of `in`.
template <std::integral Integer>
[[nodiscard]] Integer load_le(ByteView in) {
  EPHFS_CHECK(in.size() >= sizeof(Integer), "the integer is all there");
  std::make_unsigned_t<Integer> value = 0;
  for (std::size_t i = sizeof(Integer); i-- > 0;) {
    if constexpr (sizeof(Integer) > 1) value <<= 8U;
    value |= std::to_integer<std::make_unsigned_t<Integer>>(in[i]);
  }
  return static_cast<Integer>(value);
}

}  // namespace ephfs::core
