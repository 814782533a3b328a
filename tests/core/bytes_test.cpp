// SPDX-License-Identifier: Apache-2.0
#include "core/bytes.hpp"

#include <array>
#include <unordered_set>

#include <gtest/gtest.h>

#include "core/ids.hpp"

namespace ephfs::core::testing {
namespace {

TEST(Hex, WritesLowerCaseAndReadsBoth) {
  const Bytes bytes{std::byte{0x00}, std::byte{0x7f}, std::byte{0x80}, std::byte{0xff}};
  EXPECT_EQ(to_hex(bytes), "007f80ff");
  EXPECT_EQ(to_hex({}), "");
  Bytes back(4);
  EXPECT_TRUE(from_hex("007F80fF", back));
  EXPECT_EQ(back, bytes);
  EXPECT_TRUE(from_hex("", {}));
}

TEST(Hex, RefusesAnotherLengthAndWhatIsNoDigit) {
  Bytes out(2);
  for (const char* bad : {"", "0", "00", "000", "00000", "000000", "00g0", "0x00", "00 0", "-100", "+100"}) {
    EXPECT_FALSE(from_hex(bad, out)) << bad;
  }
}

TEST(Hex, EveryByteComesBack) {
  Bytes all(256);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i);
  Bytes back(256);
  ASSERT_TRUE(from_hex(to_hex(all), back));
  EXPECT_EQ(back, all);
}

TEST(BufferTest, IsAlignedMovesAndShrinks) {
  Buffer buffer = Buffer::copy_of(as_bytes("stripe"));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0U);
  buffer.shrink(3);
  EXPECT_EQ(as_text(buffer.view()), "str");
  const std::byte* before = buffer.data();
  const Buffer moved = std::move(buffer);
  EXPECT_EQ(moved.data(), before);
  EXPECT_TRUE(Buffer().empty());
  EXPECT_TRUE(Buffer::copy_of({}).empty());
}

TEST(BufferDeathTest, DoesNotGrow) {
  Buffer buffer(3);
  EXPECT_DEATH(buffer.shrink(4), "a buffer only shrinks");
}

TEST(SharedBytesTest, ASliceKeepsItsOwnerAlive) {
  SharedBytes slice;
  {
    const SharedBytes whole = SharedBytes::copy_of(as_bytes("ciphertext"));
    slice = whole.slice(6, 4);
  }
  EXPECT_EQ(as_text(slice.view()), "text");
  EXPECT_EQ(slice.slice(4, 0).size(), 0U);
}

TEST(SharedBytesDeathTest, ASliceDoesNotReachBeyondItsBytes) {
  const SharedBytes whole = SharedBytes::copy_of(as_bytes("abc"));
  EXPECT_DEATH((void)whole.slice(2, 2), "a slice lies within its bytes");
  EXPECT_DEATH((void)whole.slice(2, std::numeric_limits<std::size_t>::max()), "a slice lies within its bytes");
}

TEST(Ids, ReadOnlyTheirExactSize) {
  const std::string hex(32, 'a');
  const auto id = FileId::from_hex(hex);
  ASSERT_TRUE(id);
  EXPECT_EQ(id->hex(), hex);
  EXPECT_EQ(FileId::from_bytes(id->view()), *id);
  EXPECT_EQ(FileId::from_bytes(as_bytes(id->text())), *id);
  EXPECT_FALSE(FileId::from_hex(hex + "aa"));
  EXPECT_FALSE(FileId::from_hex(hex.substr(2)));
  EXPECT_FALSE(FileId::from_hex(std::string(32, 'x')));
  EXPECT_FALSE(FileId::from_bytes(id->view().first(15)));
}

TEST(Ids, AreOrderedAsBytesAndHashed) {
  const auto low = *FileId::from_hex("00ff" + std::string(28, '0'));
  const auto high = *FileId::from_hex("80" + std::string(30, '0'));
  EXPECT_LT(low, high);
  EXPECT_TRUE(FileId{}.is_zero());
  EXPECT_FALSE(low.is_zero());
  const std::unordered_set<FileId> set{low, high, low};
  EXPECT_EQ(set.size(), 2U);
  const std::unordered_set<InodeNumber> numbers{kRootInode, InodeNumber{1}, InodeNumber{2}};
  EXPECT_EQ(numbers.size(), 2U);
}

}  // namespace
}  // namespace ephfs::core::testing
