// SPDX-License-Identifier: Apache-2.0
#include "core/erasure.hpp"

#include <isa-l.h>
// Jerasure's headers are C without saying so, and lean on one another.
extern "C" {
#include <jerasure.h>
#include <reed_sol.h>
}

#include <algorithm>
#include <array>
#include <bitset>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <map>
#include <mutex>
#include <optional>

#include "core/check.hpp"

namespace ephfs::core {
namespace {

constexpr int kWordBits = 8;
// ISA-L expands each coefficient into this many bytes of products.
constexpr std::size_t kTableBytes = 32;
// Patterns of loss that keep their tables. A dead node gives the same few patterns again and again; 16+4 has
// 4845.
constexpr std::size_t kDecodersMax = 256;
constexpr std::size_t kShardsMax = kDataShardsMax + kParityShardsMax;

using Matrix = std::vector<std::uint8_t>;

bool is_valid(Profile profile) {
  return profile.k >= 1 && profile.k <= kDataShardsMax && profile.m <= kParityShardsMax;
}

// What Jerasure's reed_sol_vandermonde_coding_matrix gives: m rows of k coefficients.
Matrix coding_matrix(Profile profile) {
  if (profile.m == 0) return {};
  struct Free {
    void operator()(int* memory) const noexcept { std::free(memory); }
  };
  const std::unique_ptr<int, Free> raw(reed_sol_vandermonde_coding_matrix(profile.k, profile.m, kWordBits));
  EPHFS_CHECK(raw != nullptr, "Jerasure has a matrix for every profile");
  const std::span<const int> coefficients(raw.get(), std::size_t{profile.k} * profile.m);
  return {coefficients.begin(), coefficients.end()};
}

// The tables of ISA-L for `rows` rows of `k` coefficients, and the work they do.
class Kernel {
 public:
  Kernel(unsigned k, Matrix coefficients)
      : k_(static_cast<int>(k)),
        rows_(static_cast<int>(coefficients.size() / k)),
        tables_(coefficients.size() * kTableBytes) {
    if (rows_ > 0) ec_init_tables(k_, rows_, coefficients.data(), tables_.data());
  }

  // `to` holds rows() pointers, `from` k: each to `size` bytes.
  void run(std::size_t size, std::uint8_t** from, std::uint8_t** to) const {
    EPHFS_CHECK(size <= std::size_t{std::numeric_limits<int>::max()}, "a shard's length fits ISA-L's int");
    if (rows_ == 0 || size == 0) return;
    // ISA-L only reads the tables, although it does not say const.
    ec_encode_data(static_cast<int>(size), k_, rows_, const_cast<std::uint8_t*>(tables_.data()), from, to);
  }

 private:
  int k_;
  int rows_;
  std::vector<std::uint8_t> tables_;
};

// Which shards are there and which data shards are to be computed from them: a decoder's name.
struct Pattern {
  std::bitset<kShardsMax> present;
  std::bitset<kDataShardsMax> computed;
  [[nodiscard]] std::uint64_t key() const { return present.to_ullong() << kDataShardsMax | computed.to_ullong(); }
};

std::uint8_t* writable(ByteView bytes) {
  return const_cast<std::uint8_t*>(as_u8(bytes));
}

}  // namespace

struct ErasureCode::Tables {
  explicit Tables(Profile of) : profile(of), matrix(coding_matrix(of)), encoder(of.k, matrix) {}

  // The kernel that computes pattern.computed, in order, from pattern.present, in order.
  [[nodiscard]] std::shared_ptr<const Kernel> decoder(const Pattern& pattern) const;
  [[nodiscard]] Kernel make_decoder(const Pattern& pattern) const;

