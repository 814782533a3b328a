// SPDX-License-Identifier: Apache-2.0
// The primitives, one core: bytes per second of encryption, hashing and coding, and signatures per second.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include "core/aead.hpp"
#include "core/erasure.hpp"
#include "core/guarded_clock.hpp"
#include "core/leaf_hashing.hpp"
#include "core/merkle.hpp"
#include "core/secret.hpp"
#include "core/signing.hpp"

namespace {

using namespace ephfs::core;

constexpr std::size_t kBlock = 4 << 10;
constexpr std::size_t kStripe = 4 << 20;

Key random_key() {
  Key key = Key::zeroed();
  fill_random(key.mutable_view());
  return key;
}

void count_bytes(benchmark::State& state, std::size_t each) {
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(each));
}

void seal(benchmark::State& state) {
  const auto algorithm = static_cast<AeadAlgorithm>(state.range(0));
  const Key key = random_key();
  Aead aead(algorithm, key);
  Buffer plain(kBlock);
  Buffer sealed(kBlock + kAeadTagBytes);
  const std::byte associated[32]{};
  std::uint64_t number = 0;
  for (auto _ : state) aead.seal(number++, associated, std::as_const(plain).view(), sealed.view());
  count_bytes(state, kBlock);
}
BENCHMARK(seal)->ArgName("algorithm")->Arg(1)->Arg(2);

void open_sealed(benchmark::State& state) {
  const Key key = random_key();
  Aead aead(AeadAlgorithm::aes_256_gcm, key);
  Buffer plain(kBlock);
  Buffer sealed(kBlock + kAeadTagBytes);
  const std::byte associated[32]{};
  aead.seal(7, associated, std::as_const(plain).view(), sealed.view());
  for (auto _ : state) {
    if (!aead.open(7, associated, std::as_const(sealed).view(), plain.view())) state.SkipWithError("does not open");
  }
  count_bytes(state, kBlock);
}
BENCHMARK(open_sealed);

void guarded_now(benchmark::State& state) {
  SystemClock system;
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("ephfs-clock-bench." + std::to_string(::getpid()));
  auto clock = GuardedClock::open(path, system, BootId{});
  std::filesystem::remove(path);
  if (!clock) return state.SkipWithError("no clock file");
  for (auto _ : state) benchmark::DoNotOptimize((*clock)->now());
}
BENCHMARK(guarded_now);

void leaves_singly(benchmark::State& state) {
  const Buffer data(1 << 20);
  for (auto _ : state) benchmark::DoNotOptimize(detail::hash_leaves_singly(data.view()));
  count_bytes(state, data.view().size());
}
BENCHMARK(leaves_singly);

void leaves_together(benchmark::State& state) {
  const Buffer data(1 << 20);
  for (auto _ : state) benchmark::DoNotOptimize(detail::hash_leaves_together(data.view()));
  count_bytes(state, data.view().size());
}
BENCHMARK(leaves_together);

struct Coding {
  explicit Coding(Profile profile) : code(ErasureCode::of(profile)), length(shard_bytes(kStripe, profile)) {
    for (unsigned i = 0; i < profile.width(); ++i) shards.emplace_back(length);
    for (unsigned i = 0; i < profile.k; ++i) {
      fill_random(shards[i].view());
      data.push_back(std::as_const(shards[i]).view());
    }
    for (unsigned i = profile.k; i < profile.width(); ++i) parity.push_back(shards[i].view());
  }
  std::shared_ptr<const ErasureCode> code;
  std::size_t length;
  std::vector<Buffer> shards;
  std::vector<ByteView> data;
  std::vector<MutableByteView> parity;
};

Profile profile_of(const benchmark::State& state) {
  return {static_cast<std::uint8_t>(state.range(0)), static_cast<std::uint8_t>(state.range(1))};
}

void encode(benchmark::State& state) {
  const Coding coding(profile_of(state));
  for (auto _ : state) coding.code->encode(coding.data, coding.parity);
  count_bytes(state, kStripe);
}
BENCHMARK(encode)->ArgNames({"k", "m"})->Args({2, 1})->Args({4, 2})->Args({10, 4});

void restore_two(benchmark::State& state) {
  const Coding coding(profile_of(state));
  coding.code->encode(coding.data, coding.parity);
  std::vector<ErasureCode::Piece> pieces;
  for (unsigned i = 2; i < coding.code->profile().width() && pieces.size() < coding.code->profile().k; ++i) {
    pieces.push_back({i, std::as_const(coding.shards[i]).view()});
  }
  std::vector<Buffer> restored(2);
  for (auto& one : restored) one = Buffer(coding.length);
  const std::vector<MutableByteView> out{restored[0].view(), restored[1].view()};
  const std::vector<unsigned> wanted{0, 1};
  for (auto _ : state) {
    if (!coding.code->restore(pieces, wanted, out)) state.SkipWithError("does not restore");
  }
  count_bytes(state, kStripe);
}
BENCHMARK(restore_two)->ArgNames({"k", "m"})->Args({4, 2})->Args({10, 4});

void sign(benchmark::State& state) {
  SigningSeed seed = SigningSeed::zeroed();
  fill_random(seed.mutable_view());
  const Signer signer(seed);
  const std::byte message[160]{};
  for (auto _ : state) benchmark::DoNotOptimize(signer.sign("benchmark", message));
}
BENCHMARK(sign);

void verify(benchmark::State& state) {
  SigningSeed seed = SigningSeed::zeroed();
  fill_random(seed.mutable_view());
  const Signer signer(seed);
  const std::byte message[160]{};
  const auto signature = signer.sign("benchmark", message);
  for (auto _ : state) benchmark::DoNotOptimize(verify_signature(signer.public_key(), "benchmark", message, signature));
}
BENCHMARK(verify);

}  // namespace
