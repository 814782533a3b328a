// SPDX-License-Identifier: Apache-2.0
// The Transport seam: authenticated, ordered channels of frames between nodes. TlsTransport is the real one;
// tests/support has one in memory with delays, losses and partitions on the virtual clock. What is above (session.hpp:
// requests, deadlines, cancelling) is the same code on both.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/async.hpp"
#include "core/bytes.hpp"
#include "core/ids.hpp"
#include "core/result.hpp"
#include "core/signing.hpp"

namespace ephfs::net {

using core::awaitable;
using core::Result;

/// One message: a protobuf header, and payload bytes behind it that are never copied into or out of it.
struct Frame {
  core::Bytes header;         // at most kHeaderBytesMax
  core::SharedBytes payload;  // at most kPayloadBytesMax
};
constexpr std::size_t kHeaderBytesMax = 64U << 10U;
constexpr std::size_t kPayloadBytesMax = 8U << 20U;

/// A channel whose other end has proven who it is. One sender and one receiver at a time (they may be two coroutines);
/// those run on executor(). close() from any thread.
class Channel {
 public:
  virtual ~Channel() = default;
  [[nodiscard]] virtual core::NodeId peer_id() const = 0;
  [[nodiscard]] virtual core::PublicKey peer_key() const = 0;
  /// Where the other end is, for people.
  [[nodiscard]] virtual std::string peer_address() const = 0;
  /// Where what touches the channel runs, one thing at a time.
  [[nodiscard]] virtual core::asio::any_io_executor executor() const = 0;
  /// Resumes when the frame has been handed to the network. unreachable when the channel is closed or breaks.
  [[nodiscard]] virtual awaitable<Result<>> send(Frame frame) = 0;
  /// unreachable at the end of the channel, protocol for a frame past its bounds or not a frame at all.
  [[nodiscard]] virtual awaitable<Result<Frame>> receive() = 0;
  /// Ends the channel: pending and later sends and receives give unreachable. Idempotent.
  virtual void close() = 0;
};

/// Somewhere that channels come in.
class Listener {
 public:
  virtual ~Listener() = default;
  /// The address others reach it by, with the port that was chosen.
  [[nodiscard]] virtual std::string address() const = 0;
  /// The next authenticated channel. A stranger who fails the handshake is closed and not reported here. unreachable
  /// after close().
  [[nodiscard]] virtual awaitable<Result<std::unique_ptr<Channel>>> accept() = 0;
  virtual void close() = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  /// Connects and authenticates. not_permitted when somebody else than `expected` answers; unreachable; timed_out at
  /// `until`.
  [[nodiscard]] virtual awaitable<Result<std::unique_ptr<Channel>>> connect(std::string address, core::NodeId expected,
                                                                            core::Boottime until) = 0;
  /// "host:0" chooses a free port. busy when the address is taken.
  [[nodiscard]] virtual Result<std::unique_ptr<Listener>> listen(const std::string& address) = 0;
};

}  // namespace ephfs::net
