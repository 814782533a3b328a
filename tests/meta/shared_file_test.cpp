// SPDX-License-Identifier: Apache-2.0
#include "meta/shared_file.hpp"

#include <gtest/gtest.h>

#include "core/aead.hpp"
#include "tests/support/seeded.hpp"

namespace ephfs::meta::testing {
namespace {

using ephfs::testing::Random;

class SharedFileTest : public ::testing::Test {
 protected:
  SharedFile file(const std::string& name = "report.pdf") {
    SharedFile made;
    made.name = name;
    made.mode = 0640;
    made.modified.ns = -1'234'567'890'123;
    made.manifest = random_.bytes(3000);
    made.key = core::Key::copy_of(random_.bytes(core::Key::kSize));
    return made;
  }
  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
  core::ShareSecret secret_ = core::random_key();
  core::ShareId id_ = core::random_id<core::ShareId>();
};

TEST_F(SharedFileTest, ComesBackAsItWas) {
  const SharedFile made = file();
  const auto sealed = seal_shared_file(made, secret_, id_);
  ASSERT_TRUE(sealed) << sealed.error();
  const auto opened = open_shared_file(*sealed, secret_, id_);
  ASSERT_TRUE(opened) << opened.error();
  EXPECT_EQ(opened->name, made.name);
  EXPECT_EQ(opened->mode, made.mode);
  EXPECT_EQ(opened->modified, made.modified);
  EXPECT_EQ(opened->manifest, made.manifest);
  EXPECT_TRUE(core::equal_in_constant_time(opened->key.view(), made.key.view()));
}

TEST_F(SharedFileTest, OpensWithItsOwnSecretAndIdOnly) {
  const auto sealed = seal_shared_file(file(), secret_, id_).value();
  const auto other_id = core::random_id<core::ShareId>();
  EXPECT_EQ(open_shared_file(sealed, core::random_key(), id_).error().code, core::Error::damaged);
  EXPECT_EQ(open_shared_file(sealed, secret_, other_id).error().code, core::Error::damaged);
  // What is derived from one link opens nothing of another: not its content, not the key in it, not its token.
  const auto second_secret = core::random_key();
  const auto second = seal_shared_file(file(), second_secret, other_id).value();
  EXPECT_FALSE(open_shared_file(second, secret_, id_));
  EXPECT_FALSE(open_shared_file(second, secret_, other_id));
  EXPECT_NE(core::share_token(secret_, id_), core::share_token(second_secret, id_));
  EXPECT_NE(core::share_token(secret_, id_), core::share_token(secret_, other_id));
  const core::Hash token = core::share_token(secret_, id_);
  EXPECT_FALSE(open_shared_file(sealed, core::Key::copy_of(token.view()), id_)) << "a node's token opens nothing";
}

TEST_F(SharedFileTest, FindsEveryChangedByte) {
  auto sealed = seal_shared_file(file(), secret_, id_).value();
  for (std::size_t at = 0; at < sealed.size(); ++at) {
    sealed[at] ^= std::byte{1};
    const auto opened = open_shared_file(sealed, secret_, id_);
    ASSERT_FALSE(opened) << "byte " << at;
    EXPECT_EQ(opened.error().code, core::Error::damaged);
    sealed[at] ^= std::byte{1};
  }
  for (std::size_t size = 0; size < sealed.size(); size += 7) {
    EXPECT_FALSE(open_shared_file(core::ByteView(sealed).first(size), secret_, id_)) << size << " bytes";
  }
}

TEST_F(SharedFileTest, TakesOnlyNamesThatAre) {
  for (const std::string& name : {std::string(), std::string("."), std::string(".."), std::string("a/b"),
                                  std::string("a\0b", 3), std::string(256, 'x')}) {
    EXPECT_FALSE(seal_shared_file(file(name), secret_, id_));
  }
  EXPECT_TRUE(seal_shared_file(file(std::string(255, 'x')), secret_, id_));
  SharedFile large = file();
  large.manifest.resize(core::kShareBytesMax);
  EXPECT_EQ(seal_shared_file(large, secret_, id_).error().code, core::Error::file_too_large);
}

// Somebody who knows the secret, and seals what he likes.
TEST_F(SharedFileTest, ChecksWhatASealHolds) {
  const auto seal = [&](core::Bytes plain) {
    core::Bytes sealed(plain.size() + core::kAeadTagBytes);
    core::Aead(core::AeadAlgorithm::xchacha20_poly1305, core::share_content_key(secret_, id_))
        .seal(0, id_.view(), plain, sealed);
    return open_shared_file(sealed, secret_, id_);
  };
  core::Bytes plain(200);
  plain[0] = std::byte{9};
  EXPECT_EQ(seal(plain).error().code, core::Error::version);
  plain[0] = std::byte{1};
  EXPECT_EQ(seal(plain).error().code, core::Error::damaged);  // no key in it
  const auto wrapped = core::seal_small(core::share_wrapping_key(secret_, id_), id_.view(), core::random_key().view());
  std::ranges::copy(wrapped, plain.begin() + 13);
  plain[13 + wrapped.size()] = std::byte{255};
  EXPECT_EQ(seal(plain).error().code, core::Error::damaged);  // a name past the end
  plain[13 + wrapped.size()] = std::byte{3};
  EXPECT_EQ(seal(plain).error().code, core::Error::damaged);  // zeros in the name
  std::ranges::copy(core::as_bytes("a.b"), plain.begin() + 14 + static_cast<std::ptrdiff_t>(wrapped.size()));
  EXPECT_TRUE(seal(plain));
}

}  // namespace
}  // namespace ephfs::meta::testing
