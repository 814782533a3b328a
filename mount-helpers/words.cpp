// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/words.hpp"

#include "core/bytes.hpp"

namespace ephfs::cli {
namespace {

/// Length of the UTF-8 sequence at the front of `text` (RFC 3629), 0 for what is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80U) return 0;
  }
  const unsigned second = byte(1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool beyond = (first == 0xed && second >= 0xa0) || (first == 0xf4 && second >= 0x90);
  return overlong || beyond ? 0 : length;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string escaped(char c) {
  if (c == '\n') return "\\n";
  if (c == '\t') return "\\t";
  if (c == '\\') return "\\\\";
  return "\\x" + core::to_hex(core::as_bytes({&c, 1}));
}

}  // namespace

std::string shown_name(std::string_view name) {
  std::string shown;
  while (!name.empty()) {
    const std::size_t length = utf8_length(name);
    const auto first = static_cast<unsigned char>(name.front());
    // C1 controls are two bytes long: 0xc2 0x80 to 0xc2 0x9f.
    const bool control =
        first < 0x20 || first == 0x7f || (length == 2 && first == 0xc2 && static_cast<unsigned char>(name[1]) < 0xa0);
    if (length == 0 || control || first == '\\') {
      for (std::size_t i = 0; i < std::max<std::size_t>(length, 1); ++i) shown += escaped(name[i]);
    } else {
      shown += name.substr(0, length);
    }
    name.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return shown;
}

void put_name(boost::json::object& object, std::string_view key, std::string_view name) {
  const bool plain = is_utf8(name);
  object[key] = plain ? std::string(name) : shown_name(name);
  if (!plain) object[std::string(key) + "_hex"] = core::to_hex(core::as_bytes(name));
}

std::string name_in(const boost::json::object& object, std::string_view key) {
  if (const auto* hex = object.if_contains(std::string(key) + "_hex"); hex != nullptr && hex->is_string()) {
    const std::string digits(hex->as_string());
    core::Bytes bytes(digits.size() / 2);
    if (core::from_hex(digits, bytes)) return std::string(core::as_text(bytes));
  }
  const auto* text = object.if_contains(key);
  return text != nullptr && text->is_string() ? std::string(text->as_string()) : std::string();
}

std::string deadline_in_words(core::Deadline deadline, core::Instant now) {
  if (deadline.is_never()) return "never dies";
  const std::string at = core::format_instant(deadline.instant());
  if (deadline.passed(now)) return "has died, at " + at;
  return "dies in " + core::describe_span(deadline.instant() - now) + ", at " + at;
}

}  // namespace ephfs::cli
