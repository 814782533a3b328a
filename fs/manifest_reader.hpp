// SPDX-License-Identifier: Apache-2.0
// Reads a whole file by its manifest, without a volume: what `ephfs fetch` does. Stripe by stripe, a few at once, each
// from its nodes as a mount reads it; so its memory is bounded whatever the file's length. One task at a time.
#pragma once

#include <functional>

#include "fs/ciphertext.hpp"
#include "meta/manifest.hpp"

namespace ephfs::fs {

class ManifestReader {
 public:
  struct Context {
    const net::PeerDirectory& peers;
    core::Clock& clock;
    core::asio::any_io_executor executor;
    Milliseconds peer_timeout{10'000};  // the longest one stripe may take
  };
  /// Takes plaintext at a place in the file; a failure of it ends the reading. Called by one task, in any order of
  /// places.
  using Sink = std::function<Result<>(std::uint64_t offset, core::ByteView bytes)>;

  /// The manifest has been checked; `key` is the file's.
  ManifestReader(Context context, meta::Manifest manifest, core::Key key);
  ManifestReader(const ManifestReader&) = delete;
  ManifestReader& operator=(const ManifestReader&) = delete;

  /// Bytes that are no holes.
  [[nodiscard]] std::uint64_t data_bytes() const;
  /// Gives all of the file's data to `sink`; what is not given is zeros. not_found when nodes that should have its
  /// shards say that they do not: the file was changed or deleted; gone when it has died meanwhile; damaged, io,
  /// cancelled.
  [[nodiscard]] awaitable<Result<>> read_all(Sink sink, std::stop_token stop);

 private:
  /// What of the file lies in one stripe, and the run of ciphertext that it takes.
  struct Job {
    std::uint32_t stripe = 0;
    std::vector<meta::ExtentRecord> extents;
    std::uint64_t from = 0;
    std::uint64_t end = 0;
    std::shared_ptr<const StripeRows> rows;
  };
  struct Landed {
    std::size_t job;
    GatheredRange range;
  };

  [[nodiscard]] Result<std::vector<Job>> plan() const;
  [[nodiscard]] std::shared_ptr<const StripeRows> rows_of(std::uint32_t stripe) const;
  [[nodiscard]] awaitable<GatheredRange> gather(std::shared_ptr<const Job> job, bool verified, std::stop_token stop);
  [[nodiscard]] awaitable<Result<>> finish(std::shared_ptr<const Job> job, GatheredRange range, const Sink* sink,
                                           std::stop_token stop);
  [[nodiscard]] Result<> open_all(const Job& job, const Ciphertext& ciphertext, const Sink& sink);
  [[nodiscard]] core::Failure explained(core::Failure failure, const Job& job,
                                        const std::vector<Gathered::Fault>& faults) const;

  const Context context_;
  const meta::Manifest manifest_;
  const core::Key key_;
  NodeBook nodes_;
  BufferPool plain_;
  BufferPool scratch_;
  core::TaskGroup tasks_;
  ShardGatherer gatherer_;
};

}  // namespace ephfs::fs
