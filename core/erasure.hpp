// SPDX-License-Identifier: Apache-2.0
// Systematic Reed-Solomon coding of a stripe: Jerasure's Vandermonde matrix (w = 8) with ISA-L's kernels. The first k
// shards are the stripe cut in k; any k of the k + m give it back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/bytes.hpp"
#include "core/result.hpp"

namespace ephfs::core {

/// How a stripe is coded.
struct Profile {
  std::uint8_t k = 1;  // data shards, 1 to 16
  std::uint8_t m = 0;  // parity shards, 0 to 4

  [[nodiscard]] constexpr unsigned width() const { return unsigned{k} + m; }
  friend constexpr auto operator<=>(const Profile&, const Profile&) = default;
};

constexpr unsigned kDataShardsMax = 16;
constexpr unsigned kParityShardsMax = 4;
/// Shards are a multiple of this, so that vector kernels need no tail.
constexpr std::size_t kShardAlignment = 64;

/// "4+2" and the like; invalid_argument says what is wrong.
[[nodiscard]] Result<Profile> parse_profile(std::string_view text);
[[nodiscard]] std::string format_profile(Profile profile);
/// What `auto` means for a pool of `nodes` (at least 1): 1+0, 1+1, 2+1, 2+2, 3+2, 4+2, then 4+2 up to 13, 10+4 from 14.
[[nodiscard]] Profile auto_profile(std::size_t nodes);

/// Bytes in each shard of a stripe of `stripe_bytes`: at least kShardAlignment.
[[nodiscard]] std::size_t shard_bytes(std::size_t stripe_bytes, Profile profile);

/// Codes and restores for one profile. Immutable; thread-safe.
class ErasureCode {
 public:
  /// The code for `profile`, made once and shared.
  [[nodiscard]] static std::shared_ptr<const ErasureCode> of(Profile profile);

  [[nodiscard]] Profile profile() const;
  /// Fills the m parity shards from the k data shards; all views are of one length, a multiple of kShardAlignment.
  void encode(std::span<const ByteView> data, std::span<const MutableByteView> parity) const;

  /// A shard that is there: its index (0 to k + m - 1) and bytes [a, b) of it, the same range for all.
  struct Piece {
    unsigned index;
    ByteView bytes;
  };
  /// Restores the same range of the data shards named in `wanted` (indexes below k) from exactly k pieces with distinct
  /// indexes. A wanted shard that is among the pieces is copied.
  [[nodiscard]] Result<> restore(std::span<const Piece> pieces, std::span<const unsigned> wanted,
                                 std::span<const MutableByteView> out) const;
  /// Row `row` of the coding matrix (k coefficients): what Jerasure gave. For tests.
  [[nodiscard]] std::span<const std::uint8_t> parity_row(unsigned row) const;

 private:
  struct Tables;
  explicit ErasureCode(std::unique_ptr<Tables> tables);
  std::shared_ptr<const Tables> tables_;
};

}  // namespace ephfs::core
