// SPDX-License-Identifier: Apache-2.0
// AES-256-GCM (NIST SP 800-38D) under one key. Private to core/: aead.hpp is what others use.
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

  /// `out` is as long as `plain` and a tag.
  virtual void seal(ByteView nonce, ByteView associated, ByteView plain, MutableByteView out) = 0;
  /// Decrypts, and says whether the tag matches; if not, `out` is for nobody. `sealed` is as long as `out` and a tag.
  [[nodiscard]] virtual bool open(ByteView nonce, ByteView associated, ByteView sealed, MutableByteView out) = 0;
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