  Profile profile;
  Matrix matrix;
  Kernel encoder;
  mutable std::mutex mutex;
  mutable std::map<std::uint64_t, std::shared_ptr<const Kernel>> decoders;  // under the mutex
};

std::shared_ptr<const Kernel> ErasureCode::Tables::decoder(const Pattern& pattern) const {
  {
    const std::lock_guard lock(mutex);
    if (const auto found = decoders.find(pattern.key()); found != decoders.end()) return found->second;
  }
  auto made = std::make_shared<const Kernel>(make_decoder(pattern));
  const std::lock_guard lock(mutex);
  // Starting over is as good as anything cleverer: a table takes microseconds to make.
  if (decoders.size() >= kDecodersMax) decoders.clear();
  return decoders.try_emplace(pattern.key(), std::move(made)).first->second;
}

Kernel ErasureCode::Tables::make_decoder(const Pattern& pattern) const {
  const std::size_t k = profile.k;
  // Shards = G * data. The rows of G for the shards that are there, inverted, give the data from those
  // shards.
  Matrix rows;
  for (std::size_t shard = 0; shard < profile.width(); ++shard) {
    if (!pattern.present[shard]) continue;
    for (std::size_t column = 0; column < k; ++column) {
      rows.push_back(shard < k ? std::uint8_t{shard == column} : matrix[(shard - k) * k + column]);
    }
  }
  Matrix inverse(k * k);
  const int singular = gf_invert_matrix(rows.data(), inverse.data(), static_cast<int>(k));
  EPHFS_CHECK(singular == 0, "any k rows of the generator matrix can be inverted");
  Matrix computed;
  for (std::size_t shard = 0; shard < k; ++shard) {
    if (!pattern.computed[shard]) continue;
    const auto row = inverse.begin() + static_cast<std::ptrdiff_t>(shard * k);
    computed.insert(computed.end(), row, row + static_cast<std::ptrdiff_t>(k));
  }
  return {profile.k, std::move(computed)};
}

ErasureCode::ErasureCode(std::unique_ptr<Tables> tables) : tables_(std::move(tables)) {}

std::shared_ptr<const ErasureCode> ErasureCode::of(Profile profile) {
  EPHFS_CHECK(is_valid(profile), "a profile has 1 to 16 data and 0 to 4 parity shards");
  // Also keeps Jerasure's first use of its global field to one thread.
  static std::mutex mutex;
  static std::array<std::shared_ptr<const ErasureCode>, std::size_t{kDataShardsMax + 1} * (kParityShardsMax + 1)> codes;
  const std::lock_guard lock(mutex);
  auto& code = codes[std::size_t{profile.k} * std::size_t{kParityShardsMax + 1} + profile.m];
  if (!code) code.reset(new ErasureCode(std::make_unique<Tables>(profile)));
  return code;
}

Profile ErasureCode::profile() const {
  return tables_->profile;
}

std::span<const std::uint8_t> ErasureCode::parity_row(unsigned row) const {
  EPHFS_CHECK(row < tables_->profile.m, "a row of the coding matrix");
  const std::size_t k = tables_->profile.k;
  return std::span(tables_->matrix).subspan(row * k, k);
}

void ErasureCode::encode(std::span<const ByteView> data, std::span<const MutableByteView> parity) const {
  EPHFS_CHECK(data.size() == tables_->profile.k && parity.size() == tables_->profile.m,
              "as many shards as the profile says");
  const std::size_t size = data.front().size();
  EPHFS_CHECK(size % kShardAlignment == 0, "shards are aligned");
  std::array<std::uint8_t*, kDataShardsMax> from{};
  std::array<std::uint8_t*, kParityShardsMax> to{};
  for (std::size_t i = 0; i < data.size(); ++i) {
    EPHFS_CHECK(data[i].size() == size, "shards are of one length");
    from[i] = writable(data[i]);
  }
  for (std::size_t i = 0; i < parity.size(); ++i) {
    EPHFS_CHECK(parity[i].size() == size, "shards are of one length");
    to[i] = as_u8(parity[i]);
  }
  tables_->encoder.run(size, from.data(), to.data());
}

Result<> ErasureCode::restore(std::span<const Piece> pieces, std::span<const unsigned> wanted,
                              std::span<const MutableByteView> out) const {
  const Profile profile = tables_->profile;
  const auto refuse = [&](std::string_view why) {
    return fail(Error::invalid_argument, "restore a stripe of " + format_profile(profile) + ": " + std::string(why));
  };
  if (pieces.size() != profile.k) return refuse("exactly k pieces are needed");
  if (wanted.size() != out.size()) return refuse("each wanted shard needs its place");
  const std::size_t size = pieces.front().bytes.size();
  if (size > std::size_t{std::numeric_limits<int>::max()}) return refuse("the pieces are too long");

  Pattern pattern;
  std::array<std::uint8_t*, kShardsMax> piece_at{};
  for (const Piece& piece : pieces) {
    if (piece.index >= profile.width() || pattern.present[piece.index]) return refuse("the pieces' indexes differ");
    if (piece.bytes.size() != size) return refuse("the pieces are of one length");
    pattern.present.set(piece.index);
    piece_at[piece.index] = writable(piece.bytes);
  }
  std::array<std::uint8_t*, kDataShardsMax> place_of{};
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] >= profile.k || pattern.computed[wanted[i]]) return refuse("the wanted are different data shards");
    if (out[i].size() != size) return refuse("the places are as long as the pieces");
    pattern.computed.set(wanted[i]);
    place_of[wanted[i]] = as_u8(out[i]);
  }

  // What is there is copied; the rest is computed.
  std::array<std::uint8_t*, kDataShardsMax> from{};
  std::array<std::uint8_t*, kDataShardsMax> to{};
  std::size_t sources = 0;
  std::size_t targets = 0;
  for (std::size_t shard = 0; shard < profile.width(); ++shard) {
    const bool is_wanted = shard < profile.k && pattern.computed[shard];
    if (pattern.present[shard]) {
      from[sources++] = piece_at[shard];
      if (!is_wanted) continue;
      pattern.computed.reset(shard);
      if (size > 0) std::memcpy(place_of[shard], piece_at[shard], size);
    } else if (is_wanted) {
      to[targets++] = place_of[shard];
    }
  }
  if (targets > 0) tables_->decoder(pattern)->run(size, from.data(), to.data());
  return {};
}

