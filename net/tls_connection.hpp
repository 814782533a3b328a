// SPDX-License-Identifier: Apache-2.0
// One TCP connection with TLS on it. OpenSSL reads and writes the socket itself, which never blocks; Asio only says
// when there is something to read or room to write again. So a record costs one call of the kernel and no turn of the
// loop.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>

#include "net/openssl_handle.hpp"
#include "net/transport.hpp"

namespace ephfs::net {

namespace asio = boost::asio;

/// Everything but `closed`, `strand` and `peer_address` is touched on the strand only, which is the socket's executor.
class TlsConnection : public std::enable_shared_from_this<TlsConnection> {
 public:
  using ErrorCode = boost::system::error_code;
  enum class Role : std::uint8_t { client, server };

  TlsConnection(asio::ip::tcp::socket connection_socket, std::shared_ptr<asio::ssl::context> tls_context);
  ~TlsConnection();
  TlsConnection(const TlsConnection&) = delete;
  TlsConnection& operator=(const TlsConnection&) = delete;

  /// Sets what every connection has (no delay, keep-alive) and notes the other end's address; before the handshake.
  void prepare();
  /// Calls `done` once, on the strand, at once or later; operation_aborted when the connection is shut meanwhile.
  void shake_hands(Role role, std::function<void(ErrorCode)> done);
  /// Fills `out`, which stays where it is until then. One reader at a time. A failure ends the connection.
  [[nodiscard]] awaitable<Result<>> read(core::MutableByteView out);
  /// Hands `bytes`, which stay where they are until then, to the network. `more_follows`: the next write is near, and
  /// the kernel may wait for it. One writer at a time. A failure ends the connection.
  [[nodiscard]] awaitable<Result<>> write(core::ByteView bytes, bool more_follows);
  /// Ends it.
  void shut();
  /// Why it cannot be used.
  [[nodiscard]] core::Failure broken(const ErrorCode& error) const;
  [[nodiscard]] SSL* native_handle() { return ssl_.get(); }

  const asio::any_io_executor strand;
  asio::ip::tcp::socket socket;
  std::string peer_address;
  std::atomic<bool> closed{false};

 private:
  struct Bio;
  enum class Step : std::uint8_t { done, wants_read, wants_write, failed };
  template <class Operation>
  [[nodiscard]] Step take_step(Operation operation, ErrorCode& error);
  [[nodiscard]] asio::socket_base::wait_type awaited(Step step);
  void leave_pacing_out();
  void gather(std::size_t bytes);
  [[nodiscard]] awaitable<Result<>> pass(Step step, ErrorCode error);
  void step_handshake(std::function<void(ErrorCode)> done);
  [[nodiscard]] std::size_t take_ahead(core::MutableByteView out);

  const std::shared_ptr<asio::ssl::context> context_;
  const OpensslHandle<SSL, SSL_free> ssl_;
  int low_water_ = 1;          // of the socket: the bytes for which whoever waits is woken
  bool drained_ = false;       // the socket gave less than was asked for, and was not waited for since
  bool more_follows_ = false;  // of what is written now
  core::Buffer ahead_;         // what came with something smaller and was not asked for yet: a record at most
  std::size_t ahead_begin_ = 0;
  std::size_t ahead_end_ = 0;
};

/// "HOST:PORT", with brackets around an IPv6 address.
[[nodiscard]] std::string format_endpoint(const asio::ip::tcp::endpoint& endpoint);

}  // namespace ephfs::net
