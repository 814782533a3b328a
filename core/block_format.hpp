// SPDX-License-Identifier: Apache-2.0
// How a stripe's extents are encrypted: the cipher, and how much plaintext a block holds. One number, recorded with the
// stripe; it never changes its meaning.
#pragma once

#include <cstdint>

#include "core/aead.hpp"

namespace ephfs::core {

/// Of 16 KiB blocks are stripes of volumes older than catalogs of version 3: they are read, and none is written.
enum class BlockFormat : std::uint8_t {
  aes_256_gcm_16k = 1,
  xchacha20_poly1305_16k = 2,
  aes_256_gcm_4k = 3,
  xchacha20_poly1305_4k = 4,
};

/// Plaintext in a block of what is written today, and the most in one of any format.
constexpr std::uint64_t kBlockBytes = std::uint64_t{4} << 10U;
constexpr std::uint64_t kBlockBytesMax = std::uint64_t{16} << 10U;

[[nodiscard]] constexpr bool is_known(BlockFormat format) {
  return format >= BlockFormat::aes_256_gcm_16k && format <= BlockFormat::xchacha20_poly1305_4k;
}

[[nodiscard]] constexpr AeadAlgorithm algorithm_of(BlockFormat format) {
  const bool is_aes = format == BlockFormat::aes_256_gcm_16k || format == BlockFormat::aes_256_gcm_4k;
  return is_aes ? AeadAlgorithm::aes_256_gcm : AeadAlgorithm::xchacha20_poly1305;
}

[[nodiscard]] constexpr std::uint64_t block_bytes_of(BlockFormat format) {
  const bool is_large = format == BlockFormat::aes_256_gcm_16k || format == BlockFormat::xchacha20_poly1305_16k;
  return is_large ? kBlockBytesMax : kBlockBytes;
}

/// What new stripes get: the cipher that is the faster one on this processor.
[[nodiscard]] inline BlockFormat preferred_block_format() {
  return preferred_aead() == AeadAlgorithm::aes_256_gcm ? BlockFormat::aes_256_gcm_4k
                                                        : BlockFormat::xchacha20_poly1305_4k;
}

}  // namespace ephfs::core
