// SPDX-License-Identifier: Apache-2.0
// Ed25519 (RFC 8032, libsodium): who says a thing.
#pragma once

#include <array>

#include "core/bytes.hpp"
#include "core/ids.hpp"
#include "core/result.hpp"
#include "core/secret.hpp"

namespace ephfs::core {

using PublicKey = FixedId<struct PublicKeyTag, 32>;
using Signature = FixedId<struct SignatureTag, 64>;
using SigningSeed = Secret<32>;

/// SHA-256 of the public key: what a node is called.
[[nodiscard]] NodeId node_id_of(const PublicKey& key);
[[nodiscard]] ShardId sha256(ByteView bytes);

/// A key pair that signs. Immutable; thread-safe.
class Signer {
 public:
  explicit Signer(const SigningSeed& seed);
  [[nodiscard]] const PublicKey& public_key() const noexcept { return public_key_; }
  /// Signs `context` (a short constant naming the kind of message, so that one kind never passes for another), a zero
  /// byte, and `message`.
  [[nodiscard]] Signature sign(std::string_view context, ByteView message) const;

 private:
  PublicKey public_key_;
  Secret<64> secret_key_;
};

[[nodiscard]] bool verify_signature(const PublicKey& key, std::string_view context, ByteView message,
                                    const Signature& signature);

}  // namespace ephfs::core
