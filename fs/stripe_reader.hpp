// SPDX-License-Identifier: Apache-2.0
// Reads parts of extents: from staging, from the cache, from nodes. What came from elsewhere is believed only when it
// decrypts; when it does not, the same is fetched again with Merkle proofs, and whoever lied is known.
//
// A sequential reader fetches whole stripes into the cache, once however many ask (a Flight); others fetch the chunks
// that their blocks lie in. Thread-safe.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "fs/ciphertext.hpp"
#include "fs/stripes_state.hpp"

namespace ephfs::fs {

class StripeReader {
 public:
  explicit StripeReader(StripesState& state) : state_(state) {}

  [[nodiscard]] Result<> try_read(const meta::ExtentRecord& extent, FileCipher cipher, std::uint64_t offset,
                                  core::MutableByteView out);
  [[nodiscard]] awaitable<Result<>> read(meta::ExtentRecord extent, FileCipher cipher, std::uint64_t offset,
                                         core::MutableByteView out, bool sequential, net::CallLimits limits);
  void prefetch(StripeNumber number);
  /// The stripe's record, wherever it is now; not_found when it is no more or has died.
  [[nodiscard]] Result<meta::StripeRecord> record_of(StripeNumber number);

 private:
  /// not_found when it has died.
  [[nodiscard]] Result<> check_lives(const meta::StripeRecord& record) const;
  /// A whole stripe being fetched, or just fetched and not cached yet.
  struct Flight {
    std::optional<Result<CiphertextPtr>> result;  // guarded by mutex_
    Broadcast landed;
  };

  [[nodiscard]] Result<> read_local(const WantedSlice& wanted, bool& cache_damaged);
  [[nodiscard]] awaitable<Result<CiphertextPtr>> fetch_range(std::shared_ptr<const StripeRows> rows, BlockCut cut,
                                                             bool verified, net::CallLimits limits);
  [[nodiscard]] std::shared_ptr<Flight> join_flight(const std::shared_ptr<const StripeRows>& rows, std::size_t most);
  [[nodiscard]] awaitable<void> fly(std::shared_ptr<const StripeRows> rows, std::shared_ptr<Flight> flight);
  [[nodiscard]] awaitable<Result<CiphertextPtr>> wait_for(std::shared_ptr<Flight> flight, net::CallLimits limits);

  StripesState& state_;
  std::mutex mutex_;  // guards what follows
  std::map<StripeNumber, std::shared_ptr<Flight>> flights_;
};

}  // namespace ephfs::fs
