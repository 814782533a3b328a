// SPDX-License-Identifier: Apache-2.0
#include "tests/fs/fake_stripes.hpp"

#include <algorithm>

#include "core/async.hpp"

namespace ephfs::fs::testing {
namespace {

class CountedPin final : public StripePins::Pin {
 public:
  explicit CountedPin(std::shared_ptr<int> count) : count_(std::move(count)) { ++*count_; }
  ~CountedPin() override { --*count_; }
  CountedPin(const CountedPin&) = delete;
  CountedPin& operator=(const CountedPin&) = delete;
  void kept() override {}

 private:
  std::shared_ptr<int> count_;
};

}  // namespace

FakeStripes::FakeStripes(std::shared_ptr<FakeDisk> disk, core::Clock& clock) : disk_(std::move(disk)), clock_(clock) {
  // Stripes are appended to by the run that opened them only.
  disk_->open.clear();
}

StripeNumber FakeStripes::place(const StageRequest& request, std::uint64_t length) {
  const DeadlineBucket bucket = bucket_of(request.deadline, request.ttl);
  const std::pair key{bucket.end, bucket.width};
  const auto open = disk_->open.find(key);
  if (open != disk_->open.end()) {
    auto& stripe = disk_->stripes.at(open->second);
    if (length < kStripeBytes && stripe.record.length + length <= kStripeBytes) return open->second;
  }
  const StripeNumber number{disk_->stripes.empty() ? 1 : disk_->stripes.rbegin()->first.value + 1};
  auto& stripe = disk_->stripes[number];
  stripe.record.number = number;
  stripe.record.id = core::random_id<core::StripeId>();
  stripe.record.created = clock_.now();
  stripe.record.deadline = bucket.end;
  if (length < kStripeBytes) disk_->open[key] = number;
  return number;
}

Result<Staged> FakeStripes::stage(const StageRequest& request) {
  if (disk_->fail_stage) {
    if (const auto failure = disk_->fail_stage()) return core::fail(*failure, "staging");
  }
  std::uint64_t bytes = 0;
  for (const auto& run : request.runs) bytes += run.bytes.size();
  if (bytes > disk_->room) return core::fail(core::Error::would_block, "staging is full");
  disk_->room -= bytes;
  disk_->staged_bytes += bytes;
  Staged staged;
  for (const auto& run : request.runs) {
    for (std::uint64_t at = 0; at < run.bytes.size(); at += kStripeBytes) {
      const std::uint64_t length = std::min<std::uint64_t>(run.bytes.size() - at, kStripeBytes);
      stage_part(request, {run.offset + at, run.bytes.subspan(at, length)}, staged);
    }
  }
  return staged;
}

void FakeStripes::stage_part(const StageRequest& request, const PlainRun& part, Staged& staged) {
  const StripeNumber number = place(request, part.bytes.size());
  auto& stripe = disk_->stripes.at(number);
  meta::ExtentRecord extent;
  extent.inode = request.inode;
  extent.offset = extent.origin_offset = part.offset;
  extent.length = extent.origin_length = part.bytes.size();
  extent.stripe = number;
  extent.stripe_offset = stripe.record.length;
  stripe.record.length += part.bytes.size();
  stripe.origins[extent.stripe_offset] = {request.cipher.file, core::to_bytes(request.cipher.key->view()),
                                          core::to_bytes(part.bytes)};
  staged.extents.push_back(extent);
  staged.changes.emplace_back(meta::PutStripe{stripe.record});
  staged.pins.merge(StripePins(std::make_shared<CountedPin>(stripe.pins)));
}

awaitable<Result<>> FakeStripes::room(core::Boottime until) {
  constexpr auto kLook = std::chrono::milliseconds(10);
  while (disk_->room == 0) {
    if (clock_.boot_now() >= until) co_return core::fail(core::Error::timed_out, "staging is full");
    co_await core::sleep_until(clock_, std::min(until, clock_.boot_now() + kLook));
  }
  co_return Result<>{};
}

Result<> FakeStripes::copy_out(const meta::ExtentRecord& extent, FileCipher cipher, std::uint64_t offset,
                               core::MutableByteView out) {
  if (disk_->vanished_reads > 0) {
    --disk_->vanished_reads;
    return core::fail(core::Error::not_found);
  }
  const auto stripe = disk_->stripes.find(extent.stripe);
  if (stripe == disk_->stripes.end()) return core::fail(core::Error::not_found);
  const auto origin = stripe->second.origins.find(extent.stripe_offset);
  if (origin == stripe->second.origins.end()) return core::fail(core::Error::damaged, "no extent there");
  const auto& kept = origin->second;
  const bool same_key = std::ranges::equal(kept.key, cipher.key->view());
  if (kept.file != cipher.file || !same_key || kept.bytes.size() != extent.origin_length) {
    return core::fail(core::Error::damaged, "another file's extent");
  }
  if (offset < extent.offset || offset + out.size() > extent.offset + extent.length) {
    return core::fail(core::Error::invalid_argument, "outside the slice");
  }
  std::copy_n(kept.bytes.begin() + static_cast<std::ptrdiff_t>(offset - extent.origin_offset), out.size(), out.begin());
  return {};
}

Result<> FakeStripes::try_read(const meta::ExtentRecord& extent, FileCipher cipher, std::uint64_t offset,
                               core::MutableByteView out) {
  if (disk_->remote) return core::fail(core::Error::would_block);
  return copy_out(extent, cipher, offset, out);
}

awaitable<Result<>> FakeStripes::read(meta::ExtentRecord extent, FileCipher cipher, std::uint64_t offset,
                                      core::MutableByteView out, bool, net::CallLimits limits) {
  ++disk_->remote_reads;
  disk_->remote_reads_most = std::max(disk_->remote_reads_most, ++disk_->remote_reads_at_once);
  const core::Boottime answer = clock_.boot_now() + disk_->read_delay;
  co_await core::sleep_until(clock_, std::min(answer, limits.until));
  --disk_->remote_reads_at_once;
  if (answer > limits.until) co_return core::fail(core::Error::io, "no node answers");
  co_return copy_out(extent, cipher, offset, out);
}

Result<> FakeStripes::sync(const std::vector<StripeNumber>& stripes) {
  disk_->synced.push_back(stripes);
  return {};
}

awaitable<Result<>> FakeStripes::settle(std::vector<StripeNumber> stripes, Durability, core::Boottime until) {
  disk_->settled.push_back(std::move(stripes));
  if (!disk_->settle_failure) co_return Result<>{};
  co_await core::sleep_until(clock_, until);
  co_return core::fail(*disk_->settle_failure, "placing");
}

Result<> FakeStripes::set_deadline(StripeNumber stripe, Deadline deadline) {
  disk_->deadlines.emplace_back(stripe, deadline);
  return {};
}

Result<StripeHealth> FakeStripes::health(StripeNumber) const {
  return StripeHealth{};
}

}  // namespace ephfs::fs::testing
