// SPDX-License-Identifier: Apache-2.0
// What a volume was told: its policy (kept in its catalog or given at each mount) and the engine's limits.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "core/erasure.hpp"
#include "core/time.hpp"
#include "meta/catalog.hpp"

namespace ephfs::fs {

using core::Milliseconds;

enum class Durability : std::uint8_t {
  local,   // fsync returns when this machine's disk has it
  quorum,  // ... when enough nodes have it that this machine and one node may be lost
  full,    // ... when all k + m nodes have it
};

enum class AccessTimes : std::uint8_t {
  relatime,  // a read moves one that is not later than the last change, or more than a day old
  none,      // no read moves any
};

/// The ttl of what lives for ever: a directory's default, or the volume's.
constexpr Milliseconds kPermanentTtl = Milliseconds::max();

struct TtlPolicy {
  Milliseconds initial{std::chrono::hours(7 * 24)};  // what a file gets when nothing else says
  Milliseconds shortest{1000};
  Milliseconds longest{std::chrono::hours(365 * 24)};
  meta::TtlMode mode = meta::TtlMode::fixed;
  bool allow_permanent = false;  // "never" is possible: only set when a volume is created
};

struct EngineOptions {
  std::filesystem::path directory;  // the volume directory
  TtlPolicy ttl;
  std::optional<core::Profile> profile;  // none: auto, by the number of peers when a stripe is opened
  Durability durability = Durability::local;
  AccessTimes access_times = AccessTimes::relatime;
  bool read_only = false;                                 // reading changes no record; the kernel lets nobody write
  std::uint64_t capacity = 0;                             // bytes of live data; 0: what the disk has
  std::uint64_t cache_bytes = std::uint64_t{10} << 30U;   // ciphertext cache on disk, beside what is staged
  std::uint64_t staging_bytes = std::uint64_t{1} << 30U;  // staged and not yet placed, past which writers wait
  std::uint64_t dirty_bytes = std::uint64_t{64} << 20U;   // plaintext in memory, for the whole mount
  std::size_t inodes_kept = 65'536;                       // objects of files that only the kernel remembers, about
  Milliseconds peer_timeout{10'000};                      // the longest a call waits for the pool
  Milliseconds flush_age{1000};                           // dirty ranges become extents after this
  Milliseconds seal_age{5000};                            // an open stripe is sealed after this
  Milliseconds proof_keep{std::chrono::hours(30 * 24)};   // how long the dead are remembered, for proofs; 0: not at all
  Milliseconds warn{0};          // how long before its death a file is warned of; 0: not at all
  Milliseconds hedge_delay{50};  // a shard not here by then is also asked of another node
};

constexpr std::uint64_t kStripeBytes = std::uint64_t{4} << 20U;  // ciphertext in a full stripe
/// A write from this size on is staged at once: the kernel has gathered it already.
constexpr std::size_t kLargeWrite = std::size_t{256} << 10U;
constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 60U;
constexpr std::size_t kNameBytesMax = 255;

/// Reads are refused, and the kernel's pages dropped, this long before the deadline, so that none outlives it.
constexpr Milliseconds kLastMoment{10};
/// How long before the deadline the kernel's pages may first be dropped: what is read later is told to it.
constexpr Milliseconds kDropsBegin{1000};
/// A sliding deadline moves in steps of this part of its ttl, so that a busy file is not re-wrapped at each access.
constexpr int kSlideSteps = 64;
/// More often than this pages are not dropped for it, however short the ttl.
constexpr Milliseconds kRereadMin{10};

}  // namespace ephfs::fs
