// SPDX-License-Identifier: Apache-2.0
#include "fs/ciphertext.hpp"

#include <algorithm>

#include "fs/stripe_log.hpp"

namespace ephfs::fs {

using core::Error;
using core::fail;

namespace {

std::string stripe_text(StripeNumber number) {
  return "stripe " + std::to_string(number.value);
}

}  // namespace

Result<> Ciphertext::copy(std::uint64_t offset, core::MutableByteView out) const {
  std::uint64_t at = base;
  for (const auto& piece : pieces) {
    if (out.empty()) break;
    if (offset < at + piece.size()) {
      if (offset < at) break;
      const auto part = piece.view().subspan(offset - at);
      const std::size_t taken = std::min(part.size(), out.size());
      std::ranges::copy(part.first(taken), out.begin());
      out = out.subspan(taken);
      offset += taken;
    }
    at += piece.size();
  }
  return out.empty() ? Result<>() : Result<>(fail(Error::damaged, "an extent reaches past its stripe"));
}

Result<core::ByteView> Ciphertext::view(std::uint64_t offset, core::MutableByteView room) const {
  std::uint64_t at = base;
  for (const auto& piece : pieces) {
    if (offset >= at && offset - at < piece.size() && piece.size() - (offset - at) >= room.size()) {
      return piece.view().subspan(offset - at, room.size());
    }
    at += piece.size();
  }
  EPHFS_TRY_VOID(copy(offset, room));
  return core::ByteView(room);
}

Result<> open_slice(const meta::StripeRecord& record, const WantedSlice& wanted, const CiphertextSource& source,
                    BufferPool& pool) {
  EPHFS_CHECK(wanted.cipher.key != nullptr, "who reads has the file's key");
  const std::uint64_t block = core::block_bytes_of(record.format);
  const std::uint64_t window = kWindowBytes / (block + core::kAeadTagBytes) * block;
  ExtentCodec codec(record.format, wanted.cipher, record.id);
  const auto scratch = pool.take();
  std::uint64_t offset = wanted.offset;
  core::MutableByteView out = wanted.out;
  while (!out.empty()) {
    // Windows end on the extent's own blocks, so that no block is opened twice.
    const std::uint64_t into = (offset - wanted.extent.origin_offset) % block;
    const std::uint64_t length = std::min<std::uint64_t>(out.size(), window - into);
    EPHFS_TRY(const BlockCut cut, cut_blocks(record.format, wanted.extent, offset, length));
    if (cut.stripe_offset + cut.sealed_bytes > record.length) {
      return fail(Error::damaged, stripe_text(record.number) + ": an extent reaches past its end");
    }
    EPHFS_TRY(const auto sealed, source(cut.stripe_offset, scratch->view().first(cut.sealed_bytes)));
    if (!codec.open(wanted.extent, cut, sealed, offset, out.first(length))) {
      return fail(Error::damaged, stripe_text(record.number) + " fails its check");
    }
    offset += length;
    out = out.subspan(length);
  }
  return {};
}

awaitable<GatheredRange> gather_range(ShardGatherer& gatherer, core::asio::any_io_executor executor,
                                      core::TaskGroup& tasks, std::shared_ptr<const StripeRows> rows,
                                      std::uint64_t from, std::uint64_t end, bool verified, net::CallLimits limits) {
  const meta::StripeRecord& record = rows->record;
  const std::uint64_t shard = core::shard_bytes(record.length, record.profile);
  // Shards of which the same range is needed are gathered together.
  std::vector<GatherRequest> requests;
  for (std::uint64_t index = from / shard; index * shard < end; ++index) {
    const std::uint64_t low = std::max(from, index * shard) - index * shard;
    const std::uint64_t high = std::min(end, (index + 1) * shard) - index * shard;
    if (requests.empty() || requests.back().offset != low || requests.back().length != high - low) {
      GatherRequest request;
      request.rows = rows;
      request.offset = low;
      request.length = high - low;
      request.verified = verified;
      requests.push_back(std::move(request));
    }
    requests.back().wanted.push_back(static_cast<unsigned>(index));
  }
  struct Answer {
    std::size_t at;
    Gathered gathered;
  };
  const core::Mailbox<std::shared_ptr<Answer>> answers;
  std::vector<std::shared_ptr<Answer>> parts(requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    std::function<awaitable<void>()> task = [gatherer = &gatherer, i, request = requests[i], limits,
                                             answers]() -> awaitable<void> {
      auto gathered = co_await gatherer->gather(request, limits);
      answers.post(std::make_shared<Answer>(Answer{i, std::move(gathered)}));
    };
    tasks.spawn(executor, std::move(task));
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    auto answer = co_await answers.receive();
    const std::size_t at = answer->at;
    parts[at] = std::move(answer);
  }
  GatheredRange range{CiphertextPtr(), {}};
  auto ciphertext = std::make_shared<Ciphertext>();
  ciphertext->base = from;
  std::optional<core::Failure> failed;
  for (const auto& part : parts) {
    auto& faults = part->gathered.faults;
    range.faults.insert(range.faults.end(), std::make_move_iterator(faults.begin()),
                        std::make_move_iterator(faults.end()));
    if (!part->gathered.ranges) {
      failed = part->gathered.ranges.error();
      continue;
    }
    for (const auto& piece : *part->gathered.ranges) ciphertext->pieces.push_back(piece);
  }
  if (failed) {
    range.ciphertext = std::move(*failed);
  } else {
    range.ciphertext = CiphertextPtr(std::move(ciphertext));
  }
  co_return range;
}

}  // namespace ephfs::fs
