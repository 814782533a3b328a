// SPDX-License-Identifier: Apache-2.0
#include "net/word.hpp"

#include <algorithm>

#include <sodium.h>

#include "core/secret.hpp"
#include "core/signing.hpp"

namespace ephfs::net {
namespace {

using core::Bytes;
using core::ByteView;
using core::Error;
using core::fail;
using core::Result;

constexpr std::size_t kChecksumBytes = 4;
constexpr int kBase64 = sodium_base64_VARIANT_URLSAFE_NO_PADDING;

/// libsodium's decoder takes some bytes past ASCII for digits.
bool is_base64url(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

}  // namespace

std::string encode_word(const WordKind& kind, ByteView content) {
  Bytes bytes(content.begin(), content.end());
  const auto sum = core::sha256(content);
  bytes.insert(bytes.end(), sum.view().begin(), sum.view().begin() + kChecksumBytes);
  std::string text(sodium_base64_ENCODED_LEN(bytes.size(), kBase64), '\0');
  sodium_bin2base64(text.data(), text.size(), core::as_u8(ByteView(bytes)), bytes.size(), kBase64);
  sodium_memzero(bytes.data(), bytes.size());
  text.pop_back();  // the end that C wants
  return std::string(kind.prefix) + text;
}

Result<Bytes> decode_word(const WordKind& kind, std::string_view text) {
  const std::string noun(kind.noun);
  constexpr std::string_view kBlanks = " \t\r\n";
  const auto begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return fail(Error::invalid_argument, "no " + noun.substr(noun.find(' ') + 1));
  text = text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
  if (!text.starts_with(kind.prefix)) {
    return fail(Error::invalid_argument, noun + " begins with " + std::string(kind.prefix));
  }
  text.remove_prefix(kind.prefix.size());
  Bytes bytes(kind.content_bytes_max + kChecksumBytes);
  std::size_t size = 0;
  const char* end = nullptr;
  if (!is_base64url(text) ||
      sodium_base642bin(core::as_u8(core::MutableByteView(bytes)), bytes.size(), text.data(), text.size(), nullptr,
                        &size, &end, kBase64) != 0 ||
      end != text.data() + text.size()) {
    return fail(Error::invalid_argument, noun + " with a character that has no place in one, or too long");
  }
  if (size <= kChecksumBytes) return fail(Error::invalid_argument, noun + " that is incomplete");
  const ByteView content = ByteView(bytes).first(size - kChecksumBytes);
  if (!core::equal_in_constant_time(core::sha256(content).view().first(kChecksumBytes),
                                    ByteView(bytes).subspan(content.size(), kChecksumBytes))) {
    return fail(Error::invalid_argument, noun + " with a character changed, missing or too many");
  }
  bytes.resize(content.size());
  return bytes;
}

}  // namespace ephfs::net
