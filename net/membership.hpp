// SPDX-License-Identifier: Apache-2.0
// Who belongs to the pool, as a session sees it: it asks before it serves a stranger, and carries joins and news.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/ids.hpp"
#include "core/result.hpp"
#include "core/secret.hpp"

namespace ephfs::net {

/// A machine of the pool. One without an address does not listen (a mount that only uses the pool).
struct Member {
  core::NodeId id;
  std::string address;
  friend bool operator==(const Member&, const Member&) = default;
};
constexpr std::size_t kMembersMax = 4096;

/// Implemented by node/ over the pool file. Thread-safe.
class Membership {
 public:
  virtual ~Membership() = default;
  [[nodiscard]] virtual core::PoolId pool() const = 0;
  [[nodiscard]] virtual bool admits(const core::NodeId& id) const = 0;
  [[nodiscard]] virtual std::vector<Member> members() const = 0;
  /// Another one whenever members() would say something else than before.
  [[nodiscard]] virtual std::uint64_t version() const = 0;
  /// Takes a stranger in who shows the secret of an open invitation, which is used up by it (by one of its uses).
  /// not_permitted for a wrong, used-up or expired secret.
  [[nodiscard]] virtual core::Result<> admit(const Member& stranger, core::ByteView secret) = 0;
  /// Learns of members that another member knows.
  virtual void learn(const std::vector<Member>& others) = 0;
};

}  // namespace ephfs::net
