// SPDX-License-Identifier: Apache-2.0
// AES-256-GCM (NIST SP 800-38D) under one key. Who has blocks to encrypt uses aead.hpp, which sees to nonces; this is
// for protocols that bring their own (net/gcm_provider).
#pragma once

#include <memory>

#include "core/bytes.hpp"
#include "core/secret.hpp"

namespace ephfs::core {

/// Wipes its key schedule when it goes. One thread at a time.
class Gcm {
 public:
  static constexpr std::size_t kNonceBytes = 12;
  static constexpr std::size_t kTagBytes = 16;

  Gcm() = default;
  virtual ~Gcm() = default;
  Gcm(const Gcm&) = delete;
  Gcm& operator=(const Gcm&) = delete;

  /// `out` is as long as `plain`, and may be the same bytes.
  virtual void seal(ByteView nonce, ByteView associated, ByteView plain, MutableByteView out, MutableByteView tag) = 0;
  /// Decrypts, and says whether the tag matches; if not, `out` is for nobody. `out` is as long as `sealed`, and may be
  /// the same bytes.
  [[nodiscard]] virtual bool open(ByteView nonce, ByteView associated, ByteView sealed, ByteView tag,
                                  MutableByteView out) = 0;
};

/// Whether the processor has instructions for AES and for multiplying without carries.
[[nodiscard]] bool has_aes_instructions();

/// The faster one for this processor.
[[nodiscard]] std::unique_ptr<Gcm> make_gcm(const Key& key);

namespace detail {
/// OpenSSL's, for any processor.
[[nodiscard]] std::unique_ptr<Gcm> make_portable_gcm(const Key& key);
}  // namespace detail

}  // namespace ephfs::core
