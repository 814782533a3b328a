// SPDX-License-Identifier: Apache-2.0
#include "core/signing.hpp"

#include <openssl/evp.h>
#include <sodium.h>

#include "core/check.hpp"

namespace ephfs::core {
namespace {

static_assert(PublicKey::kSize == crypto_sign_PUBLICKEYBYTES);
static_assert(Signature::kSize == crypto_sign_BYTES);
static_assert(SigningSeed::kSize == crypto_sign_SEEDBYTES);
static_assert(Secret<64>::kSize == crypto_sign_SECRETKEYBYTES);

// What is signed in place of `message`. A context holds no zero byte, so none is the start of another's
// input.
Bytes signed_bytes(std::string_view context, ByteView message) {
  EPHFS_CHECK(!context.empty() && context.find('\0') == std::string_view::npos, "a context is a name");
  Bytes bytes;
  bytes.reserve(context.size() + 1 + message.size());
  const ByteView name = as_bytes(context);
  bytes.insert(bytes.end(), name.begin(), name.end());
  bytes.push_back(std::byte{0});
  bytes.insert(bytes.end(), message.begin(), message.end());
  return bytes;
}

template <class Id>
Id sha256_as(ByteView bytes) {
  static const EVP_MD* const digest = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  Id id;
  EPHFS_CHECK(digest != nullptr &&
                  EVP_Digest(bytes.data(), bytes.size(), as_u8(id.mutable_view()), nullptr, digest, nullptr) == 1,
              "OpenSSL hashes");
  return id;
}

}  // namespace

NodeId node_id_of(const PublicKey& key) {
  return sha256_as<NodeId>(key.view());
}

ShardId sha256(ByteView bytes) {
  return sha256_as<ShardId>(bytes);
}

Signer::Signer(const SigningSeed& seed) : secret_key_(Secret<64>::zeroed()) {
  EPHFS_CHECK(crypto_sign_seed_keypair(as_u8(public_key_.mutable_view()), as_u8(secret_key_.mutable_view()),
                                       as_u8(seed.view())) == 0,
              "a seed makes a key pair");
}

Signature Signer::sign(std::string_view context, ByteView message) const {
  const Bytes bytes = signed_bytes(context, message);
  Signature signature;
  EPHFS_CHECK(crypto_sign_detached(as_u8(signature.mutable_view()), nullptr, as_u8(bytes), bytes.size(),
                                   as_u8(secret_key_.view())) == 0,
              "Ed25519 signs");
  return signature;
}

bool verify_signature(const PublicKey& key, std::string_view context, ByteView message, const Signature& signature) {
  const Bytes bytes = signed_bytes(context, message);
  return crypto_sign_verify_detached(as_u8(signature.view()), as_u8(bytes), bytes.size(), as_u8(key.view())) == 0;
}

}  // namespace ephfs::core
