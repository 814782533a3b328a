// SPDX-License-Identifier: Apache-2.0
#include "net/share_link.hpp"

#include <sodium.h>

#include "core/config.hpp"
#include "core/little_endian.hpp"
#include "net/wire.hpp"
#include "net/word.hpp"

namespace ephfs::net {
namespace {

using core::Bytes;
using core::ByteView;
using core::Error;
using core::fail;
using core::Result;

constexpr std::byte kLinkVersion{1};
constexpr std::size_t kDeadlineBytes = 8;
constexpr WordKind kLink{"a link", kShareLinkPrefix,
                         1 + core::PoolId::kSize + core::ShareId::kSize + core::ShareSecret::kSize + kDeadlineBytes +
                             1 + kShareHoldersMax*(core::NodeId::kSize + 1 + kAddressBytesMax)};

void append(Bytes& out, ByteView bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

Result<> check(const ShareLink& link) {
  if (link.holders.empty() || link.holders.size() > kShareHoldersMax) {
    return fail(Error::invalid_argument, "a link with " + std::to_string(link.holders.size()) + " nodes");
  }
  for (const auto& holder : link.holders) {
    if (holder.address.size() > kAddressBytesMax) return fail(Error::invalid_argument, "an address that is too long");
    EPHFS_TRY_VOID(core::parse_address(holder.address));
  }
  if (link.deadline.raw() <= 0 || link.deadline > core::Deadline(core::kInstantMax)) {
    return fail(Error::invalid_argument, "a link with an impossible deadline");
  }
  return {};
}

Result<ShareLink> parse_content(ByteView content) {
  const auto incomplete = fail(Error::invalid_argument, "a link that is incomplete");
  if (content.front() != kLinkVersion) {
    return fail(Error::version, "a link of version " + std::to_string(std::to_integer<int>(content.front())));
  }
  ShareLink link;
  WordReader reader(content.subspan(1));
  if (!reader.take_id(link.pool) || !reader.take_id(link.share)) return incomplete;
  const auto secret = reader.take(core::ShareSecret::kSize);
  const auto deadline = reader.take(kDeadlineBytes);
  const auto count = reader.take_number();
  if (!secret || !deadline || !count) return incomplete;
  link.secret = core::ShareSecret::copy_of(*secret);
  link.deadline = core::Deadline::from_raw(core::load_le<std::int64_t>(*deadline));
  for (std::size_t i = 0; i < *count; ++i) {
    Member holder;
    if (!reader.take_id(holder.id)) return incomplete;
    auto address = reader.take_text();
    if (!address) return incomplete;
    holder.address = *std::move(address);
    link.holders.push_back(std::move(holder));
  }
  if (!reader.at_end()) return fail(Error::invalid_argument, "a link with something behind it");
  EPHFS_TRY_VOID(check(link));
  return link;
}

}  // namespace

Result<std::string> format_share_link(const ShareLink& link) {
  EPHFS_TRY_VOID(check(link));
  Bytes content{kLinkVersion};
  content.reserve(kLink.content_bytes_max);  // so that no copy of the secret is left behind by growing
  append(content, link.pool.view());
  append(content, link.share.view());
  append(content, link.secret.view());
  content.resize(content.size() + kDeadlineBytes);
  core::store_le(core::MutableByteView(content).last(kDeadlineBytes), link.deadline.raw());
  content.push_back(static_cast<std::byte>(link.holders.size()));
  for (const auto& holder : link.holders) {
    append(content, holder.id.view());
    content.push_back(static_cast<std::byte>(holder.address.size()));
    append(content, core::as_bytes(holder.address));
  }
  std::string text = encode_word(kLink, content);
  sodium_memzero(content.data(), content.size());
  return text;
}

Result<ShareLink> parse_share_link(std::string_view text) {
  EPHFS_TRY(Bytes content, decode_word(kLink, text));
  auto link = parse_content(content);
  sodium_memzero(content.data(), content.size());
  return link;
}

}  // namespace ephfs::net
