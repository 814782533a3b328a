// SPDX-License-Identifier: Apache-2.0
// Without libFuzzer: every sample whole, cut at every place (short ones), and under some thousands of seeded mutations.
#include <cstdio>

#include "tests/fuzz/fuzz_target.hpp"
#include "tests/support/seeded.hpp"

namespace {

using namespace ephfs;

constexpr int kRounds = 4000;
constexpr std::size_t kCutEverywhereMax = 2048;

void mutate(core::Bytes& bytes, testing::Random& random) {
  const std::size_t at = bytes.empty() ? 0 : random.below(bytes.size());
  const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
  switch (random.below(5)) {
    case 0:
      if (!bytes.empty()) *place ^= static_cast<std::byte>(1U << random.below(8));
      break;
    case 1:
      if (!bytes.empty()) *place = static_cast<std::byte>(random.chance(2) ? 0xff : random.below(256));
      break;
    case 2:
      bytes.insert(place, static_cast<std::byte>(random.below(256)));
      break;
    case 3:
      bytes.erase(place, place + static_cast<std::ptrdiff_t>(random.below(bytes.size() - at + 1)));
      break;
    default: {
      const std::size_t length = random.below(std::min<std::size_t>(bytes.size() - at, 32) + 1);
      const core::Bytes part(place, place + static_cast<std::ptrdiff_t>(length));
      bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(random.below(bytes.size() + 1)), part.begin(),
                   part.end());
    }
  }
}

}  // namespace

int main() {
  testing::Random random;
  std::printf("%s\n", testing::describe_seed(random.seed()).c_str());
  const auto samples = fuzz::samples();
  for (const auto& sample : samples) {
    fuzz::try_bytes(sample);
    if (sample.size() > kCutEverywhereMax) continue;
    for (std::size_t length = 0; length < sample.size(); ++length)
      fuzz::try_bytes(core::ByteView(sample).first(length));
  }
  for (int round = 0; round < kRounds; ++round) {
    core::Bytes bytes = samples[random.below(samples.size())];
    for (std::uint64_t count = random.between(1, 6); count > 0; --count) mutate(bytes, random);
    fuzz::try_bytes(bytes);
  }
  return 0;
}
