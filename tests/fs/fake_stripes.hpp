// SPDX-License-Identifier: Apache-2.0
// Stripes in memory that do as they are told: fail, run full, be far away, lose a stripe. What is in them
// outlives the object, as a disk does. Single-threaded.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/clock.hpp"
#include "fs/stripes.hpp"

namespace ephfs::fs::testing {

/// What stripes hold, and what was asked of them.
struct FakeDisk {
  struct Origin {
    core::FileId file;
    core::Bytes key;
    core::Bytes bytes;  // as they were staged, in clear: nobody steals this disk
  };
  struct Stripe {
    meta::StripeRecord record;
    std::map<std::uint64_t, Origin> origins;  // by stripe offset
    std::shared_ptr<int> pins = std::make_shared<int>(0);
  };
  std::map<StripeNumber, Stripe> stripes;
  std::map<std::pair<Deadline, Milliseconds>, StripeNumber> open;
  std::uint64_t staged_bytes = 0;

  // Faults.
  std::function<std::optional<core::Error>()> fail_stage;  // looked at for each stage()
  std::uint64_t room = ~std::uint64_t{0};                  // bytes that may still be staged
  bool remote = false;                                     // no byte is local
  core::Nanoseconds read_delay{0};
  unsigned vanished_reads = 0;  // reads to come that find no stripe
  std::optional<core::Error> settle_failure;

  // What was asked.
  std::vector<std::vector<StripeNumber>> synced, settled;
  std::vector<std::pair<StripeNumber, Deadline>> deadlines;
  std::vector<StripeNumber> prefetched;
  unsigned remote_reads = 0, remote_reads_at_once = 0, remote_reads_most = 0;
};

class FakeStripes final : public Stripes {
 public:
  FakeStripes(std::shared_ptr<FakeDisk> disk, core::Clock& clock);

  void start() override {}
  awaitable<void> stop() override { co_return; }
  Result<Staged> stage(const StageRequest& request) override;
  awaitable<Result<>> room(core::Boottime until) override;
  Result<> try_read(const meta::ExtentRecord& extent, FileCipher cipher, std::uint64_t offset,
                    core::MutableByteView out) override;
  awaitable<Result<>> read(meta::ExtentRecord extent, FileCipher cipher, std::uint64_t offset,
                           core::MutableByteView out, bool sequential, net::CallLimits limits) override;
  void prefetch(StripeNumber stripe) override { disk_->prefetched.push_back(stripe); }
  Result<> sync(const std::vector<StripeNumber>& stripes) override;
  awaitable<Result<>> settle(std::vector<StripeNumber> stripes, Durability durability, core::Boottime until) override;
  Result<> set_deadline(StripeNumber stripe, Deadline deadline) override;
  void collect_soon() override {}
  Result<StripeHealth> health(StripeNumber stripe) const override;
  StripeCounters counters() const override { return {}; }

 private:
  Result<> copy_out(const meta::ExtentRecord& extent, FileCipher cipher, std::uint64_t offset,
                    core::MutableByteView out);
  void stage_part(const StageRequest& request, const PlainRun& part, Staged& staged);
  StripeNumber place(const StageRequest& request, std::uint64_t length);

  std::shared_ptr<FakeDisk> disk_;
  core::Clock& clock_;
};

}  // namespace ephfs::fs::testing
