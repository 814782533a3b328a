// SPDX-License-Identifier: Apache-2.0
// The provider beside OpenSSL's own AES-256-GCM: the same bytes, as TLS asks for them and in TLS itself, and a refusal
// of whatever TLS does not do.
#include "net/gcm_provider.hpp"

#include <array>
#include <memory>

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "net/tls_identity.hpp"
#include "tests/net/net_rig.hpp"

namespace ephfs::net::testing {
namespace {

constexpr std::size_t kTagBytes = 16;
constexpr std::size_t kNonceBytes = 12;

using Library = OpensslHandle<OSSL_LIB_CTX, OSSL_LIB_CTX_free>;
using Algorithm = OpensslHandle<EVP_CIPHER, EVP_CIPHER_free>;
using Context = OpensslHandle<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>;

/// One direction, driven as a record layer drives it: the key once, then nonce, head, body, end, tag of each record.
class Direction {
 public:
  Direction(const EVP_CIPHER* algorithm, int encrypting, core::ByteView key)
      : context_(EVP_CIPHER_CTX_new()), encrypting_(encrypting) {
    EXPECT_EQ(EVP_CipherInit_ex(get(), algorithm, nullptr, nullptr, nullptr, encrypting), 1);
    EXPECT_EQ(EVP_CIPHER_CTX_ctrl(get(), EVP_CTRL_AEAD_SET_IVLEN, kNonceBytes, nullptr), 1);
    EXPECT_EQ(EVP_CipherInit_ex(get(), nullptr, nullptr, core::as_u8(key), nullptr, -1), 1);
  }
  [[nodiscard]] EVP_CIPHER_CTX* get() { return context_.get(); }

  bool begin(core::ByteView nonce) {
    return EVP_CipherInit_ex(get(), nullptr, nullptr, nullptr, core::as_u8(nonce), encrypting_) == 1;
  }
  bool associate(core::ByteView bytes) {
    int count = 0;
    return EVP_CipherUpdate(get(), nullptr, &count, core::as_u8(bytes), static_cast<int>(bytes.size())) == 1;
  }
  // In place.
  bool pass(core::MutableByteView bytes) {
    int count = 0;
    return EVP_CipherUpdate(get(), core::as_u8(bytes), &count, core::as_u8(core::ByteView(bytes)),
                            static_cast<int>(bytes.size())) == 1 &&
           count == static_cast<int>(bytes.size());
  }
  bool finish() {
    int count = 0;
    std::array<unsigned char, kTagBytes> nothing{};
    return EVP_CipherFinal_ex(get(), nothing.data(), &count) == 1 && count == 0;
  }
  bool set_tag(core::MutableByteView tag) {
    return EVP_CIPHER_CTX_ctrl(get(), EVP_CTRL_AEAD_SET_TAG, static_cast<int>(tag.size()), tag.data()) == 1;
  }
  Bytes tag() {
    Bytes tag(kTagBytes);
    const bool given = EVP_CIPHER_CTX_ctrl(get(), EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag.data()) == 1;
    return given ? tag : Bytes();
  }

