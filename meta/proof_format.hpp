// SPDX-License-Identifier: Apache-2.0
// The words of a proof's JSON that its maker and its checker share (docs/formats.md, "Proof"). Private to
// meta/proof*.cpp.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/time.hpp"

namespace ephfs::meta {

constexpr std::string_view kProofFormat = "ephfs-proof";
constexpr std::int64_t kProofVersion = 1;
constexpr std::string_view kProofContext = "ephfs proof";
constexpr std::string_view kCauseExpired = "expired";
constexpr std::string_view kCauseRemoved = "removed";
/// A stripe dies with the last deadline in it: at most this long after any other one's in it.
constexpr core::Milliseconds kBucketMax = std::chrono::hours(1);

}  // namespace ephfs::meta
