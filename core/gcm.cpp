// SPDX-License-Identifier: Apache-2.0
#include "core/gcm.hpp"

#include <array>
#include <limits>

#include <intel-ipsec-mb.h>
#include <openssl/evp.h>

#include "core/check.hpp"

namespace ephfs::core {
namespace {

// Looking a cipher up costs more than setting a key up, so it is done once; OpenSSL's objects are
// thread-safe.
const EVP_CIPHER* aes_256_gcm() {
  static const EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  EPHFS_CHECK(cipher != nullptr, "OpenSSL has AES-256-GCM");
  return cipher;
}

int as_int(std::size_t size) {
  EPHFS_CHECK(size <= std::numeric_limits<int>::max(), "a block is of a size that OpenSSL takes");
  return static_cast<int>(size);
}

class PortableGcm final : public Gcm {
 public:
  explicit PortableGcm(const Key& key) : context_(EVP_CIPHER_CTX_new()) {
    EPHFS_CHECK(
        context_ && EVP_EncryptInit_ex2(context_.get(), aes_256_gcm(), as_u8(key.view()), nullptr, nullptr) == 1,
        "OpenSSL takes a key");
  }

  void seal(ByteView nonce, ByteView associated, ByteView plain, MutableByteView out, MutableByteView tag) override {
    run(1, nonce, associated, plain, out);
    int written = 0;
    const bool tagged = EVP_EncryptFinal_ex(context_.get(), as_u8(tag), &written) == 1 &&
                        EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag.data()) == 1;
    EPHFS_CHECK(tagged, "OpenSSL gives a tag");
  }

  bool open(ByteView nonce, ByteView associated, ByteView sealed, ByteView tag, MutableByteView out) override {
    run(0, nonce, associated, sealed, out);
    std::array<std::byte, kTagBytes> wanted{};
    std::memcpy(wanted.data(), tag.data(), wanted.size());
    int written = 0;
    EPHFS_CHECK(EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_SET_TAG, kTagBytes, wanted.data()) == 1,
                "OpenSSL takes a tag");
    return EVP_DecryptFinal_ex(context_.get(), as_u8(MutableByteView(wanted)), &written) == 1;
  }

 private:
  struct Free {
    void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
  };

  // Everything of a block but its tag.
  void run(int encrypt, ByteView nonce, ByteView associated, ByteView in, MutableByteView out) {
    EVP_CIPHER_CTX* const gcm = context_.get();
    int written = 0;
    bool done = EVP_CipherInit_ex2(gcm, nullptr, nullptr, as_u8(nonce), encrypt, nullptr) == 1;
    if (!associated.empty()) {
      done = done && EVP_CipherUpdate(gcm, nullptr, &written, as_u8(associated), as_int(associated.size())) == 1;
    }
    if (!in.empty()) {
      done = done && EVP_CipherUpdate(gcm, as_u8(out), &written, as_u8(in), as_int(in.size())) == 1 &&
             written == as_int(in.size());
    }
    EPHFS_CHECK(done, "OpenSSL encrypts and decrypts");
  }

  std::unique_ptr<EVP_CIPHER_CTX, Free> context_;
};

// The calls below only read it, so one serves all threads.
const IMB_MGR& functions() {
  static const IMB_MGR* const manager = [] {
    IMB_MGR* const made = alloc_mb_mgr(0);
    EPHFS_CHECK(made != nullptr, "memory for a multi-buffer manager");
    init_mb_mgr_auto(made, nullptr);
    return made;
  }();
  return *manager;
}

/// Of intel-ipsec-mb, which also uses the instructions that encrypt four blocks of AES at once: with them 4 KiB take a
/// quarter of the time that OpenSSL 3.0 takes, and a key a tenth.
class WideGcm final : public Gcm {
 public:
  explicit WideGcm(const Key& key) { functions().gcm256_pre(as_u8(key.view()), &key_); }
  ~WideGcm() override {
    wipe(std::as_writable_bytes(std::span(&key_, 1)));
    wipe(std::as_writable_bytes(std::span(&context_, 1)));
  }

  void seal(ByteView nonce, ByteView associated, ByteView plain, MutableByteView out, MutableByteView tag) override {
    functions().gcm256_enc(&key_, &context_, as_u8(out), as_u8(plain), plain.size(), as_u8(nonce), as_u8(associated),
                           associated.size(), as_u8(tag), kTagBytes);
  }

  bool open(ByteView nonce, ByteView associated, ByteView sealed, ByteView tag, MutableByteView out) override {
    std::array<std::byte, kTagBytes> right{};
    functions().gcm256_dec(&key_, &context_, as_u8(out), as_u8(sealed), sealed.size(), as_u8(nonce), as_u8(associated),
                           associated.size(), as_u8(MutableByteView(right)), kTagBytes);
    const bool matches = equal_in_constant_time(right, tag);
    // It would pass what a forger sent.
    wipe(right);
    return matches;
  }

 private:
  alignas(64) gcm_key_data key_;
  alignas(64) gcm_context_data context_{};
};

}  // namespace

bool has_aes_instructions() {
  return __builtin_cpu_supports("aes") != 0 && __builtin_cpu_supports("pclmul") != 0;
}

std::unique_ptr<Gcm> make_gcm(const Key& key) {
  static const bool wide = has_aes_instructions();
  return wide ? std::unique_ptr<Gcm>(new WideGcm(key)) : detail::make_portable_gcm(key);
}

namespace detail {

std::unique_ptr<Gcm> make_portable_gcm(const Key& key) {
  return std::make_unique<PortableGcm>(key);
}

}  // namespace detail

}  // namespace ephfs::core
