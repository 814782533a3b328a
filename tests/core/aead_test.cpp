// SPDX-License-Identifier: Apache-2.0
#include "core/aead.hpp"

#include <set>

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "core/gcm.hpp"

namespace ephfs::core {

const char* name_of(AeadAlgorithm algorithm) {
  return algorithm == AeadAlgorithm::aes_256_gcm ? "aes_256_gcm" : "xchacha20_poly1305";
}
// How GoogleTest names it in a test's name.
void PrintTo(AeadAlgorithm algorithm, std::ostream* out) {
  *out << name_of(algorithm);
}

namespace {

Bytes hex(std::string_view digits) {
  Bytes bytes(digits.size() / 2);
  EXPECT_TRUE(from_hex(digits, bytes));
  return bytes;
}

// Bytes that look like nothing, the same in every run.
Bytes pattern(std::size_t size, unsigned seed) {
  Bytes bytes(size);
  std::uint32_t state = seed * 2654435761U + 1;
  for (auto& byte : bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::byte>(state >> 24U);
  }
  return bytes;
}

Key pattern_key(unsigned seed) {
  return Key::copy_of(pattern(Key::kSize, seed));
}

Bytes seal(Aead& aead, std::uint64_t number, ByteView associated, ByteView plain) {
  Bytes sealed(plain.size() + kAeadTagBytes);
  aead.seal(number, associated, plain, sealed);
  return sealed;
}

// The nonce as the header words it: the number's eight bytes, lowest first, behind zeros.
Bytes nonce_bytes(std::size_t size, std::uint64_t number) {
  Bytes nonce(size);
  for (std::size_t i = 0; i < 8; ++i) nonce[size - 8 + i] = static_cast<std::byte>(number >> (8 * i) & 0xffU);
  return nonce;
}

// AES-256-GCM in OpenSSL's plainest words, with any 12-byte nonce.
Bytes raw_gcm(const Key& key, ByteView nonce, ByteView associated, ByteView plain) {
  EVP_CIPHER_CTX* const context = EVP_CIPHER_CTX_new();
  Bytes sealed(plain.size() + kAeadTagBytes);
  int size = 0;
  EXPECT_EQ(EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nullptr, as_u8(key.view()), as_u8(nonce)), 1);
  EXPECT_EQ(EVP_EncryptUpdate(context, nullptr, &size, as_u8(associated), static_cast<int>(associated.size())), 1);
  EXPECT_EQ(
      EVP_EncryptUpdate(context, as_u8(MutableByteView(sealed)), &size, as_u8(plain), static_cast<int>(plain.size())),
      1);
  EXPECT_EQ(EVP_EncryptFinal_ex(context, as_u8(MutableByteView(sealed)), &size), 1);
  EXPECT_EQ(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, kAeadTagBytes, sealed.data() + plain.size()), 1);
  EVP_CIPHER_CTX_free(context);
  return sealed;
}

Bytes raw_xchacha(const Key& key, ByteView nonce, ByteView associated, ByteView plain) {
  Bytes sealed(plain.size() + kAeadTagBytes);
  crypto_aead_xchacha20poly1305_ietf_encrypt(as_u8(MutableByteView(sealed)), nullptr, as_u8(plain), plain.size(),
                                             as_u8(associated), associated.size(), nullptr, as_u8(nonce),
                                             as_u8(key.view()));
  return sealed;
}

// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
struct XchachaVector {
  Bytes plain =
      to_bytes(as_bytes("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
                        "future, sunscreen would be "
                        "it."));
  Bytes associated = hex("50515253c0c1c2c3c4c5c6c7");
  Key key = Key::copy_of(hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"));
  Bytes nonce = hex("404142434445464748494a4b4c4d4e4f5051525354555657");
  Bytes sealed =
      hex("bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae"
          "64c6708c54c216"
          "cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da976"
          "8812f615c68b13"
          "b52ec0875924c1c7987947deafd8780acf49");
};

class AeadTest : public ::testing::TestWithParam<AeadAlgorithm> {
 protected:
  static Bytes reference(const Key& key, std::uint64_t number, ByteView associated, ByteView plain) {
    return GetParam() == AeadAlgorithm::aes_256_gcm ? raw_gcm(key, nonce_bytes(12, number), associated, plain)
                                                    : raw_xchacha(key, nonce_bytes(24, number), associated, plain);
  }
};

INSTANTIATE_TEST_SUITE_P(Algorithms, AeadTest,
                         ::testing::Values(AeadAlgorithm::aes_256_gcm, AeadAlgorithm::xchacha20_poly1305),
                         [](const auto& param_info) { return name_of(param_info.param); });

TEST_P(AeadTest, AgreesWithItsLibraryAndOpensWhatItSealed) {
  const Key key = pattern_key(1);
  Aead aead(GetParam(), key);
  for (const std::size_t size : {0U, 1U, 15U, 16U, 17U, 64U, 4095U, 16384U}) {
    for (const std::size_t associated_size : {0U, 1U, 24U, 100U}) {
      for (const std::uint64_t number : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0x0102030405060708},
                                         std::numeric_limits<std::uint64_t>::max()}) {
        SCOPED_TRACE(::testing::Message() << size << " bytes, " << associated_size << " associated, number " << number);
        const Bytes plain = pattern(size, 2);
        const Bytes associated = pattern(associated_size, 3);
        const Bytes sealed = seal(aead, number, associated, plain);
        ASSERT_EQ(sealed, reference(key, number, associated, plain));
        Bytes opened(size, std::byte{0xee});
        ASSERT_TRUE(aead.open(number, associated, sealed, opened));
        ASSERT_EQ(opened, plain);
      }
    }
  }
}

