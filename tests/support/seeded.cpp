// SPDX-License-Identifier: Apache-2.0
#include "tests/support/seeded.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>

#include <sodium.h>

#include "core/check.hpp"

namespace ephfs::testing {
namespace {

constexpr std::uint64_t kFixedSeed = 20261121;

std::uint64_t split_mix(std::uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  std::uint64_t mixed = state;
  mixed = (mixed ^ (mixed >> 30U)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27U)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31U);
}

// What libsodium calls has no argument for a state, so the state is the process's.
struct Installed {
  std::mutex mutex;
  std::unique_ptr<Random> random;
};
Installed& installed() {
  static Installed only;
  return only;
}

void sodium_fill(void* out, std::size_t size) {
  const std::lock_guard lock(installed().mutex);
  installed().random->fill({static_cast<std::byte*>(out), size});
}

std::uint32_t sodium_number() {
  std::uint32_t number = 0;
  sodium_fill(&number, sizeof number);
  return number;
}

const char* sodium_name() {
  return "seeded";
}

randombytes_implementation seeded_implementation{sodium_name, sodium_number, nullptr, nullptr, sodium_fill, nullptr};

}  // namespace

std::uint64_t test_seed() {
  const char* text = std::getenv("EPHFS_SEED");
  if (text == nullptr || *text == '\0') return kFixedSeed;
  char* end = nullptr;
  const std::uint64_t seed = std::strtoull(text, &end, 0);
  EPHFS_CHECK(*end == '\0', "EPHFS_SEED is a number");
  return seed;
}

std::string describe_seed(std::uint64_t seed) {
  return "EPHFS_SEED=" + std::to_string(seed);
}

Random::Random(std::uint64_t seed) : seed_(seed), state_{} {
  for (auto& word : state_) word = split_mix(seed);
}

std::uint64_t Random::operator()() {
  const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const std::uint64_t shifted = state_[1] << 17U;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

std::uint64_t Random::below(std::uint64_t bound) {
  EPHFS_CHECK(bound > 0, "there is a number to choose");
  // Numbers under 2^64 mod bound would make the small remainders likelier.
  const std::uint64_t reject_below = (0 - bound) % bound;
  for (;;) {
    const std::uint64_t number = (*this)();
    if (number >= reject_below) return number % bound;
  }
}

void Random::fill(core::MutableByteView out) {
  while (!out.empty()) {
    const std::uint64_t number = (*this)();
    const std::size_t size = std::min(out.size(), sizeof number);
    std::memcpy(out.data(), &number, size);
    out = out.subspan(size);
  }
}

core::Bytes Random::bytes(std::size_t size) {
  core::Bytes out(size);
  fill(out);
  return out;
}

SeededRandomness::SeededRandomness(std::uint64_t seed) {
  EPHFS_CHECK(sodium_init() >= 0, "libsodium starts");
  EPHFS_CHECK(!installed().random, "one seeded randomness at a time");
  installed().random = std::make_unique<Random>(seed);
  randombytes_set_implementation(&seeded_implementation);
}

SeededRandomness::~SeededRandomness() {
  randombytes_set_implementation(&randombytes_sysrandom_implementation);
  installed().random.reset();
}

}  // namespace ephfs::testing
