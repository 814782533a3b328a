// SPDX-License-Identifier: Apache-2.0
// What every packing and unpacking of messages is made of. Private to net/wire*.cpp.
#pragma once

#include <string>
#include <string_view>

#include "core/check.hpp"
#include "core/records.hpp"
#include "core/result.hpp"
#include "net/peer.hpp"
#include "net/transport.hpp"

namespace ephfs::net::wire {

template <class Proto>
core::Bytes serialize(const Proto& message) {
  core::Bytes bytes(message.ByteSizeLong());
  EPHFS_CHECK(message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())),
              "a message of ours can be serialized");
  return bytes;
}

template <class Proto>
Result<Proto> parse(core::ByteView bytes, std::string_view what, std::size_t limit = kHeaderBytesMax) {
  Proto message;
  if (bytes.size() > limit || !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return core::fail(core::Error::protocol, std::string(what) + " that is none");
  }
  return message;
}

inline core::Failure malformed(std::string_view what) {
  return core::fail(core::Error::protocol, std::string(what) + " out of bounds");
}

template <class Id>
Result<Id> parse_id(const std::string& bytes, std::string_view what) {
  const auto id = Id::from_bytes(core::as_bytes(bytes));
  if (!id) return malformed(what);
  return *id;
}

inline std::string text_of(core::ByteView bytes) {
  return std::string(core::as_text(bytes));
}

inline Result<core::Envelope> parse_envelope(const std::string& bytes) {
  auto envelope = core::Envelope::parse(core::as_bytes(bytes));
  if (!envelope) return core::fail(core::Error::protocol, "an envelope that is none");
  return envelope;
}

}  // namespace ephfs::net::wire
