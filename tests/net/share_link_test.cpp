// SPDX-License-Identifier: Apache-2.0
#include "net/share_link.hpp"

#include <gtest/gtest.h>

#include "net/word.hpp"
#include "tests/support/seeded.hpp"

namespace ephfs::net {
namespace {

using ephfs::testing::Random;

class ShareLinkTest : public ::testing::Test {
 protected:
  ShareLink link(std::size_t holders = 2) {
    ShareLink made;
    random_.fill(made.pool.mutable_view());
    random_.fill(made.share.mutable_view());
    made.secret = core::random_key();
    made.deadline = core::Deadline(core::Instant{1'800'000'000'000});
    for (std::size_t i = 0; i < holders; ++i) {
      Member holder{{}, "node" + std::to_string(i) + ".example.org:7400"};
      random_.fill(holder.id.mutable_view());
      made.holders.push_back(std::move(holder));
    }
    return made;
  }
  Random random_;
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, ephfs::testing::describe_seed(random_.seed())};
};

TEST_F(ShareLinkTest, ComesBackAsItWas) {
  for (std::size_t holders = 1; holders <= kShareHoldersMax; ++holders) {
    const ShareLink made = link(holders);
    const auto text = format_share_link(made);
    ASSERT_TRUE(text) << text.error();
    EXPECT_TRUE(text->starts_with("eph://"));
    const auto read = parse_share_link("  " + *text + "\n");
    ASSERT_TRUE(read) << read.error();
    EXPECT_EQ(read->pool, made.pool);
    EXPECT_EQ(read->share, made.share);
    EXPECT_EQ(read->deadline, made.deadline);
    EXPECT_EQ(read->holders, made.holders);
    EXPECT_TRUE(core::equal_in_constant_time(read->secret.view(), made.secret.view()));
  }
}

TEST_F(ShareLinkTest, IsNotMadeOfWhatNobodyCanUse) {
  EXPECT_FALSE(format_share_link(link(0)));
  EXPECT_FALSE(format_share_link(link(kShareHoldersMax + 1)));
  ShareLink never = link();
  never.deadline = core::Deadline::never();
  EXPECT_FALSE(format_share_link(never));
  ShareLink silent = link();
  silent.holders[1].address.clear();
  EXPECT_FALSE(format_share_link(silent));
}

TEST_F(ShareLinkTest, FindsEveryChangedCharacter) {
  const std::string text = format_share_link(link()).value();
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (const char other : {'A', 'z', '-', '/', '\x80'}) {
      std::string changed = text;
      if (changed[at] == other) continue;
      changed[at] = other;
      const auto read = parse_share_link(changed);
      ASSERT_FALSE(read) << "character " << at;
      EXPECT_EQ(read.error().code, core::Error::invalid_argument);
      EXPECT_EQ(read.error().detail.find(changed.substr(8, 20)), std::string::npos) << "a failure shows the secret";
    }
    EXPECT_FALSE(parse_share_link(text.substr(0, at)));
  }
  EXPECT_FALSE(parse_share_link(text + "A"));
  EXPECT_FALSE(parse_share_link(""));
  EXPECT_FALSE(parse_share_link("eph://"));
  EXPECT_FALSE(parse_share_link("eph-invite-" + text.substr(6)));
  EXPECT_FALSE(parse_share_link(std::string(1'000'000, 'A')));
}

// With a good checksum: whoever makes up a link can compute one.
TEST_F(ShareLinkTest, ReadsNothingPastItsContent) {
  const WordKind kind{"a link", kShareLinkPrefix, 4096};
  const auto content = decode_word(kind, format_share_link(link()).value()).value();
  EXPECT_TRUE(parse_share_link(encode_word(kind, content)));
  for (std::size_t size = 1; size < content.size(); ++size) {
    EXPECT_FALSE(parse_share_link(encode_word(kind, core::ByteView(content).first(size)))) << size;
  }
  auto longer = content;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(parse_share_link(encode_word(kind, longer)));
  auto other = content;
  other[0] = std::byte{2};
  EXPECT_EQ(parse_share_link(encode_word(kind, other)).error().code, core::Error::version);
  for (int i = 0; i < 2000; ++i) {
    auto noise = content;
    for (int flips = 0; flips < 4; ++flips)
      noise[1 + random_.below(noise.size() - 1)] ^= static_cast<std::byte>(1 + random_.below(255));
    const auto read = parse_share_link(encode_word(kind, noise));
    if (!read) continue;
    EXPECT_TRUE(format_share_link(*read)) << "what was read can be written";
  }
}

}  // namespace
}  // namespace ephfs::net