 private:
  const Context context_;
  const int encrypting_;
};

class GcmProviderTest : public ::testing::Test {
 protected:
  Direction sealing(const Algorithm& algorithm) { return {algorithm.get(), 1, key_}; }
  Direction opening(const Algorithm& algorithm) { return {algorithm.get(), 0, key_}; }

  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
  const Library library_{OSSL_LIB_CTX_new()};
  const ProviderHandle default_{OSSL_PROVIDER_load(library_.get(), "default")};
  const ProviderHandle loaded_ = load_gcm_provider(library_.get());
  // By the name that TLS looks for.
  const Algorithm ours_{EVP_CIPHER_fetch(library_.get(), "id-aes256-GCM", kPreferGcmProvider)};
  const Algorithm theirs_{EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr)};
  const Bytes key_ = random_.bytes(32);
};

TEST_F(GcmProviderTest, IsChosenWhereItIsPreferredAndNowhereElse) {
  ASSERT_NE(loaded_, nullptr);
  ASSERT_NE(ours_, nullptr);
  EXPECT_STREQ(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(ours_.get())), kGcmProviderName);
  EXPECT_STREQ(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(theirs_.get())), "default");
  const Algorithm other(EVP_CIPHER_fetch(library_.get(), "AES-128-GCM", kPreferGcmProvider));
  ASSERT_NE(other, nullptr) << "all else is still there";
  EXPECT_EQ(EVP_CIPHER_get_key_length(ours_.get()), EVP_CIPHER_get_key_length(theirs_.get()));
  EXPECT_EQ(EVP_CIPHER_get_iv_length(ours_.get()), EVP_CIPHER_get_iv_length(theirs_.get()));
  EXPECT_EQ(EVP_CIPHER_get_block_size(ours_.get()), EVP_CIPHER_get_block_size(theirs_.get()));
  EXPECT_EQ(EVP_CIPHER_get_mode(ours_.get()), EVP_CIPHER_get_mode(theirs_.get()));
}

TEST_F(GcmProviderTest, GivesWhatOpensslGives) {
  auto our_sealing = sealing(ours_);
  auto their_sealing = sealing(theirs_);
  auto our_opening = opening(ours_);
  auto their_opening = opening(theirs_);
  for (const std::size_t size : {0U, 1U, 15U, 16U, 17U, 255U, 4096U, 16385U}) {
    SCOPED_TRACE(size);
    const Bytes nonce = random_.bytes(kNonceBytes);
    const Bytes head = random_.bytes(5);
    const Bytes plain = random_.bytes(size);
    Bytes ours = plain;
    Bytes theirs = plain;
    for (auto [direction, text] : {std::pair{&our_sealing, &ours}, std::pair{&their_sealing, &theirs}}) {
      ASSERT_TRUE(direction->begin(nonce) && direction->associate(head));
      ASSERT_TRUE(size == 0 || direction->pass(*text));
      ASSERT_TRUE(direction->finish());
    }
    ASSERT_EQ(ours, theirs);
    Bytes tag = our_sealing.tag();
    ASSERT_EQ(tag, their_sealing.tag());
    for (auto* const direction : {&our_opening, &their_opening}) {
      Bytes text = ours;
      ASSERT_TRUE(direction->begin(nonce) && direction->set_tag(tag) && direction->associate(head));
      ASSERT_TRUE(size == 0 || direction->pass(text));
      ASSERT_TRUE(direction->finish());
      EXPECT_EQ(text, plain);
    }
  }
}

TEST_F(GcmProviderTest, RefusesWhatWasChanged) {
  auto seal = sealing(ours_);
  auto open = opening(ours_);
  const Bytes nonce = random_.bytes(kNonceBytes);
  const Bytes head = random_.bytes(5);
  Bytes sealed = random_.bytes(100);
  ASSERT_TRUE(seal.begin(nonce) && seal.associate(head) && seal.pass(sealed) && seal.finish());
  const Bytes tag = seal.tag();
  const auto opens = [&](Bytes of_nonce, Bytes of_head, Bytes text, Bytes of_tag) {
    return open.begin(of_nonce) && open.set_tag(of_tag) && open.associate(of_head) && open.pass(text) && open.finish();
  };
  const auto flipped = [this](Bytes bytes) {
    bytes[random_.below(bytes.size())] ^= static_cast<std::byte>(1U << random_.below(8));
    return bytes;
  };
  EXPECT_TRUE(opens(nonce, head, sealed, tag));
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(opens(flipped(nonce), head, sealed, tag));
    EXPECT_FALSE(opens(nonce, flipped(head), sealed, tag));
    EXPECT_FALSE(opens(nonce, head, flipped(sealed), tag));
    EXPECT_FALSE(opens(nonce, head, sealed, flipped(tag)));
  }
  Bytes spoilt = flipped(sealed);
  Bytes right_tag = tag;
  ASSERT_TRUE(open.begin(nonce) && open.set_tag(right_tag) && open.associate(head));
  EXPECT_FALSE(open.pass(spoilt));
  EXPECT_FALSE(open.finish()) << "whoever does not look at the one answer sees it in the other";
  EXPECT_TRUE(opens(nonce, head, sealed, tag)) << "a refusal leaves it as good as it was";
}

