// SPDX-License-Identifier: Apache-2.0
#include "net/tls_channel.hpp"

#include <array>

#include "core/buffer_pool.hpp"
#include "net/tls_identity.hpp"

namespace ephfs::net {
namespace {

using core::Error;
using core::fail;

/// What of a payload goes with the header into one record; the rest is sent from where it is.
constexpr std::size_t kFrontBytes = 16U << 10U;

void put_u32(std::byte* out, std::size_t value) {
  for (unsigned i = 0; i < 4; ++i) out[i] = static_cast<std::byte>(value >> (8 * i));
}

std::size_t get_u32(const std::byte* in) {
  std::size_t value = 0;
  for (unsigned i = 0; i < 4; ++i) value |= std::to_integer<std::size_t>(in[i]) << (8 * i);
  return value;
}

awaitable<Result<>> send_frame(std::shared_ptr<TlsConnection> connection, Frame frame) {
  core::ByteView rest = frame.payload.view();
  const std::size_t front_bytes = kFramePrefixBytes + frame.header.size();
  const core::ByteView joined = rest.first(std::min(rest.size(), kFrontBytes - std::min(kFrontBytes, front_bytes)));
  rest = rest.subspan(joined.size());
  core::Buffer front(front_bytes + joined.size());
  put_u32(front.data(), frame.header.size());
  put_u32(front.data() + 4, frame.payload.size());
  std::ranges::copy(frame.header, front.data() + kFramePrefixBytes);
  std::ranges::copy(joined, front.data() + front_bytes);
  EPHFS_CO_TRY_VOID(co_await connection->write(front.view(), !rest.empty()));
  if (!rest.empty()) EPHFS_CO_TRY_VOID(co_await connection->write(rest, false));
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
  std::array<std::byte, kFramePrefixBytes> prefix{};
  EPHFS_CO_TRY_VOID(co_await connection->read(prefix));
  const std::size_t header_bytes = get_u32(prefix.data());
  const std::size_t payload_bytes = get_u32(prefix.data() + 4);
  if (header_bytes > kHeaderBytesMax || payload_bytes > kPayloadBytesMax) {
    connection->shut();
    co_return fail(Error::protocol, connection->peer_address + " sent a frame of " + std::to_string(header_bytes) +
                                        " + " + std::to_string(payload_bytes) + " bytes");
  }
  Frame frame;
  frame.header.resize(header_bytes);
  EPHFS_CO_TRY_VOID(co_await connection->read(frame.header));
  if (payload_bytes > 0) {
    core::MutableByteView room;
    auto payload = read_into(payload_bytes, room);
    EPHFS_CO_TRY_VOID(co_await connection->read(room));
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
  [[nodiscard]] asio::any_io_executor executor() const override { return connection_->strand; }

  [[nodiscard]] awaitable<Result<>> send(Frame frame) override {
    if (frame.header.size() > kHeaderBytesMax || frame.payload.size() > kPayloadBytesMax) {
      co_return fail(Error::invalid_argument, "a frame past its bounds");
    }
    co_return co_await send_frame(connection_, std::move(frame));
  }

  [[nodiscard]] awaitable<Result<Frame>> receive() override { return receive_frame(connection_); }

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

Result<std::unique_ptr<Channel>> make_tls_channel(std::shared_ptr<TlsConnection> connection) {
  EPHFS_TRY(const auto key, peer_key_of(connection->native_handle()));
  return std::unique_ptr<Channel>(std::make_unique<TlsChannel>(std::move(connection), key));
}

}  // namespace ephfs::net
