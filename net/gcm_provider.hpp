// SPDX-License-Identifier: Apache-2.0
// AES-256-GCM of core/gcm.hpp as OpenSSL knows ciphers: a provider (provider-cipher(7)) with this one algorithm, as TLS
// 1.3 uses it (RFC 8446, 5.2): of a message all associated data comes first, and all else at once.
#pragma once

#include <openssl/provider.h>

#include "net/openssl_handle.hpp"

namespace ephfs::net {

inline constexpr const char* kGcmProviderName = "ephfs";
/// A property query by which OpenSSL takes the provider's implementation where there are several.
inline constexpr const char* kPreferGcmProvider = "?provider=ephfs";

using ProviderHandle = OpensslHandle<OSSL_PROVIDER, OSSL_PROVIDER_unload>;

/// Makes the provider known to `library`, and loads it. Null when OpenSSL has no memory for it.
[[nodiscard]] ProviderHandle load_gcm_provider(OSSL_LIB_CTX* library);

}  // namespace ephfs::net
