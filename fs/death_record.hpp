// SPDX-License-Identifier: Apache-2.0
// What is kept of a file or stripe that dies, for `ephfs proof`: neither name nor key. Free functions; the changes they
// give belong into the commit that makes the death true.
#pragma once

#include "fs/options.hpp"
#include "fs/stripe_table.hpp"
#include "meta/catalog.hpp"

namespace ephfs::fs {

/// What is to be remembered of a file, but for its extents; none when it is no regular file with a file id.
[[nodiscard]] std::optional<meta::DeadFileRecord> dead_file_of(const meta::InodeRecord& inode, meta::DeathCause cause,
                                                               core::Instant now);

/// Puts the record, with all extents that the file has, among `changes`; nothing when it has none.
void remember_file(meta::DeadFileRecord dead, meta::Changes& changes);

/// A stripe that is dropped at `now`, and the shards of it that its nodes had.
void remember_stripe(const meta::StripeRecord& stripe, const std::vector<meta::PlacementRecord>& placements,
                     core::Instant now, meta::Changes& changes);

/// The first question to a node about a shard that it should have deleted comes this long after the death: it signs
/// many receipts at once, a moment later.
constexpr Milliseconds kAskAfter{3000};

}  // namespace ephfs::fs
