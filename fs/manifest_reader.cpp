// SPDX-License-Identifier: Apache-2.0
#include "fs/manifest_reader.hpp"

#include <algorithm>
#include <map>

#include "fs/stripe_coding.hpp"
#include "fs/stripe_log.hpp"

namespace ephfs::fs {
namespace {

using core::Error;
using core::fail;

constexpr std::size_t kStripesAtOnce = 4;
constexpr core::Nanoseconds kHedgeDelay = std::chrono::milliseconds(50);
constexpr InodeNumber kTheFile{1};

}  // namespace

ManifestReader::ManifestReader(Context context, meta::Manifest manifest, core::Key key)
    : context_(std::move(context)),
      manifest_(std::move(manifest)),
      key_(std::move(key)),
      nodes_(context_.clock),
      plain_(kStripeBytes, 1),
      scratch_(kWindowBytes, 1),
      gatherer_({context_.peers, nodes_, context_.clock, context_.executor, tasks_, kHedgeDelay, {}}) {}

std::uint64_t ManifestReader::data_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& extent : manifest_.extents) bytes += extent.length;
  return bytes;
}

std::shared_ptr<const StripeRows> ManifestReader::rows_of(std::uint32_t stripe) const {
  const auto& described = manifest_.stripes[stripe];
  auto rows = std::make_shared<StripeRows>();
  rows->record.number = {std::int64_t{stripe} + 1};
  rows->record.id = described.id;
  rows->record.state = meta::StripeState::placed;
  rows->record.format = described.format;
  rows->record.profile = described.profile;
  rows->record.length = described.length;
  rows->record.deadline = manifest_.deadline;
  for (unsigned index = 0; index < described.profile.width(); ++index) {
    meta::PlacementRecord row;
    row.stripe = rows->record.number;
    row.index = static_cast<std::uint8_t>(index);
    row.shard_bytes = described.shard_bytes;
    const auto shard = std::ranges::find(described.shards, row.index, &meta::ManifestShard::index);
    if (shard != described.shards.end()) {
      row.shard = shard->id;
      row.node = shard->node;
      row.stored = true;
    } else {
      row.lease_deadline = Deadline(core::Instant{0});  // nowhere
    }
    rows->placements.push_back(std::move(row));
  }
  return rows;
}

/// The stripes in the order in which the file first comes to them.
Result<std::vector<ManifestReader::Job>> ManifestReader::plan() const {
  std::vector<Job> jobs;
  std::map<std::uint32_t, std::size_t> places;
  for (const auto& part : manifest_.extents) {
    const auto [place, is_new] = places.try_emplace(part.stripe, jobs.size());
    if (is_new) {
      Job job;
      job.stripe = part.stripe;
      job.rows = rows_of(part.stripe);
      job.from = job.rows->record.length;
      if (!is_possible(job.rows->record)) return fail(Error::damaged, "manifest: a stripe that cannot be");
      jobs.push_back(std::move(job));
    }
    Job& job = jobs[place->second];
    meta::ExtentRecord extent;
    extent.inode = kTheFile;
    extent.offset = part.offset;
    extent.length = part.length;
    extent.stripe = job.rows->record.number;
    extent.stripe_offset = part.stripe_offset;
    extent.origin_offset = part.origin_offset;
    extent.origin_length = part.origin_length;
    EPHFS_TRY(const BlockCut cut, cut_blocks(job.rows->record.format, extent, extent.offset, extent.length));
    if (cut.stripe_offset + cut.sealed_bytes > job.rows->record.length) {
      return fail(Error::damaged, "manifest: an extent reaches past its stripe");
    }
    job.from = std::min(job.from, cut.stripe_offset);
    job.end = std::max(job.end, cut.stripe_offset + cut.sealed_bytes);
    job.extents.push_back(extent);
  }
  return jobs;
}

