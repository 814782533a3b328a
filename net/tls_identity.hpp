// SPDX-License-Identifier: Apache-2.0
// How a node shows who it is in TLS: a self-signed Ed25519 certificate, made in memory from the node's seed. Nothing in
// it counts but the key, which TLS proves possession of.
#pragma once

#include <memory>

#include <boost/asio/ssl/context.hpp>
#include <openssl/ssl.h>

#include "core/result.hpp"
#include "core/signing.hpp"

namespace ephfs::net {

/// A context for both ends: TLS 1.3 only, our certificate, and a certificate wanted from the other end, of which any
/// self-signed Ed25519 one will do. No session is ever resumed, since resuming would skip the certificates.
[[nodiscard]] std::shared_ptr<boost::asio::ssl::context> make_tls_context(const core::SigningSeed& node_seed);

/// The Ed25519 key that the other end of a finished handshake has proven to hold. protocol when it showed none.
[[nodiscard]] core::Result<core::PublicKey> peer_key_of(const SSL* connection);

}  // namespace ephfs::net