TEST(Gcm, IsTheSameWithoutTheProcessorsHelp) {
  const Key key = pattern_key(1);
  const auto portable = detail::make_portable_gcm(key);
  const auto fast = make_gcm(key);
  for (const std::size_t size : {0U, 1U, 16U, 255U, 4096U, 16384U}) {
    const Bytes nonce = nonce_bytes(12, size);
    const Bytes plain = pattern(size, 2);
    const Bytes associated = pattern(32, 3);
    const Bytes expected = raw_gcm(key, nonce, associated, plain);
    for (Gcm* const one : {portable.get(), fast.get()}) {
      Bytes text = plain;  // in place
      Bytes tag(Gcm::kTagBytes);
      one->seal(nonce, associated, text, text, tag);
      EXPECT_TRUE(std::ranges::equal(text, ByteView(expected).first(size)));
      EXPECT_TRUE(std::ranges::equal(tag, ByteView(expected).last(Gcm::kTagBytes)));
      Bytes opened(size);
      EXPECT_TRUE(one->open(nonce, associated, text, tag, opened));
      EXPECT_EQ(opened, plain);
      tag.back() ^= std::byte{1};
      EXPECT_FALSE(one->open(nonce, associated, text, tag, opened));
      tag.back() ^= std::byte{1};
      EXPECT_TRUE(one->open(nonce, associated, text, tag, text));
      EXPECT_EQ(text, plain);
    }
  }
}

TEST_P(AeadTest, RefusesEveryFlippedBitAndGivesOutZeros) {
  Aead aead(GetParam(), pattern_key(1));
  const Bytes plain = pattern(40, 2);
  Bytes associated = pattern(24, 3);
  Bytes sealed = seal(aead, 7, associated, plain);
  const Bytes zeros(plain.size());
  const auto refused = [&] {
    Bytes opened(plain.size(), std::byte{0xee});
    return !aead.open(7, associated, sealed, opened) && opened == zeros;
  };
  for (Bytes* const part : {&sealed, &associated}) {
    for (std::size_t bit = 0; bit < part->size() * 8; ++bit) {
      (*part)[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
      EXPECT_TRUE(refused()) << "bit " << bit;
      (*part)[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    }
  }
  // A refusal leaves the object as good as it was.
  Bytes opened(plain.size());
  EXPECT_TRUE(aead.open(7, associated, sealed, opened));
  EXPECT_EQ(opened, plain);
}

TEST_P(AeadTest, RefusesAnotherNumberAndAnotherKey) {
  const Bytes plain = pattern(100, 2);
  Aead aead(GetParam(), pattern_key(1));
  Aead other(GetParam(), pattern_key(9));
  const Bytes sealed = seal(aead, 7, {}, plain);
  Bytes opened(plain.size());
  EXPECT_FALSE(aead.open(8, {}, sealed, opened));
  EXPECT_FALSE(aead.open(std::uint64_t{7} << 32U, {}, sealed, opened));
  EXPECT_FALSE(other.open(7, {}, sealed, opened));
  EXPECT_TRUE(aead.open(7, {}, sealed, opened));
}

TEST_P(AeadTest, KeepsItsKeyWhenTheCallersIsGone) {
  Key key = pattern_key(1);
  Aead aead(GetParam(), key);
  key.reset();
  EXPECT_EQ(seal(aead, 3, {}, pattern(10, 2)), reference(pattern_key(1), 3, {}, pattern(10, 2)));
}

// Cases 13 and 14 of McGrew and Viega, "The Galois/Counter Mode of Operation": those whose nonce is zero.
TEST(Aead, GivesThePublishedGcmVectors) {
  Aead aead(AeadAlgorithm::aes_256_gcm, Key::zeroed());
  EXPECT_EQ(seal(aead, 0, {}, {}), hex("530f8afbc74536b9a963b4f1c4cb738b"));
  EXPECT_EQ(seal(aead, 0, {}, Bytes(16)), hex("cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"));
}

// Case 16 of the same: its nonce is not of our form, so it vouches for what ours are compared with.
TEST(Aead, IsComparedWithATrueGcm) {
  const auto plain =
      hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b1"
          "6aedf5aa0de657ba63"
          "7b39");
  const Key key = Key::copy_of(hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"));
  EXPECT_EQ(raw_gcm(key, hex("cafebabefacedbaddecaf888"), hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), plain),
            hex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5"
                "f61e6393ba7a"
                "0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"));
}

