// SPDX-License-Identifier: Apache-2.0
// What is left in memory of bytes that were let go.
#include "fs/plaintext.hpp"

#include <algorithm>
#include <utility>

#include <gtest/gtest.h>

#include "fs/options.hpp"

namespace ephfs::fs {
namespace {

constexpr std::byte kWritten{0x5a};

PlainBytes written(std::size_t size) {
  PlainBytes bytes = PlainBytes::of_size(size);
  std::ranges::fill(bytes.mutable_view(), kWritten);
  return bytes;
}

TEST(PlainBytesTest, AStripesMemoryIsUsedAgainAndWipedBefore) {
  const std::byte* where = nullptr;
  {
    const PlainBytes bytes = written(kStripeBytes);
    where = bytes.view().data();
  }
  const PlainBytes again = PlainBytes::of_size(kStripeBytes);
  EXPECT_EQ(again.view().data(), where);
  EXPECT_EQ(std::ranges::count(again.view(), kWritten), 0);
}

TEST(PlainBytesTest, WhatWasCutOffIsWipedToo) {
  {
    PlainBytes bytes = written(kStripeBytes);
    bytes.shrink(1);
  }
  const PlainBytes again = PlainBytes::of_size(kStripeBytes);
  EXPECT_EQ(std::ranges::count(again.view(), kWritten), 0);
}

TEST(PlainBytesTest, GrowingAndMovingKeepWhatIsThere) {
  PlainBytes bytes = written(100);
  bytes.reserve(kStripeBytes);
  PlainBytes moved = std::move(bytes);
  EXPECT_EQ(moved.size(), 100U);
  EXPECT_EQ(moved.capacity(), kStripeBytes);
  EXPECT_EQ(std::ranges::count(moved.view(), kWritten), 100);
  moved = written(7);
  EXPECT_EQ(moved.size(), 7U);
  EXPECT_EQ(std::ranges::count(moved.view(), kWritten), 7);
}

}  // namespace
}  // namespace ephfs::fs
