// SPDX-License-Identifier: Apache-2.0
#include "net/gcm_provider.hpp"

#include <array>
#include <cstring>
#include <memory>
#include <optional>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "core/gcm.hpp"

namespace ephfs::net {
namespace {

using core::ByteView;
using core::Gcm;
using core::MutableByteView;

constexpr std::size_t kKeyBytes = core::Key::kSize;
// More than any record's head; more associated data is refused.
constexpr std::size_t kAssociatedMax = 64;
constexpr const char* kProperties = "provider=ephfs";

MutableByteView writable(unsigned char* bytes, std::size_t size) {
  return {reinterpret_cast<std::byte*>(bytes), size};
}
ByteView readable(const unsigned char* bytes, std::size_t size) {
  return {reinterpret_cast<const std::byte*>(bytes), size};
}

/// One direction of a connection. Every function answers as OpenSSL's contract has it: false is a failure, and what was
/// called out of turn is one.
class Cipher {
 public:
  // Key and nonce may come one by one, and each may come again.
  bool begin(bool encrypting, ByteView key, ByteView nonce) {
    encrypting_ = encrypting;
    if (!key.empty()) {
      if (key.size() != kKeyBytes) return false;
      gcm_ = core::make_gcm(core::Key::copy_of(key));
    }
    if (!nonce.empty()) {
      if (nonce.size() != nonce_.size()) return false;
      std::memcpy(nonce_.data(), nonce.data(), nonce_.size());
      has_nonce_ = true;
    }
    associated_bytes_ = 0;
    has_tag_ = false;
    passed_.reset();
    return true;
  }

  bool associate(ByteView bytes) {
    if (passed_ || bytes.size() > associated_.size() - associated_bytes_) return false;
    std::memcpy(associated_.data() + associated_bytes_, bytes.data(), bytes.size());
    associated_bytes_ += bytes.size();
    return true;
  }

  // All of a message. A nonce serves once.
  bool pass(ByteView in, MutableByteView out) {
    if (!gcm_ || passed_ || !std::exchange(has_nonce_, false)) return false;
    const ByteView associated = ByteView(associated_).first(associated_bytes_);
    if (encrypting_) {
      gcm_->seal(nonce_, associated, in, out, tag_);
      has_tag_ = true;
    }
    passed_ = encrypting_ || (has_tag_ && gcm_->open(nonce_, associated, in, tag_, out));
    return *passed_;
  }

  // An empty message is never passed on. What was refused stays refused.
  bool finish() { return passed_ ? *passed_ : pass({}, {}); }

  bool set_tag(ByteView tag) {
    if (encrypting_ || tag.size() != tag_.size()) return false;
    std::memcpy(tag_.data(), tag.data(), tag_.size());
    return has_tag_ = true;
  }
  [[nodiscard]] const std::array<std::byte, Gcm::kTagBytes>* tag() const {
    return encrypting_ && has_tag_ ? &tag_ : nullptr;
  }

 private:
  bool encrypting_ = false;
  bool has_nonce_ = false;
  bool has_tag_ = false;
  std::optional<bool> passed_;  // of this message: whether it was good
  std::unique_ptr<Gcm> gcm_;
  std::array<std::byte, Gcm::kNonceBytes> nonce_{};
  std::array<std::byte, Gcm::kTagBytes> tag_{};
  std::array<std::byte, kAssociatedMax> associated_{};
  std::size_t associated_bytes_ = 0;
};

Cipher& of(void* context) {
  return *static_cast<Cipher*>(context);
}

bool set(OSSL_PARAM* params, const char* name, std::size_t value) {
  OSSL_PARAM* const found = OSSL_PARAM_locate(params, name);
  return found == nullptr || OSSL_PARAM_set_size_t(found, value) == 1;
}

void* new_cipher(void*) {
  return new Cipher;
}

void free_cipher(void* context) {
  delete static_cast<Cipher*>(context);
}

int set_cipher(void* context, const OSSL_PARAM params[]) {
  if (const OSSL_PARAM* const tag = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_AEAD_TAG)) {
    if (tag->data_type != OSSL_PARAM_OCTET_STRING || tag->data == nullptr) return 0;
    if (!of(context).set_tag(readable(static_cast<const unsigned char*>(tag->data), tag->data_size))) return 0;
  }
  if (const OSSL_PARAM* const length = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_AEAD_IVLEN)) {
    std::size_t bytes = 0;
    if (OSSL_PARAM_get_size_t(length, &bytes) != 1 || bytes != Gcm::kNonceBytes) return 0;
  }
  return 1;
}

