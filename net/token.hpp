// SPDX-License-Identifier: Apache-2.0
// An invitation as text: everything a machine needs to join a pool, in one word that survives copying. It holds a
// one-time secret: it is shown to the person who asked for it and never logged. docs/protocol.md has the layout.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/ids.hpp"
#include "core/result.hpp"
#include "net/wire.hpp"

namespace ephfs::net {

using JoinSecret = core::FixedId<struct JoinSecretTag, kJoinSecretBytes>;

struct Token {
  core::PoolId pool;
  core::NodeId inviter;
  std::vector<std::string> addresses;  // of the inviter: 1 to kTokenAddressesMax of HOST:PORT
  JoinSecret secret;
  friend bool operator==(const Token&, const Token&) = default;
};
constexpr std::size_t kTokenAddressesMax = 8;
constexpr std::string_view kTokenPrefix = "eph-invite-";

/// invalid_argument for no or too many addresses, or one that is none.
[[nodiscard]] core::Result<std::string> format_token(const Token& token);
/// invalid_argument with what is wrong, never with the text; version for an invitation of another version.
[[nodiscard]] core::Result<Token> parse_token(std::string_view text);

}  // namespace ephfs::net