TEST_F(GcmProviderTest, RefusesWhatIsCalledOutOfTurn) {
  const Bytes nonce = random_.bytes(kNonceBytes);
  Bytes text = random_.bytes(50);
  Bytes tag = random_.bytes(kTagBytes);
  auto seal = sealing(ours_);
  EXPECT_FALSE(seal.pass(text)) << "no nonce";
  ASSERT_TRUE(seal.begin(nonce));
  EXPECT_TRUE(seal.tag().empty()) << "nothing is sealed yet";
  EXPECT_FALSE(seal.set_tag(tag)) << "a tag is made, not given";
  ASSERT_TRUE(seal.pass(text));
  EXPECT_FALSE(seal.pass(text)) << "a nonce serves once";
  EXPECT_FALSE(seal.associate(tag)) << "associated data comes first";
  const Bytes much(65);
  ASSERT_TRUE(seal.begin(nonce));
  EXPECT_FALSE(seal.associate(much));
  EXPECT_EQ(EVP_CIPHER_CTX_ctrl(seal.get(), EVP_CTRL_AEAD_SET_IVLEN, 16, nullptr), 0) << "another length of nonces";

  auto open = opening(ours_);
  ASSERT_TRUE(open.begin(nonce));
  EXPECT_FALSE(open.pass(text)) << "without a tag to compare with nothing is opened";
  ASSERT_TRUE(open.begin(nonce));
  EXPECT_FALSE(open.finish()) << "an empty message has a tag, too";
  EXPECT_TRUE(open.tag().empty());

  const Context keyless(EVP_CIPHER_CTX_new());
  int count = 0;
  ASSERT_EQ(EVP_EncryptInit_ex(keyless.get(), ours_.get(), nullptr, nullptr, core::as_u8(core::ByteView(nonce))), 1);
  EXPECT_EQ(EVP_EncryptUpdate(keyless.get(), core::as_u8(core::MutableByteView(text)), &count,
                              core::as_u8(core::ByteView(text)), static_cast<int>(text.size())),
            0);
}

/// Two ends of TLS that are joined by memory: whatever one writes, the test carries to the other.
class JoinedEnds {
 public:
  JoinedEnds(SSL_CTX* client, SSL_CTX* server) : client_(make(client)), server_(make(server)) {
    SSL_set_connect_state(client_.get());
    SSL_set_accept_state(server_.get());
  }
  [[nodiscard]] SSL* client() { return client_.get(); }
  [[nodiscard]] SSL* server() { return server_.get(); }

  bool shake_hands() {
    for (int turn = 0; turn < 10; ++turn) {
      const int one = SSL_do_handshake(client());
      carry(client(), server());
      const int other = SSL_do_handshake(server());
      carry(server(), client());
      if (one == 1 && other == 1) return true;
    }
    return false;
  }
  /// What `to` reads of `bytes` that `from` writes; `spoil` is given what is on its way.
  static Bytes send(SSL* from, SSL* to, const Bytes& bytes, const std::function<void(Bytes&)>& spoil = {}) {
    Bytes got;
    std::size_t count = 0;
    EXPECT_EQ(SSL_write_ex(from, bytes.data(), bytes.size(), &count), 1);
    carry(from, to, spoil);
    std::array<std::byte, 5000> part{};
    while (SSL_read_ex(to, part.data(), part.size(), &count) == 1) {
      got.insert(got.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(count));
    }
    return got;
  }

