// SPDX-License-Identifier: Apache-2.0
#include "net/token.hpp"

#include "core/config.hpp"
#include "net/word.hpp"

namespace ephfs::net {
namespace {

using core::Bytes;
using core::ByteView;
using core::Error;
using core::fail;
using core::Result;

constexpr std::byte kTokenVersion{1};
constexpr WordKind kInvitation{
    "an invitation", kTokenPrefix,
    1 + core::PoolId::kSize + core::NodeId::kSize + kJoinSecretBytes + 1 + kTokenAddressesMax*(1 + kAddressBytesMax)};

void append(Bytes& out, ByteView bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

Result<> check_addresses(const std::vector<std::string>& addresses) {
  if (addresses.empty()) return fail(Error::invalid_argument, "an invitation without an address");
  if (addresses.size() > kTokenAddressesMax)
    return fail(Error::invalid_argument, "an invitation with too many addresses");
  for (const auto& address : addresses) {
    if (address.size() > kAddressBytesMax) return fail(Error::invalid_argument, "an address that is too long");
    EPHFS_TRY_VOID(core::parse_address(address));
  }
  return {};
}

}  // namespace

Result<std::string> format_token(const Token& token) {
  EPHFS_TRY_VOID(check_addresses(token.addresses));
  Bytes content{kTokenVersion};
  append(content, token.pool.view());
  append(content, token.inviter.view());
  append(content, token.secret.view());
  content.push_back(static_cast<std::byte>(token.addresses.size()));
  for (const auto& address : token.addresses) {
    content.push_back(static_cast<std::byte>(address.size()));
    append(content, core::as_bytes(address));
  }
  return encode_word(kInvitation, content);
}

Result<Token> parse_token(std::string_view text) {
  EPHFS_TRY(const Bytes content, decode_word(kInvitation, text));
  const auto incomplete = fail(Error::invalid_argument, "an invitation that is incomplete");
  if (content.front() != kTokenVersion) {
    return fail(Error::version, "an invitation of version " + std::to_string(std::to_integer<int>(content.front())));
  }
  Token token;
  WordReader reader(ByteView(content).subspan(1));
  if (!reader.take_id(token.pool) || !reader.take_id(token.inviter) || !reader.take_id(token.secret)) return incomplete;
  const auto count = reader.take_number();
  if (!count) return incomplete;
  for (std::size_t i = 0; i < *count; ++i) {
    auto address = reader.take_text();
    if (!address) return incomplete;
    token.addresses.push_back(*std::move(address));
  }
  if (!reader.at_end()) return fail(Error::invalid_argument, "an invitation with something behind it");
  EPHFS_TRY_VOID(check_addresses(token.addresses));
  return token;
}

}  // namespace ephfs::net
