// SPDX-License-Identifier: Apache-2.0
#include "core/share_secret.hpp"

#include "core/aead.hpp"

namespace ephfs::core {

Hash share_token(const ShareSecret& secret, const ShareId& share) {
  return *Hash::from_bytes(derive_key(secret, "ephfs-st", share.view()).view());
}

Hash share_token_hash(const Hash& token) {
  return *Hash::from_bytes(sha256(token.view()).view());
}

Key share_content_key(const ShareSecret& secret, const ShareId& share) {
  return derive_key(secret, "ephfs-sc", share.view());
}

Key share_wrapping_key(const ShareSecret& secret, const ShareId& share) {
  return derive_key(secret, "ephfs-sk", share.view());
}

}  // namespace ephfs::core
