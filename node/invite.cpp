// SPDX-License-Identifier: Apache-2.0
#include "node/invite.hpp"

#include <algorithm>
#include <cstring>

#include <boost/asio/ip/address.hpp>
#include <ifaddrs.h>
#include <net/if.h>

#include "core/config.hpp"
#include "net/peer_server.hpp"
#include "net/token.hpp"

namespace ephfs::node {

using core::Error;
using core::fail;
namespace ip = core::asio::ip;

Result<std::string> invite(const std::filesystem::path& directory, core::Instant now, core::Milliseconds lasts,
                           std::uint32_t uses) {
  EPHFS_TRY(const auto file, read_pool_file(directory));
  if (!file) return fail(Error::not_found, directory.string() + ": no node was started there yet");
  if (file->self.address.empty()) {
    return fail(Error::invalid_argument, directory.string() + ": its node does not listen, so nobody could join");
  }
  EPHFS_TRY(const auto secret, create_invitation(directory, now, now + lasts, uses));
  net::Token token;
  token.pool = file->pool;
  token.inviter = file->self.id;
  token.addresses = {file->self.address};
  token.secret = *net::JoinSecret::from_bytes(secret.view());
  return net::format_token(token);
}

awaitable<Result<core::PoolId>> join(std::filesystem::path directory, std::string token, net::Member self,
                                     net::Transport& transport, core::Clock& clock, core::Boottime until) {
  EPHFS_CO_TRY(const net::Token invitation, net::parse_token(token));
  if (invitation.inviter == self.id) co_return fail(Error::invalid_argument, "this machine made the invitation");
  // Asked before the invitation is used up on a directory that cannot take it.
  EPHFS_CO_TRY(const auto known, read_pool_file(directory));
  if (known && known->pool != invitation.pool && !known->others.empty()) {
    co_return fail(Error::exists, directory.string() + " belongs to pool " + known->pool.hex());
  }
  // A node that runs on the directory has written down where it listens.
  if (self.address.empty() && known && known->self.id == self.id) self.address = known->self.address;
  core::Failure last = fail(Error::unreachable, "the invitation has no address");
  for (const auto& address : invitation.addresses) {
    core::Bytes secret = core::to_bytes(invitation.secret.view());
    auto reply = co_await net::join_pool(transport, address, invitation.inviter, std::move(secret), self, clock, until);
    if (!reply) {
      last = std::move(reply).error();
      // An answer, of whatever kind, is the pool's answer; only silence is worth another address.
      if (last.code == Error::unreachable || last.code == Error::timed_out) continue;
      co_return last;
    }
    std::vector<net::Member> members = std::move(reply->members);
    const bool has_inviter =
        std::ranges::any_of(members, [&](const net::Member& member) { return member.id == invitation.inviter; });
    if (!has_inviter) members.push_back({invitation.inviter, address});
    EPHFS_CO_TRY_VOID(adopt_pool(directory, reply->pool, self, members));
    co_return reply->pool;
  }
  co_return last;
}

namespace {

/// The first address of this machine that others may reach: of a network that is up and not the loopback.
std::optional<ip::address> network_address(bool v6) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return std::nullopt;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, &::freeifaddrs);
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0 || (entry->ifa_flags & IFF_LOOPBACK) != 0) {
      continue;
    }
    if (!v6 && entry->ifa_addr->sa_family == AF_INET) {
      sockaddr_in socket{};
      std::memcpy(&socket, entry->ifa_addr, sizeof socket);
      return ip::address_v4(ntohl(socket.sin_addr.s_addr));
    }
    if (v6 && entry->ifa_addr->sa_family == AF_INET6) {
      sockaddr_in6 socket{};
      std::memcpy(&socket, entry->ifa_addr, sizeof socket);
      ip::address_v6::bytes_type bytes;
      std::memcpy(bytes.data(), &socket.sin6_addr, bytes.size());
      const ip::address_v6 address(bytes);
      if (!address.is_link_local()) return address;
    }
  }
  return std::nullopt;
}

}  // namespace

Result<std::string> reachable_address(const std::string& address) {
  EPHFS_TRY(const auto where, core::parse_address(address));
  boost::system::error_code error;
  const auto host = ip::make_address(where.host, error);
  if (error || !host.is_unspecified()) return address;
  const auto found = network_address(host.is_v6());
  if (!found) {
    return fail(Error::invalid_argument, "this machine has no network address to advertise for " + address);
  }
  const std::string port = std::to_string(where.port);
  return found->is_v6() ? "[" + found->to_string() + "]:" + port : found->to_string() + ":" + port;
}

}  // namespace ephfs::node
