// SPDX-License-Identifier: Apache-2.0
// A link to a shared file, as text: which share, who gives it out, until when, and the secret that opens it. Whoever of
// the pool has the link has the file, so it is shown to the person who asked for it and never logged. docs/sharing.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/share_secret.hpp"
#include "core/time.hpp"
#include "net/membership.hpp"

namespace ephfs::net {

struct ShareLink {
  core::PoolId pool;
  core::ShareId share;
  core::ShareSecret secret;
  core::Deadline deadline;      // for people: the nodes have their own word for it
  std::vector<Member> holders;  // 1 to kShareHoldersMax, each with an address
};
constexpr std::size_t kShareHoldersMax = 3;
constexpr std::string_view kShareLinkPrefix = "eph://";

/// invalid_argument for no or too many holders, or an address that is none.
[[nodiscard]] core::Result<std::string> format_share_link(const ShareLink& link);
/// invalid_argument with what is wrong, never with the text; version for a link of another version.
[[nodiscard]] core::Result<ShareLink> parse_share_link(std::string_view text);

}  // namespace ephfs::net
