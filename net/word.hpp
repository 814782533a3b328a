// SPDX-License-Identifier: Apache-2.0
// A word that a person carries from one machine to another: a prefix, then base64url (RFC 4648 section 5, no padding)
// of some content and the first 4 bytes of its SHA-256, which find slips of the pen. Invitations and links are such
// words.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/bytes.hpp"
#include "core/result.hpp"

namespace ephfs::net {

/// What a kind of word is called, for failures ("an invitation"), how it begins, and how long its content may be.
struct WordKind {
  std::string_view noun;
  std::string_view prefix;
  std::size_t content_bytes_max;
};

[[nodiscard]] std::string encode_word(const WordKind& kind, core::ByteView content);
/// The content, of at least one byte; blanks around the word are left out. invalid_argument with what is wrong, never
/// with the text.
[[nodiscard]] core::Result<core::Bytes> decode_word(const WordKind& kind, std::string_view text);

/// Takes fields off the front of a word's content.
class WordReader {
 public:
  explicit WordReader(core::ByteView rest) : rest_(rest) {}
  [[nodiscard]] std::optional<core::ByteView> take(std::size_t size) {
    if (size > rest_.size()) return std::nullopt;
    const core::ByteView taken = rest_.first(size);
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
  /// A text with its length in front.
  [[nodiscard]] std::optional<std::string> take_text() {
    const auto size = take_number();
    const auto bytes = size ? take(*size) : std::nullopt;
    if (!bytes) return std::nullopt;
    return std::string(core::as_text(*bytes));
  }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

 private:
  core::ByteView rest_;
};

}  // namespace ephfs::net
