// SPDX-License-Identifier: Apache-2.0
#include "core/aead.hpp"

#include <array>
#include <limits>

#include <openssl/evp.h>
#include <sodium.h>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "core/check.hpp"
#include "core/little_endian.hpp"

namespace ephfs::core {
namespace {

constexpr std::size_t kGcmNonceBytes = 12;
constexpr std::size_t kXchachaNonceBytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
static_assert(kAeadTagBytes == crypto_aead_xchacha20poly1305_ietf_ABYTES);
static_assert(Key::kSize == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);

// Looking a cipher up costs more than setting a key up, so it is done once; OpenSSL's objects are
// thread-safe.
const EVP_CIPHER* aes_256_gcm() {
  static const EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  EPHFS_CHECK(cipher != nullptr, "OpenSSL has AES-256-GCM");
  return cipher;
}

// `number` in little-endian behind zeros.
template <std::size_t Size>
std::array<std::byte, Size> nonce_of(std::uint64_t number) {
  std::array<std::byte, Size> nonce{};
  store_le(MutableByteView(nonce).last(sizeof number), number);
  return nonce;
}

int as_int(std::size_t size) {
  EPHFS_CHECK(size <= std::numeric_limits<int>::max(), "a block is of a size that OpenSSL takes");
  return static_cast<int>(size);
}

}  // namespace

AeadAlgorithm preferred_aead() {
#if defined(__x86_64__)
  const bool fast_aes = __builtin_cpu_supports("aes") != 0 && __builtin_cpu_supports("pclmul") != 0;
#elif defined(__aarch64__)
  constexpr unsigned long kNeeded = HWCAP_AES | HWCAP_PMULL;
  const bool fast_aes = (::getauxval(AT_HWCAP) & kNeeded) == kNeeded;
#else
  const bool fast_aes = false;
#endif
  return fast_aes ? AeadAlgorithm::aes_256_gcm : AeadAlgorithm::xchacha20_poly1305;
}

// Making and freeing an EVP context takes 0.3 us with the key, so there is no pool of them that could keep a
// schedule.
struct Aead::State {
  EVP_CIPHER_CTX* gcm = nullptr;  // holds the key schedule, which its end wipes
  Key xchacha;                    // empty with AES

