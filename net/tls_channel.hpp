// SPDX-License-Identifier: Apache-2.0
// A Channel over TLS: frames with a fixed prefix, checked against the bounds before anything is allocated for them.
#pragma once

#include <memory>

#include "net/tls_connection.hpp"
#include "net/transport.hpp"

namespace ephfs::net {

/// The length of header and payload, 32 bits each, little end first.
constexpr std::size_t kFramePrefixBytes = 8;

/// The channel of a connection whose handshake is done. protocol when the other end showed no key.
[[nodiscard]] Result<std::unique_ptr<Channel>> make_tls_channel(std::shared_ptr<TlsConnection> connection);

}  // namespace ephfs::net
