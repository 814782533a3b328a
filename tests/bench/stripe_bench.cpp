// SPDX-License-Identifier: Apache-2.0
// What a stripe costs its writer and its nodes, one core: encryption, coding and hashing in one go, and a node's check.
#include <benchmark/benchmark.h>

#include "core/secret.hpp"
#include "fs/extent_codec.hpp"
#include "fs/options.hpp"
#include "fs/stripe_coding.hpp"

namespace {

using namespace ephfs;

void encrypt_code_hash(benchmark::State& state) {
  const core::Profile profile{static_cast<std::uint8_t>(state.range(0)), static_cast<std::uint8_t>(state.range(1))};
  core::Key key = core::Key::zeroed();
  core::fill_random(key.mutable_view());
  core::BufferPool pool(fs::kStripeCapacity + (64U << 10U), 4);
  const core::Bytes plain(fs::kStripeBytes);
  meta::StripeRecord record;
  record.id = core::random_id<core::StripeId>();
  record.profile = profile;
  record.length = fs::sealed_length(plain.size());
  const core::FileId file = core::random_id<core::FileId>();
  for (auto _ : state) {
    const auto buffer = pool.take();
    fs::ExtentCodec codec(core::preferred_block_format(), {file, &key}, record.id);
    codec.seal(0, 0, plain, buffer->view().first(record.length));
    benchmark::DoNotOptimize(fs::code_stripe(fs::shared_part(buffer, 0, fs::padded_length(record)), profile, pool));
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * plain.size()));
}
BENCHMARK(encrypt_code_hash)->ArgNames({"k", "m"})->Args({1, 0})->Args({4, 2})->Args({10, 4});

}  // namespace
