// SPDX-License-Identifier: Apache-2.0
#include "core/config.hpp"

#include <limits>

#include <gtest/gtest.h>

#include "core/files.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::core::testing {
namespace {

const std::string kIdA(64, 'a');
const std::string kIdB(64, 'b');

class ConfigTest : public ::testing::Test {
 protected:
  Result<ConfigFile> read(const std::string& text) {
    EXPECT_TRUE(replace_file(path_, as_bytes(text), 0600));
    return read_config(path_, {"ttl", "profile", "cache_size"});
  }

  ephfs::testing::TempDir dir_;
  std::filesystem::path path_ = dir_ / "ephfs.yaml";
};

TEST_F(ConfigTest, ReadsSettingsAsTextWithTheirLines) {
  const auto config = read("# scratch\nttl: 1d\n\nprofile: 4+2   # wide\ncache_size: \"10G\"\n");
  ASSERT_TRUE(config) << config.error();
  EXPECT_EQ(config->path, path_);
  ASSERT_EQ(config->settings.size(), 3U);
  EXPECT_EQ(config->settings.at("ttl").value, "1d");
  EXPECT_EQ(config->settings.at("ttl").line, 2);
  EXPECT_EQ(config->settings.at("profile").value, "4+2");
  EXPECT_EQ(config->settings.at("profile").line, 4);
  EXPECT_EQ(config->settings.at("cache_size").value, "10G");
}

TEST_F(ConfigTest, ReadsPeers) {
  const auto config = read("peers:\n  - {id: " + kIdA +
                           ", address: \"[::1]:7400\"}\n  - address: host.example:7400\n    id: " + kIdB + "\n");
  ASSERT_TRUE(config) << config.error();
  ASSERT_EQ(config->peers.size(), 2U);
  EXPECT_EQ(config->peers[0].id.hex(), kIdA);
  EXPECT_EQ(config->peers[0].address, "[::1]:7400");
  EXPECT_EQ(config->peers[1].id.hex(), kIdB);
  EXPECT_EQ(config->peers[1].address, "host.example:7400");
}

TEST_F(ConfigTest, AnEmptyFileSaysNothing) {
  for (const char* text : {"", "\n", "# only words\n", "---\n", "{}\n", "peers: []\n"}) {
    const auto config = read(text);
    ASSERT_TRUE(config) << text << config.error();
    EXPECT_TRUE(config->settings.empty());
    EXPECT_TRUE(config->peers.empty());
  }
}

TEST_F(ConfigTest, AMistakeNamesFileLineAndKey) {
  const std::string peer = "peers:\n  - id: " + kIdA + "\n    address: h:1\n";
  const std::pair<std::string, std::string> bad[] = {
      {"tll: 1d\n", "1: unknown key 'tll'"},
      {"ttl: 1d\n\nTTL: 1d\n", "3: unknown key 'TTL'"},
      {"ttl: 1d\nttl: 2d\n", "2: repeated key 'ttl'"},
      {"ttl: 1d\npeers: []\npeers: []\n", "3: repeated key 'peers'"},
      {"ttl:\n", "1: key 'ttl' has no value"},
      {"ttl: ~\n", "1: key 'ttl' has no value"},
      {"profile: 4+2\nttl: [1d]\n", "2: key 'ttl' takes one value"},
      {"ttl: {a: 1d}\n", "1: key 'ttl' takes one value"},
      {"- ttl\n", "1: expected lines of 'key: value'"},
      {"just words\n", "1: expected lines of 'key: value'"},
      {"[ttl]: 1d\n", "1: a key is a word"},
      {"ttl: 1d\n---\nttl: 2d\n", "a second YAML document"},
      {"peers: here\n", "1: key 'peers' takes a list"},
      {"peers:\n", "1: key 'peers' takes a list"},
      {"peers:\n  - host:1\n", "2: a peer is {id: HEX, address: HOST:PORT}"},
      {"peers:\n  - id: " + kIdA + "\n", "2: a peer needs the key 'address'"},
      {"peers:\n  - address: h:1\n", "2: a peer needs the key 'id'"},
      {"peers:\n  - {id: abc, address: \"h:1\"}\n", "2: 'abc' is not a node's id"},
      {"peers:\n  - id: " + kIdA + "\n    address: h\n", "3: 'h' is not HOST:PORT"},
      {"peers:\n  - id: " + kIdA + "\n    address: h:0\n", "3: 'h:0' is not HOST:PORT"},
      {"peers:\n  - id: " + kIdA + "\n    adress: h:1\n", "3: unknown key 'adress' of a peer"},
      {"peers:\n  - id: " + kIdA + "\n    id: " + kIdA + "\n", "3: repeated key 'id'"},
      {"peers:\n  - id: [x]\n    address: h:1\n", "2: key 'id' takes one value"},
      {peer + "  - id: " + kIdA + "\n    address: h:2\n", "4: peer " + kIdA + " is named twice"},
      {"ttl: 1d\nprofile: [4+2\n", "end of sequence flow not found"},
      {"ttl: \"1d\nprofile: 4+2\n", "illegal document indicator"},
      {"ttl: *nowhere\n", "1: "},
      {"a: b: c\n", "1: "},
      {"\tttl: 1d\n", "1: "},
  };
  for (const auto& [text, expected] : bad) {
    const auto config = read(text);
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().code, Error::invalid_argument) << text;
    const std::string& detail = config.error().detail;
    EXPECT_TRUE(detail.starts_with(path_.string() + ":")) << detail;
    EXPECT_NE(detail.find(expected), std::string::npos) << text << detail;
    EXPECT_EQ(detail.find('\n'), std::string::npos) << detail;
  }
}

