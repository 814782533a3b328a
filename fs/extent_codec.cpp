// SPDX-License-Identifier: Apache-2.0
#include "fs/extent_codec.hpp"

#include <algorithm>
#include <array>

#include "core/profile.hpp"

namespace ephfs::fs {

using core::ByteView;
using core::Error;
using core::fail;
using core::MutableByteView;

namespace {

constexpr std::string_view kKeyPurpose = "ephfs-ex";

using Associated = std::array<std::byte, core::FileId::kSize + 16>;

void put_number(std::uint64_t number, std::byte* out) {
  for (unsigned i = 0; i < 8; ++i) out[i] = static_cast<std::byte>(number >> (8 * i));
}

/// File id, offset of the block in the file, length of the block; numbers little-endian.
Associated associated_data(const core::FileId& file, std::uint64_t file_offset, std::uint64_t length) {
  Associated data;
  std::ranges::copy(file.view(), data.begin());
  put_number(file_offset, data.data() + core::FileId::kSize);
  put_number(length, data.data() + core::FileId::kSize + 8);
  return data;
}

}  // namespace

Result<BlockCut> cut_blocks(core::BlockFormat format, const meta::ExtentRecord& extent, std::uint64_t offset,
                            std::uint64_t length) {
  const std::uint64_t block = core::block_bytes_of(format);
  const bool possible = extent.origin_length > 0 && extent.origin_length <= kStripeBytes &&
                        extent.stripe_offset <= kStripeCapacity - sealed_length(extent.origin_length, block) &&
                        extent.origin_offset <= kFileBytesMax && extent.offset >= extent.origin_offset &&
                        extent.offset - extent.origin_offset <= extent.origin_length &&
                        extent.length <= extent.origin_length - (extent.offset - extent.origin_offset);
  if (!possible) {
    return fail(Error::damaged, "extent at " + std::to_string(extent.offset) + " of inode " +
                                    std::to_string(extent.inode.value) + " cannot be");
  }
  if (length == 0 || offset < extent.offset || offset - extent.offset > extent.length ||
      length > extent.length - (offset - extent.offset)) {
    return fail(Error::invalid_argument, "range outside its extent");
  }
  const std::uint64_t from = offset - extent.origin_offset;
  BlockCut cut;
  cut.first = from / block;
  cut.count = (from + length - 1) / block - cut.first + 1;
  cut.stripe_offset = extent.stripe_offset + cut.first * (block + core::kAeadTagBytes);
  const std::uint64_t plain_end = std::min((cut.first + cut.count) * block, extent.origin_length);
  cut.sealed_bytes = sealed_length(plain_end - cut.first * block, block);
  return cut;
}

ExtentCodec::ExtentCodec(core::BlockFormat format, const FileCipher& cipher, const core::StripeId& stripe)
    : aead_(core::algorithm_of(format), core::derive_key(*cipher.key, kKeyPurpose, stripe.view())),
      block_(core::block_bytes_of(format)),
      file_(cipher.file) {}

void ExtentCodec::seal(std::uint64_t file_offset, std::uint64_t stripe_offset, ByteView plain, MutableByteView out) {
  static core::Probe probe("stage", "encrypt");
  const core::ProbeScope scope(probe, plain.size());
  EPHFS_CHECK(out.size() == sealed_length(plain.size(), block_),
              "ciphertext has room for exactly its plaintext and tags");
  while (!plain.empty()) {
    const ByteView block = plain.first(std::min<std::size_t>(plain.size(), block_));
    const std::size_t sealed = block.size() + core::kAeadTagBytes;
    const Associated associated = associated_data(file_, file_offset, block.size());
    aead_.seal(stripe_offset, associated, block, out.first(sealed));
    plain = plain.subspan(block.size());
    out = out.subspan(sealed);
    file_offset += block.size();
    stripe_offset += sealed;
  }
}

bool ExtentCodec::open(const meta::ExtentRecord& extent, const BlockCut& cut, ByteView sealed, std::uint64_t offset,
                       MutableByteView out) {
  static core::Probe probe("stage", "decrypt");
  const core::ProbeScope scope(probe, sealed.size());
  EPHFS_CHECK(sealed.size() == cut.sealed_bytes, "the ciphertext is that of the cut");
  std::array<std::byte, core::kBlockBytesMax> partial;
  const std::uint64_t end = offset + out.size();
  for (std::uint64_t i = 0; i < cut.count; ++i) {
    const std::size_t taken = std::min<std::size_t>(sealed.size(), block_ + core::kAeadTagBytes);
    const ByteView block = sealed.first(taken);
    sealed = sealed.subspan(taken);
    const std::uint64_t file_offset = extent.origin_offset + (cut.first + i) * block_;
    const std::uint64_t stripe_offset = cut.stripe_offset + i * (block_ + core::kAeadTagBytes);
    const std::size_t length = taken - core::kAeadTagBytes;
    const Associated associated = associated_data(file_, file_offset, length);
    const std::uint64_t from = std::max(file_offset, offset);
    const std::uint64_t until = std::min(file_offset + length, end);
    const bool whole = from == file_offset && until == file_offset + length;
    const MutableByteView plain =
        whole ? out.subspan(file_offset - offset, length) : MutableByteView(partial).first(length);
    if (!aead_.open(stripe_offset, associated, block, plain)) return false;
    if (!whole) {
      std::memcpy(out.data() + (from - offset), partial.data() + (from - file_offset), until - from);
      core::wipe(plain);
    }
  }
  return true;
}

}  // namespace ephfs::fs
