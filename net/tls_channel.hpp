// SPDX-License-Identifier: Apache-2.0
// A Channel over TLS: frames with a fixed prefix, checked against the bounds before anything is allocated for them. All
// that touches the connection runs on the connection's own strand, so the channel is safe on any number of threads.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>

#include "net/transport.hpp"

namespace ephfs::net {

namespace asio = boost::asio;

/// The length of header and payload, 32 bits each, little end first.
constexpr std::size_t kFramePrefixBytes = 8;

/// One TCP connection with TLS on it. Shared by the channel and the operations under way. `socket` has the strand for
/// its executor.
struct TlsConnection {
  TlsConnection(asio::ip::tcp::socket socket, std::shared_ptr<asio::ssl::context> tls_context);

  /// Ends it; on the strand.
  void shut();
  /// Sets what every connection has (no delay, keep-alive) and notes the other end's address; before the handshake.
  void prepare();

  const asio::any_io_executor strand;
  const std::shared_ptr<asio::ssl::context> context;
  asio::ssl::stream<asio::ip::tcp::socket> stream;
  std::string peer_address;
  std::atomic<bool> closed{false};
};

/// "HOST:PORT", with brackets around an IPv6 address.
[[nodiscard]] std::string format_endpoint(const asio::ip::tcp::endpoint& endpoint);

/// The channel of a connection whose handshake is done. protocol when the other end showed no key.
[[nodiscard]] Result<std::unique_ptr<Channel>> make_tls_channel(std::shared_ptr<TlsConnection> connection);

}  // namespace ephfs::net
