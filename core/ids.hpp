// SPDX-License-Identifier: Apache-2.0
// The names of things. Each kind is a type of its own, so that a shard's name is never taken for a node's.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>

#include "core/bytes.hpp"

namespace ephfs::core {

template <class Tag, std::size_t Size>
class FixedId {
 public:
  static constexpr std::size_t kSize = Size;

  constexpr FixedId() = default;

  /// None when `bytes` is not exactly kSize long.
  [[nodiscard]] static std::optional<FixedId> from_bytes(ByteView bytes) {
    if (bytes.size() != Size) return std::nullopt;
    FixedId id;
    std::memcpy(id.bytes_.data(), bytes.data(), Size);
    return id;
  }
  [[nodiscard]] static std::optional<FixedId> from_hex(std::string_view hex) {
    FixedId id;
    if (!core::from_hex(hex, id.bytes_)) return std::nullopt;
    return id;
  }

  [[nodiscard]] ByteView view() const noexcept { return bytes_; }
  [[nodiscard]] MutableByteView mutable_view() noexcept { return bytes_; }
  [[nodiscard]] std::string hex() const { return to_hex(bytes_); }
  /// The bytes as a string, the form protobuf and SQLite take.
  [[nodiscard]] std::string text() const { return std::string(as_text(bytes_)); }
  [[nodiscard]] bool is_zero() const noexcept { return *this == FixedId{}; }

  friend constexpr auto operator<=>(const FixedId&, const FixedId&) = default;

 private:
  std::array<std::byte, Size> bytes_{};
};

using NodeId = FixedId<struct NodeTag, 32>;      // SHA-256 of the node's Ed25519 public key
using OwnerId = FixedId<struct OwnerTag, 32>;    // the Ed25519 public key that signs a volume's leases
using ShardId = FixedId<struct ShardTag, 32>;    // root of the Merkle tree over the shard
using StripeId = FixedId<struct StripeTag, 16>;  // random
using FileId = FixedId<struct FileTag, 16>;      // random
using VolumeId = FixedId<struct VolumeTag, 16>;  // random
using PoolId = FixedId<struct PoolTag, 16>;      // random

/// An integer that means one thing.
template <class Tag, class Integer>
struct Numbered {
  Integer value = 0;
  friend constexpr auto operator<=>(const Numbered&, const Numbered&) = default;
};

using InodeNumber = Numbered<struct InodeTag, std::uint64_t>;
using StripeNumber = Numbered<struct StripeNumberTag, std::int64_t>;  // the catalog's short name for a stripe

constexpr InodeNumber kRootInode{1};

}  // namespace ephfs::core

template <class Tag, std::size_t Size>
struct std::hash<ephfs::core::FixedId<Tag, Size>> {
  std::size_t operator()(const ephfs::core::FixedId<Tag, Size>& id) const noexcept {
    // Ids are random or hashes, so any eight of their bytes spread well.
    std::size_t value = 0;
    std::memcpy(&value, id.view().data(), sizeof value);
    return value;
  }
};

template <class Tag, class Integer>
struct std::hash<ephfs::core::Numbered<Tag, Integer>> {
  std::size_t operator()(ephfs::core::Numbered<Tag, Integer> number) const noexcept {
    return std::hash<Integer>{}(number.value);
  }
};
