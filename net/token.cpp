// SPDX-License-Identifier: Apache-2.0
#include "net/token.hpp"

#include <sodium.h>

#include "core/config.hpp"
#include "core/signing.hpp"

namespace ephfs::net {
namespace {

using core::Bytes;
using core::ByteView;
using core::Error;
using core::fail;
using core::Result;

constexpr std::byte kTokenVersion{1};
constexpr std::size_t kChecksumBytes = 4;
constexpr int kBase64 = sodium_base64_VARIANT_URLSAFE_NO_PADDING;
constexpr std::size_t kTokenBytesMax =
    1 + core::PoolId::kSize + core::NodeId::kSize + kJoinSecretBytes + 1 + kTokenAddressesMax * (1 + kAddressBytesMax) +
    kChecksumBytes;

void append(Bytes& out, ByteView bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

core::ShardId checksum(ByteView content) { return core::sha256(content); }

Result<> check_addresses(const std::vector<std::string>& addresses) {
  if (addresses.empty()) return fail(Error::invalid_argument, "an invitation without an address");
  if (addresses.size() > kTokenAddressesMax) return fail(Error::invalid_argument, "an invitation with too many addresses");
  for (const auto& address : addresses) {
    if (address.size() > kAddressBytesMax) return fail(Error::invalid_argument, "an address that is too long");
    EPHFS_TRY_VOID(core::parse_address(address));
  }
  return {};
}

Result<Bytes> decode(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const auto begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return fail(Error::invalid_argument, "no invitation");
  text = text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
  if (!text.starts_with(kTokenPrefix)) {
    return fail(Error::invalid_argument, "an invitation begins with " + std::string(kTokenPrefix));
  }
  text.remove_prefix(kTokenPrefix.size());
  Bytes content(kTokenBytesMax);
  std::size_t size = 0;
  const char* end = nullptr;
  if (sodium_base642bin(core::as_u8(core::MutableByteView(content)), content.size(), text.data(), text.size(), nullptr,
                        &size, &end, kBase64) != 0 ||
      end != text.data() + text.size()) {
    return fail(Error::invalid_argument, "an invitation with a character that has no place in one, or too long");
  }
  content.resize(size);
  return content;
}

/// Takes fields off the front of checked content.
class Reader {
 public:
  explicit Reader(ByteView rest) : rest_(rest) {}
  [[nodiscard]] std::optional<ByteView> take(std::size_t size) {
    if (size > rest_.size()) return std::nullopt;
    const ByteView taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  template <class Id>
  [[nodiscard]] bool take_id(Id& id) {
    const auto bytes = take(Id::kSize);
    if (bytes) id = *Id::from_bytes(*bytes);
    return bytes.has_value();
  }
  [[nodiscard]] std::optional<std::size_t> take_number() {
    const auto byte = take(1);
    if (!byte) return std::nullopt;
    return std::to_integer<std::size_t>(byte->front());
  }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

 private:
  ByteView rest_;
};

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
  append(content, checksum(content).view().first(kChecksumBytes));
  std::string text(sodium_base64_ENCODED_LEN(content.size(), kBase64), '\0');
  sodium_bin2base64(text.data(), text.size(), core::as_u8(ByteView(content)), content.size(), kBase64);
  text.pop_back();  // the end that C wants
  return std::string(kTokenPrefix) + text;
}

Result<Token> parse_token(std::string_view text) {
  EPHFS_TRY(const Bytes bytes, decode(text));
  const auto incomplete = fail(Error::invalid_argument, "an invitation that is incomplete");
  if (bytes.size() <= kChecksumBytes) return incomplete;
  const ByteView content = ByteView(bytes).first(bytes.size() - kChecksumBytes);
  if (!core::equal_in_constant_time(checksum(content).view().first(kChecksumBytes),
                                    ByteView(bytes).last(kChecksumBytes))) {
    return fail(Error::invalid_argument, "an invitation with a character changed, missing or too many");
  }
  if (content.front() != kTokenVersion) {
    return fail(Error::version, "an invitation of version " + std::to_string(std::to_integer<int>(content.front())));
  }
  Token token;
  Reader reader(content.subspan(1));
  if (!reader.take_id(token.pool) || !reader.take_id(token.inviter) || !reader.take_id(token.secret)) return incomplete;
  const auto count = reader.take_number();
  if (!count) return incomplete;
  for (std::size_t i = 0; i < *count; ++i) {
    const auto size = reader.take_number();
    const auto address = size ? reader.take(*size) : std::nullopt;
    if (!address) return incomplete;
    token.addresses.emplace_back(core::as_text(*address));
  }
  if (!reader.at_end()) return fail(Error::invalid_argument, "an invitation with something behind it");
  EPHFS_TRY_VOID(check_addresses(token.addresses));
  return token;
}

}  // namespace ephfs::net
