// SPDX-License-Identifier: Apache-2.0
// The Transport of real networks: TCP with TLS 1.3, both ends proving an Ed25519 key, and the node's id is that key's
// hash. Anybody with a key may connect; whether they belong is decided above (Membership::admits).
#pragma once

#include <memory>

#include "core/clock.hpp"
#include "net/rate_limited_log.hpp"
#include "net/transport.hpp"

namespace ephfs::net {

/// Handshakes that strangers have begun and not finished; when there are more the oldest is given up.
constexpr std::size_t kHalfOpenMax = 64;
/// Channels that wait to be accepted; more are closed.
constexpr std::size_t kAcceptQueueMax = 64;

/// A transport of the node whose seed it is. `log` hears of those who do not speak the protocol, one line a minute at
/// most. Thread-safe, on a context with any number of threads; the context and the clock outlive what it makes.
[[nodiscard]] std::unique_ptr<Transport> make_tls_transport(core::asio::any_io_executor executor, core::Clock& clock,
                                                            const core::SigningSeed& node_seed, LogLine log = {});

}  // namespace ephfs::net