awaitable<GatheredRange> ManifestReader::gather(std::shared_ptr<const Job> job, bool verified, std::stop_token stop) {
  const net::CallLimits limits{context_.clock.boot_now() + core::Nanoseconds(context_.peer_timeout), std::move(stop)};
  co_return co_await gather_range(gatherer_, context_.executor, tasks_, job->rows, job->from, job->end, verified,
                                  limits);
}

Result<> ManifestReader::open_all(const Job& job, const Ciphertext& ciphertext, const Sink& sink) {
  const CiphertextSource source = [&ciphertext](std::uint64_t at, core::MutableByteView room) {
    return ciphertext.view(at, room);
  };
  const auto plain = plain_.take();
  for (const auto& extent : job.extents) {
    const auto out = plain->view().first(extent.length);
    const WantedSlice wanted{extent, {manifest_.file, &key_}, extent.offset, out};
    EPHFS_TRY_VOID(open_slice(job.rows->record, wanted, source, scratch_));
    EPHFS_TRY_VOID(sink(extent.offset, out));
  }
  return {};
}

core::Failure ManifestReader::explained(core::Failure failure, const Job& job,
                                        const std::vector<Gathered::Fault>& faults) const {
  if (failure.code == Error::cancelled) return failure;
  if (manifest_.deadline.passed(context_.clock.now())) return fail(Error::gone, "the file has died meanwhile");
  const auto lost = std::ranges::count(faults, ShardFault::lost, &Gathered::Fault::fault);
  if (lost > job.rows->record.profile.m) {
    return fail(Error::not_found, "the file was changed or deleted since it was shared");
  }
  return failure;
}

awaitable<Result<>> ManifestReader::finish(std::shared_ptr<const Job> job, GatheredRange range, const Sink* sink,
                                           std::stop_token stop) {
  if (!range.ciphertext) co_return explained(range.ciphertext.error(), *job, range.faults);
  auto opened = open_all(*job, **range.ciphertext, *sink);
  if (opened || opened.error().code != Error::damaged) co_return opened;
  // Somebody gave bytes that are not the stripe's: once more, with proofs.
  auto again = co_await gather(job, true, std::move(stop));
  if (!again.ciphertext) co_return explained(again.ciphertext.error(), *job, again.faults);
  co_return open_all(*job, **again.ciphertext, *sink);
}

awaitable<Result<>> ManifestReader::read_all(Sink sink, std::stop_token stop) {
  EPHFS_CO_TRY(auto planned, plan());
  std::vector<std::shared_ptr<const Job>> jobs;
  for (auto& job : planned) jobs.push_back(std::make_shared<const Job>(std::move(job)));
  std::stop_source give_up;
  const std::stop_callback on_stop(stop, [&give_up] { give_up.request_stop(); });
  const core::Mailbox<std::shared_ptr<Landed>> landed;
  Result<> outcome;
  std::size_t next = 0;
  std::size_t flying = 0;
  while (flying > 0 || (next < jobs.size() && outcome)) {
    if (outcome && next < jobs.size() && flying < kStripesAtOnce) {
      std::function<awaitable<void>()> task = [this, at = next, job = jobs[next], token = give_up.get_token(),
                                               landed]() -> awaitable<void> {
        auto range = co_await gather(job, false, token);
        landed.post(std::make_shared<Landed>(Landed{at, std::move(range)}));
      };
      tasks_.spawn(context_.executor, std::move(task));
      ++next;
      ++flying;
      continue;
    }
    const auto one = co_await landed.receive();
    --flying;
    if (!outcome) continue;
    outcome = co_await finish(jobs[one->job], std::move(one->range), &sink, give_up.get_token());
    if (outcome && manifest_.deadline.passed(context_.clock.now()))
      outcome = fail(Error::gone, "the file has died meanwhile");
    if (!outcome) give_up.request_stop();
  }
  // Calls that lost a hedge end on their own.
  co_await tasks_.join();
  co_return outcome;
}

}  // namespace ephfs::fs
