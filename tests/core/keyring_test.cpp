// SPDX-License-Identifier: Apache-2.0
#include "core/keyring.hpp"

#include <fstream>
#include <iterator>

#include <gtest/gtest.h>
#include <sodium.h>
#include <sys/stat.h>

#include "tests/support/temp_dir.hpp"

namespace ephfs::core {
namespace {

class KeyringTest : public ::testing::Test {
 protected:
  [[nodiscard]] Bytes content() const {
    std::ifstream in(path_, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    return to_bytes(as_bytes(text));
  }
  void put(ByteView bytes, unsigned mode = 0600) const {
    std::filesystem::remove(path_);
    std::ofstream(path_, std::ios::binary) << as_text(bytes);
    EXPECT_EQ(::chmod(path_.c_str(), static_cast<mode_t>(mode)), 0);
  }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory_.path()), {}));
  }

  const ephfs::testing::TempDir directory_;
  const std::filesystem::path path_ = directory_ / "keys";
};

SecretText words(std::string_view text) {
  return SecretText::copy_of(as_bytes(text));
}

void expect_same(const VolumeKeys& a, const VolumeKeys& b) {
  EXPECT_EQ(a.volume, b.volume);
  EXPECT_TRUE(equal_in_constant_time(a.master.view(), b.master.view()));
  EXPECT_TRUE(equal_in_constant_time(a.owner.view(), b.owner.view()));
}

void append(Bytes& out, ByteView part) {
  out.insert(out.end(), part.begin(), part.end());
}
void append_number(Bytes& out, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i) & 0xffU));
}
void append_sum(Bytes& out) {
  append(out, sha256(out).view());
}
// The same file with its sum put right.
Bytes with_new_sum(Bytes file) {
  file.erase(file.end() - 32, file.end());
  append_sum(file);
  return file;
}

struct Limits {
  std::uint64_t operations = crypto_pwhash_OPSLIMIT_MIN;
  std::uint64_t memory = crypto_pwhash_MEMLIMIT_MIN;
};

// A sealed key file from docs/formats.md alone, that asks for as little work as there is.
Bytes cheap_sealed_file(std::string_view passphrase, Limits limits = {}) {
  Bytes file = to_bytes(as_bytes("EPHFSKEY"));
  append_number(file, 1, 2);
  append_number(file, 1, 2);
  append(file, Bytes(16, std::byte{0x11}));
  append_number(file, limits.operations, 8);
  append_number(file, limits.memory, 8);
  const Bytes salt(16, std::byte{0x44});
  append(file, salt);
  Bytes key(32);
  EXPECT_EQ(crypto_pwhash(as_u8(MutableByteView(key)), 32, passphrase.data(), passphrase.size(), as_u8(ByteView(salt)),
                          crypto_pwhash_OPSLIMIT_MIN, crypto_pwhash_MEMLIMIT_MIN, crypto_pwhash_ALG_ARGON2ID13),
            0);
  Bytes keys(32, std::byte{0x22});
  append(keys, Bytes(32, std::byte{0x33}));
  const Bytes nonce(24, std::byte{0x55});
  Bytes box(keys.size() + 16);
  crypto_aead_xchacha20poly1305_ietf_encrypt(as_u8(MutableByteView(box)), nullptr, as_u8(ByteView(keys)), keys.size(),
                                             as_u8(ByteView(file)), file.size(), nullptr, as_u8(ByteView(nonce)),
                                             as_u8(ByteView(key)));
  append(file, nonce);
  append(file, box);
  append_sum(file);
  return file;
}

Bytes plain_file() {
  Bytes file = to_bytes(as_bytes("EPHFSKEY"));
  append_number(file, 1, 2);
  append_number(file, 0, 2);
  append(file, Bytes(16, std::byte{0x11}));
  append(file, Bytes(32, std::byte{0x22}));
  append(file, Bytes(32, std::byte{0x33}));
  append_sum(file);
  return file;
}

VolumeKeys keys_of_both_files() {
  return {*VolumeId::from_bytes(Bytes(16, std::byte{0x11})), Key::copy_of(Bytes(32, std::byte{0x22})),
          SigningSeed::copy_of(Bytes(32, std::byte{0x33}))};
}