TEST_F(ConfigTest, NestingWithoutEndIsAMistakeLikeAnyOther) {
  const auto config = read(std::string(100'000, '['));
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, Error::invalid_argument);
}

TEST_F(ConfigTest, AFileThatCannotBeReadSaysWhy) {
  EXPECT_EQ(read_config(dir_ / "missing", {}).error().code, Error::not_found);
  EXPECT_EQ(read("ttl: " + std::string(2 << 20, 'x')).error().code, Error::invalid_argument);
}

TEST(Address, IsHostAndPort) {
  struct Good {
    const char* text;
    const char* host;
    std::uint16_t port;
  };
  for (const Good& good : {Good{"host:1", "host", 1}, Good{"127.0.0.1:7400", "127.0.0.1", 7400},
                           Good{"a-b.example.:65535", "a-b.example.", 65535}, Good{"[::1]:80", "::1", 80},
                           Good{"[fe80::1%eth0]:80", "fe80::1%eth0", 80}}) {
    const auto address = parse_address(good.text);
    ASSERT_TRUE(address) << good.text << address.error();
    EXPECT_EQ(address->host, good.host);
    EXPECT_EQ(address->port, good.port);
  }
  EXPECT_EQ(parse_address("h:0", true)->port, 0);
}

TEST(Address, RefusesTheRest) {
  const std::string long_name(254, 'a');
  for (const std::string& bad : {std::string(),
                                 std::string("host"),
                                 std::string("host:"),
                                 std::string(":80"),
                                 std::string("host:0"),
                                 std::string("host:65536"),
                                 std::string("host:-1"),
                                 std::string("host:+1"),
                                 std::string("host:80x"),
                                 std::string("host: 80"),
                                 std::string("ho st:80"),
                                 std::string("::1:80"),
                                 std::string("[::1]"),
                                 std::string("[]:80"),
                                 std::string("[host]:80"),
                                 std::string("[127.0.0.1]:80"),
                                 std::string("[::1]x:80"),
                                 std::string("[::1%]:80"),
                                 std::string("[::1%a/b]:80"),
                                 std::string("ho/st:80"),
                                 long_name + ":80",
                                 std::string("ho\0st:80", 8)}) {
    const auto address = parse_address(bad);
    ASSERT_FALSE(address) << bad;
    EXPECT_EQ(address.error().code, Error::invalid_argument);
  }
}

TEST(Size, IsReadAndWrittenInPowersOf1024) {
  const std::pair<const char*, std::uint64_t> good[] = {{"0", 0},
                                                        {"1", 1},
                                                        {"64K", 64 << 10},
                                                        {"512M", 512 << 20},
                                                        {"10G", 10ULL << 30},
                                                        {"1T", 1ULL << 40},
                                                        {"18446744073709551615", 18446744073709551615ULL},
                                                        {"16777215T", 16777215ULL << 40}};
  for (const auto& [text, bytes] : good) {
    ASSERT_TRUE(parse_size(text)) << text;
    EXPECT_EQ(*parse_size(text), bytes) << text;
    EXPECT_EQ(format_size(bytes), text);
  }
  EXPECT_EQ(*parse_size("10g"), 10ULL << 30);
  EXPECT_EQ(format_size(1536ULL << 20), "1536M");
  EXPECT_EQ(format_size(1025), "1025");
}

TEST(Size, RefusesTheRest) {
  for (const char* bad : {"", "G", "-1", "+1", "1.5G", "10GB", "10 G", " 1", "1 ", "10P", "0x10", "16777216T",
                          "18446744073709551616", "18014398509481984K"}) {
    ASSERT_FALSE(parse_size(bad)) << bad;
    EXPECT_EQ(parse_size(bad).error().code, Error::invalid_argument);
  }
}

}  // namespace
}  // namespace ephfs::core::testing
