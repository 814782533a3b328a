// SPDX-License-Identifier: Apache-2.0
// What a session carries: requests, replies, and the hello that opens it. Plain values; docs/protocol.md is the
// grammar.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.hpp"
#include "core/ids.hpp"
#include "net/membership.hpp"

namespace ephfs::net {

constexpr std::uint32_t kProtocolVersion = 1;
/// What this program calls itself in a hello.
constexpr std::string_view kAgent = "ephfs/" EPHFS_VERSION;

/// Kinds below kFirstRequest are the session's own; the others are requests, answered by a reply or a failure.
enum class MessageKind : std::uint32_t {
  hello = 1,
  ping = 2,
  pong = 3,
  cancel = 4,
  reply = 5,
  failure = 6,
  store = 16,
  fetch = 17,
  renew = 18,
  remove = 19,
  prove = 20,
  status = 21,
  join = 22,
  members = 23,
  deletions = 28,
  holdings = 29,
  put_share = 32,
  take_share = 33,
  drop_share = 34,
};
constexpr MessageKind kFirstRequest = MessageKind::store;

/// A request or a reply: the body is a serialized message of the kind (net/messages.proto), the payload raw bytes.
struct Message {
  MessageKind kind = MessageKind::reply;
  core::Bytes body;
  core::SharedBytes payload;
  bool last = false;  // of a reply: the session ends once it has been sent
};

/// How each end introduces itself.
struct Hello {
  std::uint32_t version = kProtocolVersion;
  core::PoolId pool;            // zero: to and from a stranger
  std::string agent;            // for people: which program this is
  std::vector<Member> members;  // of the pool, as this end knows it; none to and from a stranger
};

}  // namespace ephfs::net