TEST_F(KeyringTest, MakesAndReadsAPlainFile) {
  const auto made = create_volume_keys(path_, nullptr);
  ASSERT_TRUE(made) << made.error();
  EXPECT_FALSE(made->volume.is_zero());
  EXPECT_FALSE(equal_in_constant_time(made->master.view(), made->owner.view()));
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  EXPECT_EQ(status.st_nlink, 1U);
  EXPECT_EQ(files(), 1U);
  const auto read = open_volume_keys(path_, nullptr);
  ASSERT_TRUE(read) << read.error();
  expect_same(*made, *read);
  EXPECT_FALSE(*needs_passphrase(path_));
}

TEST_F(KeyringTest, MakesOtherKeysEachTimeAndOverwritesNone) {
  const auto first = create_volume_keys(path_, nullptr);
  ASSERT_TRUE(first);
  const Bytes before = content();
  const auto again = create_volume_keys(path_, nullptr);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Error::exists);
  EXPECT_EQ(content(), before);
  EXPECT_EQ(files(), 1U);
  const auto second = create_volume_keys(directory_ / "others", nullptr);
  ASSERT_TRUE(second);
  EXPECT_NE(first->volume, second->volume);
  EXPECT_FALSE(equal_in_constant_time(first->master.view(), second->master.view()));
}

// The one test at full cost: three runs of Argon2id.
TEST_F(KeyringTest, SealsUnderAPassphrase) {
  const auto passphrase = words("correct horse battery staple");
  const auto made = create_volume_keys(path_, &passphrase);
  ASSERT_TRUE(made) << made.error();
  EXPECT_EQ(as_text(content()).find(as_text(made->master.view())), std::string_view::npos);
  EXPECT_EQ(as_text(content()).find(as_text(made->owner.view())), std::string_view::npos);
  EXPECT_TRUE(*needs_passphrase(path_));
  const auto read = open_volume_keys(path_, &passphrase);
  ASSERT_TRUE(read) << read.error();
  expect_same(*made, *read);
  const auto wrong = words("correct horse battery stable");
  EXPECT_EQ(open_volume_keys(path_, &wrong).error().code, Error::bad_passphrase);
  EXPECT_EQ(open_volume_keys(path_, nullptr).error().code, Error::bad_passphrase);
}

TEST_F(KeyringTest, ReadsFilesMadeFromTheGrammar) {
  put(plain_file());
  const auto plain = open_volume_keys(path_, nullptr);
  ASSERT_TRUE(plain) << plain.error();
  expect_same(*plain, keys_of_both_files());

  put(cheap_sealed_file("open sesame"));
  const auto passphrase = words("open sesame");
  const auto sealed = open_volume_keys(path_, &passphrase);
  ASSERT_TRUE(sealed) << sealed.error();
  expect_same(*sealed, keys_of_both_files());
  const auto wrong = words("open sesamf");
  EXPECT_EQ(open_volume_keys(path_, &wrong).error().code, Error::bad_passphrase);
  EXPECT_NE(open_volume_keys(path_, &wrong).error().message().find(path_.string()), std::string::npos);
}

TEST_F(KeyringTest, RefusesAnEmptyPassphraseAndOneThatIsNotNeeded) {
  const auto empty = words("");
  EXPECT_EQ(create_volume_keys(path_, &empty).error().code, Error::invalid_argument);
  EXPECT_EQ(files(), 0U);
  put(plain_file());
  const auto passphrase = words("open sesame");
  EXPECT_EQ(open_volume_keys(path_, &passphrase).error().code, Error::invalid_argument);
}

TEST_F(KeyringTest, RefusesEveryOtherLength) {
  const auto passphrase = words("open sesame");
  for (const Bytes& file : {plain_file(), cheap_sealed_file("open sesame")}) {
    for (std::size_t size = 0; size < file.size(); ++size) {
      put(ByteView(file).first(size));
      const auto read = open_volume_keys(path_, &passphrase);
      ASSERT_FALSE(read) << size;
      EXPECT_EQ(read.error().code, Error::damaged) << size;
      EXPECT_NE(read.error().detail.find(path_.string()), std::string::npos);
      EXPECT_EQ(needs_passphrase(path_).error().code, Error::damaged);
    }
    for (const std::size_t more : {1U, 64U, 1000U}) {
      Bytes longer = file;
      longer.resize(file.size() + more);
      put(longer);
      EXPECT_EQ(open_volume_keys(path_, &passphrase).error().code, Error::damaged);
      longer.resize(std::min<std::size_t>(longer.size(), 250));
      put(with_new_sum(longer));
      EXPECT_EQ(open_volume_keys(path_, &passphrase).error().code, Error::damaged);
    }
  }
}

