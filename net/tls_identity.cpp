// SPDX-License-Identifier: Apache-2.0
#include "net/tls_identity.hpp"

#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/x509.h>

#include "core/check.hpp"
#include "core/gcm.hpp"
#include "net/gcm_provider.hpp"
#include "net/openssl_handle.hpp"

namespace ephfs::net {
namespace {

using KeyHandle = OpensslHandle<EVP_PKEY, EVP_PKEY_free>;
using CertificateHandle = OpensslHandle<X509, X509_free>;

// Fixed, and never looked at: how long a node is trusted is its pool's business.
constexpr const char* kNotBefore = "20000101000000Z";
constexpr const char* kNotAfter = "99991231235959Z";

/// Taken from a socket at once, when as much is there: a few records.
constexpr std::size_t kReadAheadBytes = 48U << 10U;

/// Of all that OpenSSL does for connections: its own algorithms, and AES-256-GCM of core where the processor has
/// instructions for it, which takes half the time. Nothing else in the process sees it. As long as the process lives.
OSSL_LIB_CTX* tls_library() {
  static OSSL_LIB_CTX* const library = [] {
    OSSL_LIB_CTX* const made = OSSL_LIB_CTX_new();
    EPHFS_CHECK(made != nullptr && OSSL_PROVIDER_load(made, "default") != nullptr &&
                    (!core::has_aes_instructions() || load_gcm_provider(made).release() != nullptr),
                "OpenSSL has memory for its algorithms");
    return made;
  }();
  return library;
}

KeyHandle make_key(const core::SigningSeed& seed) {
  KeyHandle key(
      EVP_PKEY_new_raw_private_key_ex(tls_library(), "ED25519", nullptr, core::as_u8(seed.view()), seed.view().size()));
  EPHFS_CHECK(key, "OpenSSL takes an Ed25519 seed");
  return key;
}

CertificateHandle make_certificate(EVP_PKEY* key) {
  CertificateHandle certificate(X509_new_ex(tls_library(), nullptr));
  EPHFS_CHECK(certificate, "OpenSSL has memory for a certificate");
  X509* const x509 = certificate.get();
  X509_NAME* const name = X509_get_subject_name(x509);
  const bool made =
      X509_set_version(x509, X509_VERSION_3) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(x509), 1) == 1 &&
      ASN1_TIME_set_string_X509(X509_getm_notBefore(x509), kNotBefore) == 1 &&
      ASN1_TIME_set_string_X509(X509_getm_notAfter(x509), kNotAfter) == 1 &&
      X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("ephfs node"), -1, -1,
                                 0) == 1 &&
      X509_set_issuer_name(x509, name) == 1 && X509_set_pubkey(x509, key) == 1 && X509_sign(x509, key, nullptr) > 0;
  EPHFS_CHECK(made, "OpenSSL signs a certificate with an Ed25519 key");
  return certificate;
}

// Instead of OpenSSL's walk along a chain of authorities, which is of no use here and much to feed to a stranger.
int verify_certificate(X509_STORE_CTX* store, void*) {
  X509* const certificate = X509_STORE_CTX_get0_cert(store);
  EVP_PKEY* const key = certificate == nullptr ? nullptr : X509_get0_pubkey(certificate);
  const bool good =
      key != nullptr && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 && X509_verify(certificate, key) == 1;
  X509_STORE_CTX_set_error(store, good ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
  return good ? 1 : 0;
}

}  // namespace

std::shared_ptr<boost::asio::ssl::context> make_tls_context(const core::SigningSeed& node_seed) {
  SSL_CTX* const ssl = SSL_CTX_new_ex(tls_library(), kPreferGcmProvider, TLS_method());
  EPHFS_CHECK(ssl != nullptr, "OpenSSL has memory for TLS");
  auto context = std::make_shared<boost::asio::ssl::context>(ssl);
  const KeyHandle key = make_key(node_seed);
  const CertificateHandle certificate = make_certificate(key.get());
  const bool configured =
      SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 &&
      SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) == 1 && SSL_CTX_set1_sigalgs_list(ssl, "ed25519") == 1 &&
      SSL_CTX_set1_groups_list(ssl, "X25519") == 1 && SSL_CTX_use_certificate(ssl, certificate.get()) == 1 &&
      SSL_CTX_use_PrivateKey(ssl, key.get()) == 1 && SSL_CTX_set_num_tickets(ssl, 0) == 1;
  EPHFS_CHECK(configured, "OpenSSL speaks TLS 1.3 with Ed25519 and X25519");
  SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(ssl, 1);
  SSL_CTX_set_default_read_buffer_len(ssl, kReadAheadBytes);
  SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(ssl, verify_certificate, nullptr);
  return context;
}

core::Result<core::PublicKey> peer_key_of(const SSL* connection) {
  const CertificateHandle certificate(SSL_get1_peer_certificate(connection));
  EVP_PKEY* const key = certificate ? X509_get0_pubkey(certificate.get()) : nullptr;
  core::PublicKey peer;
  std::size_t size = core::PublicKey::kSize;
  if (key == nullptr || EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519 ||
      EVP_PKEY_get_raw_public_key(key, core::as_u8(peer.mutable_view()), &size) != 1 ||
      size != core::PublicKey::kSize) {
    return core::fail(core::Error::protocol, "the other end shows no Ed25519 key");
  }
  return peer;
}

}  // namespace ephfs::net
