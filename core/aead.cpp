// SPDX-License-Identifier: Apache-2.0
#include "core/aead.hpp"

#include <array>

#include <sodium.h>

#include "core/check.hpp"
#include "core/gcm.hpp"
#include "core/little_endian.hpp"

namespace ephfs::core {
namespace {

constexpr std::size_t kXchachaNonceBytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
static_assert(kAeadTagBytes == Gcm::kTagBytes);
static_assert(kAeadTagBytes == crypto_aead_xchacha20poly1305_ietf_ABYTES);
static_assert(Key::kSize == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);

// `number` in little-endian behind zeros.
template <std::size_t Size>
std::array<std::byte, Size> nonce_of(std::uint64_t number) {
  std::array<std::byte, Size> nonce{};
  store_le(MutableByteView(nonce).last(sizeof number), number);
  return nonce;
}

}  // namespace

AeadAlgorithm preferred_aead() {
  return has_aes_instructions() ? AeadAlgorithm::aes_256_gcm : AeadAlgorithm::xchacha20_poly1305;
}

struct Aead::State {
  std::unique_ptr<Gcm> gcm;
  Key xchacha;  // empty with AES
};

Aead::Aead(AeadAlgorithm algorithm, const Key& key) : state_(new State) {
  if (algorithm == AeadAlgorithm::xchacha20_poly1305) {
    state_->xchacha = key.copy();
    return;
  }
  EPHFS_CHECK(algorithm == AeadAlgorithm::aes_256_gcm, "the algorithm is known");
  state_->gcm = make_gcm(key);
}

Aead::~Aead() = default;

void Aead::seal(std::uint64_t number, ByteView associated, ByteView plain, MutableByteView out) {
  EPHFS_CHECK(out.size() == plain.size() + kAeadTagBytes, "a sealed block is its bytes and a tag");
  if (state_->gcm) {
    state_->gcm->seal(nonce_of<Gcm::kNonceBytes>(number), associated, plain, out.first(plain.size()),
                      out.last(Gcm::kTagBytes));
    return;
  }
  const auto nonce = nonce_of<kXchachaNonceBytes>(number);
  crypto_aead_xchacha20poly1305_ietf_encrypt(as_u8(out), nullptr, as_u8(plain), plain.size(), as_u8(associated),
                                             associated.size(), nullptr, as_u8(ByteView(nonce)),
                                             as_u8(state_->xchacha.view()));
}

bool Aead::open(std::uint64_t number, ByteView associated, ByteView sealed, MutableByteView out) {
  EPHFS_CHECK(sealed.size() == out.size() + kAeadTagBytes, "a sealed block is its bytes and a tag");
  bool good = false;
  if (state_->gcm) {
    good = state_->gcm->open(nonce_of<Gcm::kNonceBytes>(number), associated, sealed.first(out.size()),
                             sealed.last(Gcm::kTagBytes), out);
  } else {
    const auto nonce = nonce_of<kXchachaNonceBytes>(number);
    good = crypto_aead_xchacha20poly1305_ietf_decrypt(as_u8(out), nullptr, nullptr, as_u8(sealed), sealed.size(),
                                                      as_u8(associated), associated.size(), as_u8(ByteView(nonce)),
                                                      as_u8(state_->xchacha.view())) == 0;
  }
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