TEST(Aead, IsComparedWithATrueXchacha) {
  const XchachaVector vector;
  EXPECT_EQ(raw_xchacha(vector.key, vector.nonce, vector.associated, vector.plain), vector.sealed);
}

TEST(AeadDeathTest, AbortsOnABufferOfTheWrongSize) {
  Aead aead(AeadAlgorithm::xchacha20_poly1305, Key::zeroed());
  Bytes out(20);
  EXPECT_DEATH(aead.seal(0, {}, Bytes(5), out), "a sealed block");
  EXPECT_DEATH((void)aead.open(0, {}, Bytes(20), out), "a sealed block");
}

TEST(DeriveKey, DiffersInEveryInput) {
  const Key one = pattern_key(1);
  const Key two = pattern_key(2);
  std::set<std::string> seen;
  std::size_t made = 0;
  for (const Key* key : {&one, &two}) {
    for (const std::string_view purpose : {"extent  ", "extent 1", "filekeys"}) {
      for (const std::string& salt : {std::string(), std::string(1, '\0'), std::string(2, '\0'), std::string("a"),
                                      std::string("aa"), std::string(200, 'a')}) {
        const Key derived = derive_key(*key, purpose, as_bytes(salt));
        seen.emplace(as_text(derived.view()));
        ++made;
        EXPECT_TRUE(equal_in_constant_time(derived.view(), derive_key(*key, purpose, as_bytes(salt)).view()));
      }
    }
  }
  EXPECT_EQ(seen.size(), made);
}

TEST(DeriveKey, IsKeyedBlake2bOfPurposeLengthAndSalt) {
  const Key key = pattern_key(1);
  Bytes input = to_bytes(as_bytes("extent 1"));
  const Bytes length = hex("0300000000000000");
  input.insert(input.end(), length.begin(), length.end());
  for (const char c : {'a', 'b', 'c'}) input.push_back(static_cast<std::byte>(c));
  Bytes expected(32);
  ASSERT_EQ(crypto_generichash(as_u8(MutableByteView(expected)), 32, as_u8(ByteView(input)), input.size(),
                               as_u8(key.view()), 32),
            0);
  EXPECT_TRUE(equal_in_constant_time(derive_key(key, "extent 1", as_bytes("abc")).view(), expected));
}

TEST(DeriveKeyDeathTest, AbortsOnAPurposeOfAnotherLength) {
  const Key key = pattern_key(1);
  EXPECT_DEATH((void)derive_key(key, "extent", {}), "8 characters");
}

TEST(SealSmall, OpensThePublishedVector) {
  const XchachaVector vector;
  Bytes sealed = vector.nonce;
  sealed.insert(sealed.end(), vector.sealed.begin(), vector.sealed.end());
  Bytes opened(vector.plain.size());
  ASSERT_TRUE(open_small(vector.key, vector.associated, sealed, opened));
  EXPECT_EQ(opened, vector.plain);
}

TEST(SealSmall, SealsUnderANewNonceEachTime) {
  const Key key = pattern_key(1);
  const Bytes plain = pattern(32, 2);
  const Bytes first = seal_small(key, as_bytes("file 7"), plain);
  const Bytes second = seal_small(key, as_bytes("file 7"), plain);
  EXPECT_EQ(first.size(), 24 + plain.size() + kAeadTagBytes);
  EXPECT_NE(to_bytes(ByteView(first).first(24)), to_bytes(ByteView(second).first(24)));
  Bytes opened(plain.size());
  for (const Bytes& sealed : {first, second}) {
    ASSERT_TRUE(open_small(key, as_bytes("file 7"), sealed, opened));
    EXPECT_EQ(opened, plain);
  }
}

TEST(SealSmall, RefusesEveryFlippedBitAndEveryOtherLength) {
  const Key key = pattern_key(1);
  const Bytes plain = pattern(32, 2);
  Bytes sealed = seal_small(key, as_bytes("file 7"), plain);
  Bytes opened(plain.size());
  for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    sealed[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    const auto result = open_small(key, as_bytes("file 7"), sealed, opened);
    ASSERT_FALSE(result) << "bit " << bit;
    EXPECT_EQ(result.error().code, Error::damaged);
    EXPECT_EQ(opened, Bytes(plain.size()));
    sealed[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
  }
  for (std::size_t size = 0; size < sealed.size(); ++size) {
    const auto result = open_small(key, as_bytes("file 7"), ByteView(sealed).first(size), opened);
    ASSERT_FALSE(result) << size << " bytes";
    EXPECT_EQ(result.error().code, Error::damaged);
  }
  EXPECT_FALSE(open_small(key, as_bytes("file 8"), sealed, opened));
  EXPECT_FALSE(open_small(pattern_key(2), as_bytes("file 7"), sealed, opened));
  EXPECT_TRUE(open_small(key, as_bytes("file 7"), sealed, opened));
}

}  // namespace
}  // namespace ephfs::core