Result<Profile> parse_profile(std::string_view text) {
  const std::size_t plus = text.find('+');
  const auto number = [](std::string_view digits) -> std::optional<std::uint8_t> {
    std::uint8_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    return value;
  };
  if (plus != std::string_view::npos) {
    const auto k = number(text.substr(0, plus));
    const auto m = number(text.substr(plus + 1));
    if (k && m && is_valid({*k, *m})) return Profile{*k, *m};
  }
  return fail(Error::invalid_argument,
              "'" + std::string(text) + "' is not a profile K+M like 4+2: 1 to 16 data and 0 to 4 parity shards");
}

std::string format_profile(Profile profile) {
  return std::to_string(unsigned{profile.k}) + "+" + std::to_string(unsigned{profile.m});
}

Profile auto_profile(std::size_t nodes) {
  EPHFS_CHECK(nodes > 0, "a pool has at least the node that asks");
  constexpr std::array kByNodes{Profile{1, 0}, Profile{1, 1}, Profile{2, 1},
                                Profile{2, 2}, Profile{3, 2}, Profile{4, 2}};
  constexpr std::size_t kWideFrom = 14;
  if (nodes >= kWideFrom) return {10, 4};
  return kByNodes[std::min(nodes, kByNodes.size()) - 1];
}

std::size_t shard_bytes(std::size_t stripe_bytes, Profile profile) {
  EPHFS_CHECK(is_valid(profile), "a profile has 1 to 16 data and 0 to 4 parity shards");
  const std::size_t k = profile.k;
  const std::size_t part = stripe_bytes / k + (stripe_bytes % k != 0 ? 1 : 0);
  const std::size_t units = part / kShardAlignment + (part % kShardAlignment != 0 ? 1 : 0);
  return std::max<std::size_t>(units, 1) * kShardAlignment;
}

}  // namespace ephfs::core