TEST_F(KeyringTest, RefusesEveryFlippedBit) {
  const auto passphrase = words("open sesame");
  for (Bytes file : {plain_file(), cheap_sealed_file("open sesame")}) {
    for (std::size_t bit = 0; bit < file.size() * 8; ++bit) {
      file[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
      put(file);
      const auto read = open_volume_keys(path_, &passphrase);
      ASSERT_FALSE(read) << "bit " << bit;
      const bool in_version = bit / 8 == 8 || bit / 8 == 9;
      EXPECT_EQ(read.error().code, in_version ? Error::version : Error::damaged) << "bit " << bit;
      file[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    }
  }
}

TEST_F(KeyringTest, RefusesFieldsOutOfRangeBehindAGoodSum) {
  const auto passphrase = words("open sesame");
  for (const Limits limits : {Limits{0, 8192}, Limits{17, 8192}, Limits{1, 8191}, Limits{1, (1U << 30U) + 1},
                              Limits{std::uint64_t{1} << 63U, std::uint64_t{1} << 63U}}) {
    put(cheap_sealed_file("open sesame", limits));
    EXPECT_EQ(open_volume_keys(path_, &passphrase).error().code, Error::damaged);
  }
  Bytes no_volume = plain_file();
  std::fill_n(no_volume.begin() + 12, 16, std::byte{0});
  put(with_new_sum(no_volume));
  EXPECT_EQ(open_volume_keys(path_, nullptr).error().code, Error::damaged);
  Bytes other_sealing = plain_file();
  other_sealing[10] = std::byte{2};
  put(with_new_sum(other_sealing));
  EXPECT_EQ(open_volume_keys(path_, nullptr).error().code, Error::damaged);
  // A limit that the passphrase was not sealed with is caught by the box.
  Bytes other_limit = cheap_sealed_file("open sesame");
  other_limit[28] = std::byte{2};
  put(with_new_sum(other_limit));
  EXPECT_EQ(open_volume_keys(path_, &passphrase).error().code, Error::bad_passphrase);
}

TEST_F(KeyringTest, RefusesAFileOpenToOthers) {
  for (const unsigned mode : {0644U, 0640U, 0660U, 0602U, 0601U}) {
    put(plain_file(), mode);
    EXPECT_EQ(open_volume_keys(path_, nullptr).error().code, Error::access_denied) << std::oct << mode;
    EXPECT_EQ(needs_passphrase(path_).error().code, Error::access_denied) << std::oct << mode;
    EXPECT_EQ(load_or_create_node_seed(path_).error().code, Error::access_denied) << std::oct << mode;
  }
  put(plain_file(), 0400);
  EXPECT_TRUE(open_volume_keys(path_, nullptr));
}

TEST_F(KeyringTest, RefusesWhatIsNotThereOrNotAFile) {
  EXPECT_EQ(open_volume_keys(path_, nullptr).error().code, Error::not_found);
  EXPECT_EQ(create_volume_keys(directory_ / "none/keys", nullptr).error().code, Error::not_found);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(open_volume_keys(path_, nullptr).error().code, Error::damaged);
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  EXPECT_FALSE(open_volume_keys(path_, nullptr));
}

TEST_F(KeyringTest, ANodeKeepsItsSeed) {
  const auto made = load_or_create_node_seed(path_);
  ASSERT_TRUE(made) << made.error();
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  const auto read = load_or_create_node_seed(path_);
  ASSERT_TRUE(read) << read.error();
  EXPECT_TRUE(equal_in_constant_time(made->view(), read->view()));
  EXPECT_EQ(Signer(*made).public_key(), Signer(*read).public_key());

  Bytes file = content();
  EXPECT_EQ(as_text(ByteView(file).subspan(12, 32)), as_text(made->view()));
  for (std::size_t size = 0; size < file.size(); ++size) {
    put(ByteView(file).first(size));
    EXPECT_EQ(load_or_create_node_seed(path_).error().code, Error::damaged) << size;
  }
  for (std::size_t bit = 0; bit < file.size() * 8; ++bit) {
    file[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    put(file);
    EXPECT_FALSE(load_or_create_node_seed(path_)) << "bit " << bit;
    file[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
  }
  // One kind of key file is not taken for another.
  put(plain_file());
  EXPECT_EQ(load_or_create_node_seed(path_).error().code, Error::damaged);
  put(file);
  EXPECT_EQ(open_volume_keys(path_, nullptr).error().code, Error::damaged);
}

}  // namespace
}  // namespace ephfs::core
