// SPDX-License-Identifier: Apache-2.0
#include "fs/read_parts.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>

namespace ephfs::fs {
namespace {

constexpr std::size_t kPartsAtOnce = 8;

FileCipher cipher_of(const ReadPlan& plan) {
  return {plan.file, plan.key.get()};
}

core::MutableByteView place_of(const ReadPlan::Part& part, core::MutableByteView out) {
  return out.subspan(part.at, part.length);
}

/// What the tasks of one read share; it outlives them, for the read joins them.
struct Fetch {
  Stripes& stripes;
  const ReadPlan& plan;
  core::MutableByteView out;
  bool sequential;
  net::CallLimits limits;
  std::vector<std::size_t> parts;  // indexes of those that are not local
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  Result<> failed{};

  awaitable<void> work() {
    for (std::size_t turn = next++; turn < parts.size(); turn = next++) {
      const auto& part = plan.parts[parts[turn]];
      auto got =
          co_await stripes.read(part.extent, cipher_of(plan), part.offset, place_of(part, out), sequential, limits);
      if (got) continue;
      next = parts.size();
      const std::lock_guard lock(mutex);
      if (failed) failed = std::move(got);
    }
  }
};

}  // namespace

Result<> try_read_parts(Stripes& stripes, const ReadPlan& plan, core::MutableByteView out) {
  for (const auto& part : plan.parts) {
    EPHFS_TRY_VOID(stripes.try_read(part.extent, cipher_of(plan), part.offset, place_of(part, out)));
  }
  return {};
}

awaitable<Result<>> read_parts(Stripes& stripes, ReadPlan plan, core::MutableByteView out, bool sequential,
                               net::CallLimits limits) {
  Fetch fetch{stripes, plan, out, sequential, limits, {}, {}, {}};
  for (std::size_t i = 0; i < plan.parts.size(); ++i) {
    const auto& part = plan.parts[i];
    auto got = stripes.try_read(part.extent, cipher_of(plan), part.offset, place_of(part, out));
    if (got) continue;
    if (got.error().code != core::Error::would_block) co_return got;
    fetch.parts.push_back(i);
  }
  if (fetch.parts.size() <= 1) {
    co_await fetch.work();
    co_return std::move(fetch.failed);
  }
  const auto executor = co_await core::asio::this_coro::executor;
  core::TaskGroup workers;
  for (std::size_t i = 0; i < std::min(kPartsAtOnce, fetch.parts.size()); ++i) {
    workers.spawn(executor, [&fetch] { return fetch.work(); });
  }
  co_await workers.join();
  co_return std::move(fetch.failed);
}

}  // namespace ephfs::fs