  State(AeadAlgorithm algorithm, const Key& key) {
    if (algorithm == AeadAlgorithm::xchacha20_poly1305) {
      xchacha = key.copy();
      return;
    }
    EPHFS_CHECK(algorithm == AeadAlgorithm::aes_256_gcm, "the algorithm is known");
    gcm = EVP_CIPHER_CTX_new();
    EPHFS_CHECK(gcm != nullptr && EVP_EncryptInit_ex2(gcm, aes_256_gcm(), as_u8(key.view()), nullptr, nullptr) == 1,
                "OpenSSL takes a key");
  }
  ~State() { EVP_CIPHER_CTX_free(gcm); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // Everything of a block but its tag.
  void run_gcm(int encrypt, std::uint64_t number, ByteView associated, ByteView in, MutableByteView out) const {
    const auto nonce = nonce_of<kGcmNonceBytes>(number);
    int written = 0;
    bool done = EVP_CipherInit_ex2(gcm, nullptr, nullptr, as_u8(ByteView(nonce)), encrypt, nullptr) == 1;
    if (!associated.empty()) {
      done = done && EVP_CipherUpdate(gcm, nullptr, &written, as_u8(associated), as_int(associated.size())) == 1;
    }
    if (!in.empty()) {
      done = done && EVP_CipherUpdate(gcm, as_u8(out), &written, as_u8(in), as_int(in.size())) == 1 &&
             written == as_int(in.size());
    }
    EPHFS_CHECK(done, "OpenSSL encrypts and decrypts");
  }
};

Aead::Aead(AeadAlgorithm algorithm, const Key& key) : state_(new State(algorithm, key)) {}

Aead::~Aead() {
  delete state_;
}

void Aead::seal(std::uint64_t number, ByteView associated, ByteView plain, MutableByteView out) {
  EPHFS_CHECK(out.size() == plain.size() + kAeadTagBytes, "a sealed block is its bytes and a tag");
  if (state_->gcm == nullptr) {
    const auto nonce = nonce_of<kXchachaNonceBytes>(number);
    crypto_aead_xchacha20poly1305_ietf_encrypt(as_u8(out), nullptr, as_u8(plain), plain.size(), as_u8(associated),
                                               associated.size(), nullptr, as_u8(ByteView(nonce)),
                                               as_u8(state_->xchacha.view()));
    return;
  }
  state_->run_gcm(1, number, associated, plain, out.first(plain.size()));
  int written = 0;
  const bool tagged =
      EVP_EncryptFinal_ex(state_->gcm, as_u8(out.last(kAeadTagBytes)), &written) == 1 &&
      EVP_CIPHER_CTX_ctrl(state_->gcm, EVP_CTRL_AEAD_GET_TAG, kAeadTagBytes, out.last(kAeadTagBytes).data()) == 1;
  EPHFS_CHECK(tagged, "OpenSSL gives a tag");
}

bool Aead::open(std::uint64_t number, ByteView associated, ByteView sealed, MutableByteView out) {
  EPHFS_CHECK(sealed.size() == out.size() + kAeadTagBytes, "a sealed block is its bytes and a tag");
  if (state_->gcm == nullptr) {
    const auto nonce = nonce_of<kXchachaNonceBytes>(number);
    const bool good = crypto_aead_xchacha20poly1305_ietf_decrypt(
                          as_u8(out), nullptr, nullptr, as_u8(sealed), sealed.size(), as_u8(associated),
                          associated.size(), as_u8(ByteView(nonce)), as_u8(state_->xchacha.view())) == 0;
    if (!good) sodium_memzero(out.data(), out.size());
    return good;
  }
  state_->run_gcm(0, number, associated, sealed.first(out.size()), out);
  std::array<std::byte, kAeadTagBytes> tag{};
  std::memcpy(tag.data(), sealed.last(kAeadTagBytes).data(), tag.size());
  int written = 0;
  EPHFS_CHECK(EVP_CIPHER_CTX_ctrl(state_->gcm, EVP_CTRL_AEAD_SET_TAG, kAeadTagBytes, tag.data()) == 1,
              "OpenSSL takes a tag");
  const bool good = EVP_DecryptFinal_ex(state_->gcm, as_u8(MutableByteView(tag)), &written) == 1;
  if (!good) sodium_memzero(out.data(), out.size());
  return good;
}

Key derive_key(const Key& key, std::string_view purpose, ByteView salt) {
  constexpr std::size_t kPurposeBytes = 8;
  EPHFS_CHECK(purpose.size() == kPurposeBytes, "a purpose has 8 characters");
  std::array<std::byte, sizeof(std::uint64_t)> salt_bytes{};
  store_le(MutableByteView(salt_bytes), std::uint64_t{salt.size()});
  Key derived = Key::zeroed();
  crypto_generichash_state state;
  const auto add = [&state](ByteView part) { return crypto_generichash_update(&state, as_u8(part), part.size()) == 0; };
  const bool done = crypto_generichash_init(&state, as_u8(key.view()), Key::kSize, Key::kSize) == 0 &&
                    add(as_bytes(purpose)) && add(salt_bytes) && add(salt) &&
                    crypto_generichash_final(&state, as_u8(derived.mutable_view()), Key::kSize) == 0;
  sodium_memzero(&state, sizeof state);
  // libsodium's own frames have held the derived key, and do not wipe it.
  constexpr std::size_t kFramesBytes = 2048;
  sodium_stackzero(kFramesBytes);
  EPHFS_CHECK(done, "BLAKE2b hashes");
  return derived;
}

Bytes seal_small(const Key& key, ByteView associated, ByteView plain) {
  Bytes sealed(kXchachaNonceBytes + plain.size() + kAeadTagBytes);
  const auto nonce = MutableByteView(sealed).first(kXchachaNonceBytes);
  fill_random(nonce);
  crypto_aead_xchacha20poly1305_ietf_encrypt(as_u8(MutableByteView(sealed).subspan(kXchachaNonceBytes)), nullptr,
                                             as_u8(plain), plain.size(), as_u8(associated), associated.size(), nullptr,
                                             as_u8(ByteView(nonce)), as_u8(key.view()));
  return sealed;
}

Result<> open_small(const Key& key, ByteView associated, ByteView sealed, MutableByteView out) {
  if (sealed.size() != kXchachaNonceBytes + out.size() + kAeadTagBytes) {
    return fail(Error::damaged, "sealed bytes are " + std::to_string(sealed.size()) + " long");
  }
  const auto nonce = sealed.first(kXchachaNonceBytes);
  const auto box = sealed.subspan(kXchachaNonceBytes);
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(as_u8(out), nullptr, nullptr, as_u8(box), box.size(),
                                                 as_u8(associated), associated.size(), as_u8(nonce),
                                                 as_u8(key.view())) != 0) {
    sodium_memzero(out.data(), out.size());
    return fail(Error::damaged, "sealed bytes do not match their tag");
  }
  return {};
}

}  // namespace ephfs::core
