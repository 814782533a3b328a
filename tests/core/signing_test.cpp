// SPDX-License-Identifier: Apache-2.0
#include "core/signing.hpp"

#include <gtest/gtest.h>
#include <sodium.h>

namespace ephfs::core {
namespace {

Bytes hex(std::string_view digits) {
  Bytes bytes(digits.size() / 2);
  EXPECT_TRUE(from_hex(digits, bytes));
  return bytes;
}

struct Rfc8032Vector {
  std::string_view seed;
  std::string_view key;
  std::string_view message;
  std::string_view signature;
};

// RFC 8032, section 7.1: tests 1, 2 and 3.
constexpr Rfc8032Vector kVectors[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f"
     "0595bbe24655141"
     "438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2ea"
     "eb4302aeeb00d29"
     "1612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e"
     "9716ed28dc027be"
     "ceea1ec40a"},
};

// RFC 8032, section 7.1, "TEST 1024". Its message has a zero byte behind 60 others, so it is one of ours: a
// (strange) context, and the rest.
constexpr Rfc8032Vector kLongVector = {
    "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
    "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
    "08b8b2b733424243760fe426a4b54908632110a66c2f6591eabd3345e3e4eb98fa6e264bf09efe12ee50f8f54e9f77b1e355f6c5"
    "0544e23fb143"
    "3ddf73be84d879de7c0046dc4996d9e773f4bc9efe5738829adb26c81b37c93a1b270b20329d658675fc6ea534e0810a4432826b"
    "f58c941efb65"
    "d57a338bbd2e26640f89ffbc1a858efcb8550ee3a5e1998bd177e93a7363c344fe6b199ee5d02e82d522c4feba15452f80288a82"
    "1a579116ec6d"
    "ad2b3b310da903401aa62100ab5d1a36553e06203b33890cc9b832f79ef80560ccb9a39ce767967ed628c6ad573cb116dbefefd7"
    "5499da96bd68"
    "a8a97b928a8bbc103b6621fcde2beca1231d206be6cd9ec7aff6f6c94fcd7204ed3455c68c83f4a41da4af2b74ef5c53f1d8ac70"
    "bdcb7ed185ce"
    "81bd84359d44254d95629e9855a94a7c1958d1f8ada5d0532ed8a5aa3fb2d17ba70eb6248e594e1a2297acbbb39d502f1a8c6eb6"
    "f1ce22b3de1a"
    "1f40cc24554119a831a9aad6079cad88425de6bde1a9187ebb6092cf67bf2b13fd65f27088d78b7e883c8759d2c4f5c65adb7553"
    "878ad575f9fa"
    "d878e80a0c9ba63bcbcc2732e69485bbc9c90bfbd62481d9089beccf80cfe2df16a2cf65bd92dd597b0707e0917af48bbb75fed4"
    "13d238f5555a"
    "7a569d80c3414a8d0859dc65a46128bab27af87a71314f318c782b23ebfe808b82b0ce26401d2e22f04d83d1255dc51addd3b75a"
    "2b1ae0784504"
    "df543af8969be3ea7082ff7fc9888c144da2af58429ec96031dbcad3dad9af0dcbaaaf268cb8fcffead94f3c7ca495e056a9b47a"
    "cdb751fb73e6"
    "66c6c655ade8297297d07ad1ba5e43f1bca32301651339e22904cc8c42f58c30c04aafdb038dda0847dd988dcda6f3bfd15c4b4c"
    "4525004aa06e"
    "eff8ca61783aacec57fb3d1f92b0fe2fd1a85f6724517b65e614ad6808d6f6ee34dff7310fdc82aebfd904b01e1dc54b2927094b"
    "2db68d6f903b"
    "68401adebf5a7e08d78ff4ef5d63653a65040cf9bfd4aca7984a74d37145986780fc0b16ac451649de6188a7dbdf191f64b5fc5e"
    "2ab47b57f7f7"
    "276cd419c17a3ca8e1b939ae49e488acba6b965610b5480109c8b17b80e1b7b750dfc7598d5d5011fd2dcc5600a32ef5b52a1ecc"
    "820e308aa342"
    "721aac0943bf6686b64b2579376504ccc493d97e6aed3fb0f9cd71a43dd497f01f17c0e2cb3797aa2a2f256656168e6c496afc5f"
    "b93246f6b111"
    "6398a346f1a641f3b041e989f7914f90cc2c7fff357876e506b50d334ba77c225bc307ba537152f3f1610e4eafe595f6d9d90d11"
    "faa933a15ef1"
    "369546868a7f3a45a96768d40fd9d03412c091c6315cf4fde7cb68606937380db2eaaa707b4c4185c32eddcdd306705e4dc1ffc8"
    "72eeee475a64"
    "dfac86aba41c0618983f8741c5ef68d3a101e8a3b8cac60c905c15fc910840b94c00a0b9d0",
    "0aab4c900501b3e24d7cdf4663326a3a87df5e4843b2cbdb67cbf6e460fec350aa5371b1508f9f4528ecea23c436d94b5e8fcd4f"
    "681e30a6ac00a9"
    "704a188a03"};

Signature raw_sign(const Bytes& secret_key, ByteView message) {
  Signature signature;
  EXPECT_EQ(crypto_sign_detached(as_u8(signature.mutable_view()), nullptr, as_u8(message), message.size(),
                                 as_u8(ByteView(secret_key))),
            0);
  return signature;
}

TEST(Signing, HasTheKeysOfRfc8032AndSignsContextZeroMessage) {
  for (const auto& vector : kVectors) {
    SCOPED_TRACE(vector.key);
    const Bytes seed = hex(vector.seed);
    const Signer signer(SigningSeed::copy_of(seed));
    EXPECT_EQ(signer.public_key().hex(), vector.key);

    // The context in front keeps these from being given directly; they vouch for the library that ours is
    // compared to.
    Bytes secret_key = seed;
    const Bytes public_key = hex(vector.key);
    secret_key.insert(secret_key.end(), public_key.begin(), public_key.end());
    const Bytes message = hex(vector.message);
    EXPECT_EQ(raw_sign(secret_key, message).hex(), vector.signature);

    Bytes framed = to_bytes(as_bytes(std::string_view("kind\0", 5)));
    framed.insert(framed.end(), message.begin(), message.end());
    const Signature signature = signer.sign("kind", message);
    EXPECT_EQ(signature, raw_sign(secret_key, framed));
    EXPECT_TRUE(verify_signature(signer.public_key(), "kind", message, signature));
  }
}

TEST(Signing, GivesTheLongVectorOfRfc8032) {
  const Signer signer(SigningSeed::copy_of(hex(kLongVector.seed)));
  ASSERT_EQ(signer.public_key().hex(), kLongVector.key);
  const Bytes message = hex(kLongVector.message);
  ASSERT_EQ(message.size(), 1023U);
  const auto zero = static_cast<std::size_t>(std::find(message.begin(), message.end(), std::byte{0}) - message.begin());
  ASSERT_LT(zero, message.size());
  const std::string_view context = as_text(ByteView(message).first(zero));
  const ByteView rest = ByteView(message).subspan(zero + 1);
  const Signature signature = signer.sign(context, rest);
  EXPECT_EQ(signature.hex(), kLongVector.signature);
  EXPECT_TRUE(verify_signature(signer.public_key(), context, rest, signature));
}

TEST(Signing, RefusesEveryFlippedBit) {
  const Signer signer(SigningSeed::copy_of(Bytes(32, std::byte{3})));
  Bytes message = to_bytes(as_bytes("a promise"));
  Signature signature = signer.sign("kind", message);
  PublicKey key = signer.public_key();
  for (const MutableByteView part : {MutableByteView(message), signature.mutable_view(), key.mutable_view()}) {
    for (std::size_t bit = 0; bit < part.size() * 8; ++bit) {
      part[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
      EXPECT_FALSE(verify_signature(key, "kind", message, signature)) << "bit " << bit;
      part[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    }
  }
  EXPECT_TRUE(verify_signature(key, "kind", message, signature));
}

TEST(Signing, OneKindNeverPassesForAnother) {
  const Signer signer(SigningSeed::copy_of(Bytes(32, std::byte{3})));
  const Bytes message = to_bytes(as_bytes("ab"));
  const Signature signature = signer.sign("kind", message);
  EXPECT_FALSE(verify_signature(signer.public_key(), "kine", message, signature));
  EXPECT_FALSE(verify_signature(signer.public_key(), "kinda", as_bytes("b"), signature));
  EXPECT_FALSE(verify_signature(signer.public_key(), "kin", as_bytes("dab"), signature));
  const Signer other(SigningSeed::copy_of(Bytes(32, std::byte{4})));
  EXPECT_FALSE(verify_signature(other.public_key(), "kind", message, signature));
}

TEST(Signing, RefusesAKeyOfSmallOrder) {
  // The neutral element as a key and as R, with S = 0, would fit any message.
  PublicKey neutral;
  neutral.mutable_view()[0] = std::byte{1};
  Signature signature;
  signature.mutable_view()[0] = std::byte{1};
  EXPECT_FALSE(verify_signature(neutral, "kind", as_bytes("anything"), signature));
}

TEST(SigningDeathTest, AbortsOnAContextThatIsNoName) {
  const Signer signer(SigningSeed::copy_of(Bytes(32, std::byte{3})));
  EXPECT_DEATH((void)signer.sign("", {}), "a context is a name");
  EXPECT_DEATH((void)signer.sign(std::string_view("a\0b", 3), {}), "a context is a name");
}

TEST(Signing, NodeIdIsTheSha256OfTheKey) {
  // FIPS 180-4's example of one block.
  EXPECT_EQ(sha256(as_bytes("abc")).hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256({}).hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const Signer signer(SigningSeed::copy_of(Bytes(32, std::byte{3})));
  EXPECT_EQ(node_id_of(signer.public_key()).hex(), sha256(signer.public_key().view()).hex());
}

}  // namespace
}  // namespace ephfs::core