 private:
  using End = OpensslHandle<SSL, SSL_free>;
  static End make(SSL_CTX* context) {
    End end(SSL_new(context));
    SSL_set_bio(end.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    return end;
  }
  static void carry(SSL* from, SSL* to, const std::function<void(Bytes&)>& spoil = {}) {
    Bytes bytes(BIO_ctrl_pending(SSL_get_wbio(from)));
    if (bytes.empty()) return;
    EXPECT_EQ(BIO_read(SSL_get_wbio(from), bytes.data(), static_cast<int>(bytes.size())),
              static_cast<int>(bytes.size()));
    if (spoil) spoil(bytes);
    EXPECT_EQ(BIO_write(SSL_get_rbio(to), bytes.data(), static_cast<int>(bytes.size())),
              static_cast<int>(bytes.size()));
  }

  const End client_;
  const End server_;
};

class ProviderInTlsTest : public ::testing::Test {
 protected:
  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
  const Identity identity_ = make_identity(random_);
  const std::shared_ptr<boost::asio::ssl::context> ours_ = make_tls_context(identity_.seed);
};

/// OpenSSL as it is, with the certificate of one of ours.
OpensslHandle<SSL_CTX, SSL_CTX_free> plain_context(SSL_CTX* ours, const Identity& identity) {
  OpensslHandle<SSL_CTX, SSL_CTX_free> plain(SSL_CTX_new(TLS_method()));
  unsigned char* der = nullptr;
  const int size = i2d_X509(SSL_CTX_get0_certificate(ours), &der);
  const OpensslHandle<EVP_PKEY, EVP_PKEY_free> key(EVP_PKEY_new_raw_private_key(
      EVP_PKEY_ED25519, nullptr, core::as_u8(identity.seed.view()), identity.seed.view().size()));
  EXPECT_EQ(SSL_CTX_use_certificate_ASN1(plain.get(), size, der), 1);
  EXPECT_EQ(SSL_CTX_use_PrivateKey(plain.get(), key.get()), 1);
  OPENSSL_free(der);
  return plain;
}

TEST_F(ProviderInTlsTest, SpeaksWithOpensslsOwn) {
  const auto plain = plain_context(ours_->native_handle(), identity_);
  for (const bool we_call : {true, false}) {
    JoinedEnds ends(we_call ? ours_->native_handle() : plain.get(), we_call ? plain.get() : ours_->native_handle());
    ASSERT_TRUE(ends.shake_hands());
    EXPECT_STREQ(SSL_get_cipher_name(ends.client()), "TLS_AES_256_GCM_SHA384");
    for (const std::size_t size : {1U, 100U, 16384U, 100'000U}) {
      const Bytes bytes = random_.bytes(size);
      EXPECT_EQ(JoinedEnds::send(ends.client(), ends.server(), bytes), bytes);
      EXPECT_EQ(JoinedEnds::send(ends.server(), ends.client(), bytes), bytes);
    }
    // New keys while the connection stands.
    ASSERT_EQ(SSL_key_update(ends.client(), SSL_KEY_UPDATE_REQUESTED), 1);
    const Bytes bytes = random_.bytes(20'000);
    EXPECT_EQ(JoinedEnds::send(ends.client(), ends.server(), bytes), bytes);
    EXPECT_EQ(JoinedEnds::send(ends.server(), ends.client(), bytes), bytes);
  }
}

TEST_F(ProviderInTlsTest, ARecordThatWasChangedEndsTheConnection) {
  JoinedEnds ends(ours_->native_handle(), ours_->native_handle());
  ASSERT_TRUE(ends.shake_hands());
  const Bytes bytes = random_.bytes(1000);
  EXPECT_EQ(JoinedEnds::send(ends.client(), ends.server(), bytes), bytes);
  const auto spoil = [this](Bytes& record) { record[5 + random_.below(record.size() - 5)] ^= std::byte{4}; };
  EXPECT_TRUE(JoinedEnds::send(ends.client(), ends.server(), bytes, spoil).empty());
  EXPECT_TRUE(JoinedEnds::send(ends.client(), ends.server(), bytes).empty());
}

}  // namespace
}  // namespace ephfs::net::testing