template <bool Encrypting>
int begin(void* context, const unsigned char* key, std::size_t key_bytes, const unsigned char* nonce,
          std::size_t nonce_bytes, const OSSL_PARAM params[]) {
  const auto given = [](const unsigned char* bytes, std::size_t size) {
    return bytes == nullptr ? ByteView() : readable(bytes, size);
  };
  if (!of(context).begin(Encrypting, given(key, key_bytes), given(nonce, nonce_bytes))) return 0;
  return params == nullptr ? 1 : set_cipher(context, params);
}

int update(void* context, unsigned char* out, std::size_t* out_bytes, std::size_t out_size, const unsigned char* in,
           std::size_t in_bytes) {
  *out_bytes = in_bytes;
  if (out == nullptr) return of(context).associate(readable(in, in_bytes)) ? 1 : 0;
  if (out_size < in_bytes) return 0;
  return of(context).pass(readable(in, in_bytes), writable(out, in_bytes)) ? 1 : 0;
}

int finish(void* context, unsigned char*, std::size_t* out_bytes, std::size_t) {
  *out_bytes = 0;
  return of(context).finish() ? 1 : 0;
}

int describe_algorithm(OSSL_PARAM params[]) {
  return set(params, OSSL_CIPHER_PARAM_KEYLEN, kKeyBytes) && set(params, OSSL_CIPHER_PARAM_IVLEN, Gcm::kNonceBytes) &&
                 set(params, OSSL_CIPHER_PARAM_BLOCK_SIZE, 1) && set(params, OSSL_CIPHER_PARAM_AEAD, 1) &&
                 set(params, OSSL_CIPHER_PARAM_CUSTOM_IV, 1) && set(params, OSSL_CIPHER_PARAM_MODE, EVP_CIPH_GCM_MODE)
             ? 1
             : 0;
}

int describe_cipher(void* context, OSSL_PARAM params[]) {
  if (OSSL_PARAM* const wanted = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD_TAG)) {
    const auto* const tag = of(context).tag();
    if (tag == nullptr || OSSL_PARAM_set_octet_string(wanted, tag->data(), tag->size()) != 1) return 0;
  }
  return set(params, OSSL_CIPHER_PARAM_KEYLEN, kKeyBytes) && set(params, OSSL_CIPHER_PARAM_IVLEN, Gcm::kNonceBytes) &&
                 set(params, OSSL_CIPHER_PARAM_AEAD_TAGLEN, Gcm::kTagBytes)
             ? 1
             : 0;
}

using Function = void (*)();
// Of whatever type a function is, its place among others: OpenSSL knows it by its number.
template <class Any>
Function entry(Any* function) {
  return reinterpret_cast<Function>(function);
}

const OSSL_ALGORITHM* find_algorithms(void*, int operation, int* may_not_be_kept) {
  static const std::array<OSSL_DISPATCH, 10> functions{{
      {OSSL_FUNC_CIPHER_NEWCTX, entry(new_cipher)},
      {OSSL_FUNC_CIPHER_FREECTX, entry(free_cipher)},
      {OSSL_FUNC_CIPHER_ENCRYPT_INIT, entry(begin<true>)},
      {OSSL_FUNC_CIPHER_DECRYPT_INIT, entry(begin<false>)},
      {OSSL_FUNC_CIPHER_UPDATE, entry(update)},
      {OSSL_FUNC_CIPHER_FINAL, entry(finish)},
      {OSSL_FUNC_CIPHER_GET_PARAMS, entry(describe_algorithm)},
      {OSSL_FUNC_CIPHER_GET_CTX_PARAMS, entry(describe_cipher)},
      {OSSL_FUNC_CIPHER_SET_CTX_PARAMS, entry(set_cipher)},
      {0, nullptr},
  }};
  static const std::array<OSSL_ALGORITHM, 2> ciphers{{
      {"AES-256-GCM:id-aes256-GCM:2.16.840.1.101.3.4.1.46", kProperties, functions.data(), "AES-256-GCM"},
      {nullptr, nullptr, nullptr, nullptr},
  }};
  *may_not_be_kept = 0;
  return operation == OSSL_OP_CIPHER ? ciphers.data() : nullptr;
}

int start_provider(const OSSL_CORE_HANDLE*, const OSSL_DISPATCH*, const OSSL_DISPATCH** out, void** context) {
  static const std::array<OSSL_DISPATCH, 2> functions{{
      {OSSL_FUNC_PROVIDER_QUERY_OPERATION, entry(find_algorithms)},
      {0, nullptr},
  }};
  *out = functions.data();
  *context = nullptr;
  return 1;
}

}  // namespace

ProviderHandle load_gcm_provider(OSSL_LIB_CTX* library) {
  if (OSSL_PROVIDER_add_builtin(library, kGcmProviderName, start_provider) != 1) return nullptr;
  return ProviderHandle(OSSL_PROVIDER_load(library, kGcmProviderName));
}

}  // namespace ephfs::net
