// SPDX-License-Identifier: Apache-2.0
#include "net/token.hpp"

#include <gtest/gtest.h>

#include "tests/support/seeded.hpp"

namespace ephfs::net::testing {
namespace {

using core::Error;
using ephfs::testing::Random;

Token make_token(Random& random, std::vector<std::string> addresses) {
  Token token;
  random.fill(token.pool.mutable_view());
  random.fill(token.inviter.mutable_view());
  random.fill(token.secret.mutable_view());
  token.addresses = std::move(addresses);
  return token;
}

TEST(TokenTest, ReadsBackWhatItWrote) {
  Random random;
  EPHFS_TRACE_SEED(random);
  const std::vector<std::vector<std::string>> lists{
      {"127.0.0.1:7400"},
      {"[2001:db8::1]:65535", "node.example.org:1", "10.0.0.1:7400"},
      std::vector<std::string>(kTokenAddressesMax, "a-rather-long-name.of-some-host.example.org:7400")};
  for (const auto& list : lists) {
    const Token token = make_token(random, list);
    const auto text = format_token(token);
    ASSERT_TRUE(text) << text.error();
    EXPECT_TRUE(text->starts_with(kTokenPrefix));
    const auto read = parse_token(*text);
    ASSERT_TRUE(read) << read.error();
    EXPECT_EQ(*read, token);
    const auto pasted = parse_token("  " + *text + "\r\n");
    EXPECT_TRUE(pasted);
  }
}

TEST(TokenTest, RefusesEveryChangedCharacter) {
  Random random;
  EPHFS_TRACE_SEED(random);
  const std::string text = *format_token(make_token(random, {"10.1.2.3:7400"}));
  constexpr std::string_view kAll = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_ =+/";
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (const char other : kAll) {
      if (other == text[at]) continue;
      // A blank at either end is not part of the word.
      if (other == ' ' && (at == 0 || at + 1 == text.size())) continue;
      std::string changed = text;
      changed[at] = other;
      const auto read = parse_token(changed);
      ASSERT_FALSE(read) << "at " << at << ": " << other;
      EXPECT_EQ(read.error().code, Error::invalid_argument);
    }
  }
}

TEST(TokenTest, RefusesEveryCutAndAddition) {
  Random random;
  EPHFS_TRACE_SEED(random);
  const std::string text = *format_token(make_token(random, {"10.1.2.3:7400"}));
  for (std::size_t size = 0; size < text.size(); ++size) EXPECT_FALSE(parse_token(text.substr(0, size))) << size;
  EXPECT_FALSE(parse_token(text + "A"));
  EXPECT_FALSE(parse_token(text + text));
  std::string endless(kTokenPrefix);
  endless.append(100'000, 'A');
  EXPECT_FALSE(parse_token(endless));
}

TEST(TokenTest, SaysWhatIsWrongButNeverTheSecret) {
  Random random;
  EPHFS_TRACE_SEED(random);
  const std::string text = *format_token(make_token(random, {"10.1.2.3:7400"}));
  std::string changed = text;
  char& middle = changed[changed.size() / 2];
  middle = middle == 'A' ? 'Q' : 'A';
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "no invitation"},
      {"hello", "begins with eph-invite-"},
      {text + "!", "no place in one"},
      {changed, "changed"},
  };
  for (const auto& [given, said] : cases) {
    const auto read = parse_token(given);
    ASSERT_FALSE(read);
    EXPECT_NE(read.error().detail.find(said), std::string::npos) << read.error();
    EXPECT_EQ(read.error().detail.find(text.substr(kTokenPrefix.size(), 20)), std::string::npos);
  }
}

TEST(TokenTest, RefusesAddressesThatAreNone) {
  Random random;
  EPHFS_TRACE_SEED(random);
  EXPECT_FALSE(format_token(make_token(random, {})));
  EXPECT_FALSE(format_token(make_token(random, {"no port"})));
  EXPECT_FALSE(format_token(make_token(random, std::vector<std::string>(kTokenAddressesMax + 1, "a:1"))));
}

}  // namespace
}  // namespace ephfs::net::testing
