// SPDX-License-Identifier: Apache-2.0
// How an extent is encrypted: blocks of plaintext of the size that its stripe's format says, counted from the extent's
// own start in the file, each sealed by itself (docs/formats.md, "Extents").
//
// The key is derived from the file key and the stripe's random id; a block's nonce is its offset in the stripe. A
// stripe is appended to once and never written over, so no nonce is used twice under a key. The associated data (file
// id, the block's offset in the file, its length) keep a block from passing for another.
#pragma once

#include "core/aead.hpp"
#include "core/block_format.hpp"
#include "fs/stripes.hpp"

namespace ephfs::fs {

using core::kBlockBytes;
constexpr std::uint64_t kSealedBlockBytes = kBlockBytes + core::kAeadTagBytes;

/// Bytes in a stripe of an extent of `plain` bytes.
[[nodiscard]] constexpr std::uint64_t sealed_length(std::uint64_t plain, std::uint64_t block = kBlockBytes) {
  return plain + (plain + block - 1) / block * core::kAeadTagBytes;
}

/// The most plaintext whose sealed length is at most `room`.
[[nodiscard]] constexpr std::uint64_t plain_capacity(std::uint64_t room) {
  const std::uint64_t rest = room % kSealedBlockBytes;
  return room / kSealedBlockBytes * kBlockBytes + (rest > core::kAeadTagBytes ? rest - core::kAeadTagBytes : 0);
}

/// The longest a stripe gets: kStripeBytes of one file and their tags, so that aligned writes stay aligned.
constexpr std::uint64_t kStripeCapacity = sealed_length(kStripeBytes);

/// The blocks that a part of an extent lies in.
struct BlockCut {
  std::uint64_t first = 0;  // block of the extent as it was encrypted
  std::uint64_t count = 0;
  std::uint64_t stripe_offset = 0;  // of their ciphertext
  std::uint64_t sealed_bytes = 0;   // of their ciphertext
};

/// The blocks that hold plaintext [offset, offset + length) of the file, in a stripe of `format`. damaged for an extent
/// that cannot be, and invalid_argument for a range outside its slice or empty.
[[nodiscard]] Result<BlockCut> cut_blocks(core::BlockFormat format, const meta::ExtentRecord& extent,
                                          std::uint64_t offset, std::uint64_t length);

/// Seals and opens extents of one file in one stripe. One thread at a time.
class ExtentCodec {
 public:
  ExtentCodec(core::BlockFormat format, const FileCipher& cipher, const core::StripeId& stripe);

  /// Encrypts plaintext that starts at `file_offset`, for `stripe_offset`; `out` is as long as
  /// it is sealed.
  void seal(std::uint64_t file_offset, std::uint64_t stripe_offset, core::ByteView plain, core::MutableByteView out);

  /// Opens `sealed`, the ciphertext of `cut`, into `out`, which starts at `offset` of the file. False, with nothing of
  /// use in `out`, when a block fails its check.
  [[nodiscard]] bool open(const meta::ExtentRecord& extent, const BlockCut& cut, core::ByteView sealed,
                          std::uint64_t offset, core::MutableByteView out);

 private:
  core::Aead aead_;
  std::uint64_t block_;  // bytes of plaintext in a block
  core::FileId file_;
};

}  // namespace ephfs::fs
