// SPDX-License-Identifier: Apache-2.0
// How a machine comes into a pool: one that is in it makes an invitation, which travels as text by whatever way its
// people trust, and the other one joins with it. Both work on a node's directory, with or without its node running.
#pragma once

#include "net/transport.hpp"
#include "node/pool_files.hpp"

namespace ephfs::node {

using core::awaitable;

/// An invitation to the pool of `directory`, as text. It holds a secret: show it, do not log it. not_found when no node
/// was ever started there; invalid_argument when its node does not listen, or for no uses or no time.
[[nodiscard]] Result<std::string> invite(const std::filesystem::path& directory, core::Instant now,
                                         core::Milliseconds lasts, std::uint32_t uses);

/// Joins the pool that `token` invites to and writes it down in `directory`, where a running node finds it. `self` is
/// this machine, with the address it listens on, or none for what the directory says. `transport` shows this machine's
/// key. not_permitted for an invitation that is unknown, used up or expired; exists when `directory` belongs to another
/// pool; unreachable when no address answers.
[[nodiscard]] awaitable<Result<core::PoolId>> join(std::filesystem::path directory, std::string token, net::Member self,
                                                   net::Transport& transport, core::Clock& clock, core::Boottime until);

/// Where a machine is reached that listens on `address`: the same, or its own network address where that is a wildcard
/// (0.0.0.0, [::]).
[[nodiscard]] Result<std::string> reachable_address(const std::string& address);

}  // namespace ephfs::node
