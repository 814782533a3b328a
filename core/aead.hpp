// SPDX-License-Identifier: Apache-2.0
// Bulk encryption of extents: authenticated blocks with a 16-byte tag. AES-256-GCM (NIST SP 800-38D) where the
// processor has AES and carry-less multiplication, else XChaCha20-Poly1305 (libsodium); the algorithm is recorded with
// what it encrypted.
#pragma once

#include <cstdint>
#include <memory>

#include "core/bytes.hpp"
#include "core/result.hpp"
#include "core/secret.hpp"

namespace ephfs::core {

enum class AeadAlgorithm : std::uint8_t { aes_256_gcm = 1, xchacha20_poly1305 = 2 };

constexpr std::size_t kAeadTagBytes = 16;

/// The faster of the two on this processor.
[[nodiscard]] AeadAlgorithm preferred_aead();

/// Encrypts and opens blocks under one key. Setting a key up costs more than a small block, so an object serves all
/// blocks of an extent; give it back its memory by destroying it (the key schedule is wiped). One thread at a time.
class Aead {
 public:
  /// `key` is read here and not kept by reference.
  Aead(AeadAlgorithm algorithm, const Key& key);
  ~Aead();
  Aead(const Aead&) = delete;
  Aead& operator=(const Aead&) = delete;

  /// Writes plain.size() bytes of ciphertext and the tag to `out`, which holds exactly plain.size() + kAeadTagBytes.
  /// The nonce is the 64-bit `number` in little-endian behind zeros: never the same twice under one key.
  void seal(std::uint64_t number, ByteView associated, ByteView plain, MutableByteView out);

  /// The inverse. `sealed` is out.size() + kAeadTagBytes long. False, with `out` zeroed, when the tag does not match.
  [[nodiscard]] bool open(std::uint64_t number, ByteView associated, ByteView sealed, MutableByteView out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Derives a key from `key` for a purpose: BLAKE2b keyed with `key` over the 8-character `purpose` and `salt` (any
/// length; a length is part of what is hashed, so no two inputs run together).
[[nodiscard]] Key derive_key(const Key& key, std::string_view purpose, ByteView salt);

/// Seals a few secret bytes (a wrapped key) with a random 24-byte nonce in front: XChaCha20-Poly1305.
[[nodiscard]] Bytes seal_small(const Key& key, ByteView associated, ByteView plain);
/// The inverse; damaged when the tag does not match or the length is not `out`'s.
[[nodiscard]] Result<> open_small(const Key& key, ByteView associated, ByteView sealed, MutableByteView out);

}  // namespace ephfs::core
