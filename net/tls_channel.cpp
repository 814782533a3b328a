// SPDX-License-Identifier: Apache-2.0
#include "net/tls_channel.hpp"

#include <array>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>

#include "core/buffer_pool.hpp"
#include "net/tls_identity.hpp"

namespace ephfs::net {
namespace {

using core::Error;
using core::fail;

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);

void put_u32(std::byte* out, std::size_t value) {
  for (unsigned i = 0; i < 4; ++i) out[i] = static_cast<std::byte>(value >> (8 * i));
}

std::size_t get_u32(const std::byte* in) {
  std::size_t value = 0;
  for (unsigned i = 0; i < 4; ++i) value |= std::to_integer<std::size_t>(in[i]) << (8 * i);
  return value;
}

core::Failure broken(const TlsConnection& connection, const boost::system::error_code& error) {
  if (connection.closed) return fail(Error::unreachable, "the connection to " + connection.peer_address + " is closed");
  return fail(Error::unreachable, "the connection to " + connection.peer_address + ": " + error.message());
}

awaitable<Result<>> send_frame(std::shared_ptr<TlsConnection> connection, Frame frame) {
  if (connection->closed) co_return broken(*connection, {});
  // The header is short and goes with the prefix into one TLS record; the payload is sent from where it is.
  core::Bytes front(kFramePrefixBytes + frame.header.size());
  put_u32(front.data(), frame.header.size());
  put_u32(front.data() + 4, frame.payload.size());
  std::copy(frame.header.begin(), frame.header.end(), front.begin() + kFramePrefixBytes);
  const std::array<asio::const_buffer, 2> buffers{asio::buffer(front),
                                                  asio::buffer(frame.payload.data(), frame.payload.size())};
  const auto [error, written] = co_await asio::async_write(connection->stream, buffers, kAsTuple);
  if (error) {
    auto failure = broken(*connection, error);
    connection->shut();
    co_return failure;
  }
  co_return Result<>();
}

awaitable<Result<>> read_exactly(std::shared_ptr<TlsConnection> connection, core::MutableByteView out) {
  const auto [error, read] =
      co_await asio::async_read(connection->stream, asio::buffer(out.data(), out.size()), kAsTuple);
  if (error || connection->closed) {
    auto failure = broken(*connection, error);
    connection->shut();
    co_return failure;
  }
  co_return Result<>();
}

/// Memory for a payload. Those of shards come from a pool of the process.
core::SharedBytes read_into(std::size_t payload_bytes, core::MutableByteView& view) {
  constexpr std::size_t kLarge = 256U << 10U;
  constexpr std::size_t kKept = 4;
  if (payload_bytes < kLarge) {
    const auto buffer = std::make_shared<core::Buffer>(payload_bytes);
    view = buffer->view();
    return {buffer, view};
  }
  static core::BufferPool pool(kPayloadBytesMax, kKept);
  const auto buffer = pool.take();
  view = buffer->view().first(payload_bytes);
  return {buffer, view};
}

awaitable<Result<Frame>> receive_frame(std::shared_ptr<TlsConnection> connection) {
  if (connection->closed) co_return broken(*connection, {});
  std::array<std::byte, kFramePrefixBytes> prefix{};
  EPHFS_CO_TRY_VOID(co_await read_exactly(connection, prefix));
  const std::size_t header_bytes = get_u32(prefix.data());
  const std::size_t payload_bytes = get_u32(prefix.data() + 4);
  if (header_bytes > kHeaderBytesMax || payload_bytes > kPayloadBytesMax) {
    connection->shut();
    co_return fail(Error::protocol, connection->peer_address + " sent a frame of " + std::to_string(header_bytes) +
                                        " + " + std::to_string(payload_bytes) + " bytes");
  }
  Frame frame;
  frame.header.resize(header_bytes);
  EPHFS_CO_TRY_VOID(co_await read_exactly(connection, frame.header));
  if (payload_bytes > 0) {
    core::MutableByteView room;
    auto payload = read_into(payload_bytes, room);
    EPHFS_CO_TRY_VOID(co_await read_exactly(connection, room));
    frame.payload = std::move(payload);
  }
  co_return frame;
}

class TlsChannel final : public Channel {
 public:
  TlsChannel(std::shared_ptr<TlsConnection> connection, const core::PublicKey& key)
      : connection_(std::move(connection)), key_(key), id_(core::node_id_of(key)) {}
  ~TlsChannel() override { end(); }
  TlsChannel(const TlsChannel&) = delete;
  TlsChannel& operator=(const TlsChannel&) = delete;

  [[nodiscard]] core::NodeId peer_id() const override { return id_; }
  [[nodiscard]] core::PublicKey peer_key() const override { return key_; }
  [[nodiscard]] std::string peer_address() const override { return connection_->peer_address; }

  [[nodiscard]] awaitable<Result<>> send(Frame frame) override {
    if (frame.header.size() > kHeaderBytesMax || frame.payload.size() > kPayloadBytesMax) {
      co_return fail(Error::invalid_argument, "a frame past its bounds");
    }
    auto sending = send_frame(connection_, std::move(frame));
    co_return co_await asio::co_spawn(connection_->strand, std::move(sending), asio::use_awaitable);
  }

  [[nodiscard]] awaitable<Result<Frame>> receive() override {
    auto receiving = receive_frame(connection_);
    co_return co_await asio::co_spawn(connection_->strand, std::move(receiving), asio::use_awaitable);
  }

  void close() override { end(); }

 private:
  void end() {
    if (connection_->closed.exchange(true)) return;
    asio::post(connection_->strand, [connection = connection_] { connection->shut(); });
  }

  const std::shared_ptr<TlsConnection> connection_;
  const core::PublicKey key_;
  const core::NodeId id_;
};

}  // namespace

TlsConnection::TlsConnection(asio::ip::tcp::socket socket, std::shared_ptr<asio::ssl::context> tls_context)
    : strand(socket.get_executor()), context(std::move(tls_context)), stream(std::move(socket), *context) {}

void TlsConnection::shut() {
  closed = true;
  boost::system::error_code ignored;
  auto& socket = stream.lowest_layer();
  // The other end hears of it even while operations of ours still hold the socket.
  socket.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  socket.close(ignored);
}

void TlsConnection::prepare() {
  boost::system::error_code error;
  auto& socket = stream.lowest_layer();
  // Should one of these fail, the connection is slower to answer or to be found dead, and still good.
  socket.set_option(asio::ip::tcp::no_delay(true), error);
  socket.set_option(asio::socket_base::keep_alive(true), error);
  const auto endpoint = socket.remote_endpoint(error);
  peer_address = error ? std::string("somebody who is gone") : format_endpoint(endpoint);
}

std::string format_endpoint(const asio::ip::tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  const std::string port = std::to_string(endpoint.port());
  return endpoint.address().is_v6() ? "[" + host + "]:" + port : host + ":" + port;
}

Result<std::unique_ptr<Channel>> make_tls_channel(std::shared_ptr<TlsConnection> connection) {
  EPHFS_TRY(const auto key, peer_key_of(connection->stream.native_handle()));
  return std::unique_ptr<Channel>(std::make_unique<TlsChannel>(std::move(connection), key));
}

}  // namespace ephfs::net
