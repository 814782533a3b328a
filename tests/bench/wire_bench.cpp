// SPDX-License-Identifier: Apache-2.0
// What a frame's header costs: packing and unpacking, without the payload, which is never copied.
#include <benchmark/benchmark.h>

#include "core/secret.hpp"
#include "net/wire.hpp"

namespace {

using namespace ephfs;

net::FetchRequest some_fetch() {
  net::FetchRequest request;
  request.shard = core::random_id<core::ShardId>();
  request.offset = 4096;
  request.length = 65536;
  return request;
}

void pack_request(benchmark::State& state) {
  const auto request = some_fetch();
  for (auto _ : state) {
    auto message = net::pack_fetch(request);
    benchmark::DoNotOptimize(net::pack_packet({message.kind, 7, 10'000, std::move(message.body)}));
  }
}
BENCHMARK(pack_request);

void unpack_request(benchmark::State& state) {
  auto message = net::pack_fetch(some_fetch());
  const auto header = net::pack_packet({message.kind, 7, 10'000, std::move(message.body)});
  for (auto _ : state) {
    auto packet = net::unpack_packet(header);
    benchmark::DoNotOptimize(net::unpack_fetch({packet->kind, std::move(packet->body), {}}));
  }
}
BENCHMARK(unpack_request);

}  // namespace
