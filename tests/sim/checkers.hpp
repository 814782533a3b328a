// SPDX-License-Identifier: Apache-2.0
// What must hold of a volume, whatever happens to its machines, judged from outside: a model (path, bytes, deadline), a
// record of which machines were away when, and what every call gave. Nothing here knows how the system works.
//
//   - Nothing is readable at or after its deadline, and everything is until shortly before.
//   - What a file holds is what was written to it. A call may fail only for a reason: its file's deadline, or more
//     machines away, shortly before or during it, than fsync leaves to spare.
//   - Every call ends in time.
//   - No receipt of a liar is accepted, what an audit says of a shard is so, and what nodes signed of the dead is
//   gathered.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/bytes.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"
#include "meta/catalog.hpp"

namespace ephfs::sim {

/// What was found to be wrong. The first few are kept.
class Findings {
 public:
  explicit Findings(const core::Clock& clock) : clock_(clock) {}
  void add(const std::string& what);
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::string text() const;

 private:
  const core::Clock& clock_;
  std::size_t count_ = 0;
  std::vector<std::string> first_;
};

/// How many machines were away, over time.
class AwayHistory {
 public:
  void note(core::Boottime at, std::size_t away) { steps_.emplace_back(at, away); }
  /// The most at any time from `since` on.
  [[nodiscard]] std::size_t most_since(core::Boottime since) const;

 private:
  std::vector<std::pair<core::Boottime, std::size_t>> steps_;
};

/// When a file dies. A sliding deadline moves in steps, so that others know it only so far.
struct Death {
  core::Instant earliest, latest;
  Death() = default;
  Death(core::Instant at) : earliest(at), latest(at) {}
};

struct ExpectedFile {
  core::Bytes content;
  /// What it held at its last flush, and all it held from then until now: a crash may leave each byte as in any of
  /// them. Empty when a crash must change nothing.
  std::vector<core::Bytes> unflushed;
  Death deadline;
  bool has_own_deadline = false;
  meta::TtlMode mode = meta::TtlMode::fixed;
  core::Milliseconds ttl{0};  // what a sliding deadline slides by

  void write(std::uint64_t offset, core::ByteView bytes);
  void truncate(std::uint64_t size);
  /// A call that began at `began` and has just ended may have moved a sliding deadline, and has if it went well.
  void slide(core::Instant began, core::Instant now, bool written, bool went_well);
  /// Whether a crash may have left `found`.
  [[nodiscard]] bool may_be(core::ByteView found) const;
};

/// A hash of outcomes: runs of one seed have the same.
class Digest {
 public:
  void note(std::uint64_t value);
  void note(std::string_view text);
  [[nodiscard]] std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 14695981039346656037U;  // FNV-1a's offset basis
};

class Judge {
 public:
  Judge(const core::Clock& clock, core::Nanoseconds call_limit)
      : findings(clock), clock_(clock), call_limit_(call_limit) {}

  Findings findings;
  AwayHistory away;
  std::map<std::string, ExpectedFile> files;
  Digest digest;

  struct Tally {
    std::uint64_t calls = 0;
    std::uint64_t excused = 0;   // failed for a reason
    std::uint64_t deaths = 0;    // deadlines looked at
    std::uint64_t crashed = 0;   // cut short by a crash of the caller's own machine
    std::uint64_t fetched = 0;   // shares that somebody else got
    std::uint64_t audited = 0;   // shards
    std::uint64_t missing = 0;   // of them, what nodes had not got
    std::uint64_t proofs = 0;    // of the dead
    std::uint64_t complete = 0;  // of them, what had to be proven in full
    std::uint64_t kept = 0;      // shards that liars had past their deadline
  };
  [[nodiscard]] const Tally& tally() const { return tally_; }
  [[nodiscard]] Tally& tally() { return tally_; }

  enum class Life { alive, dying, dead };
  /// Dying: so near the deadline that a call may already be refused.
  [[nodiscard]] Life life_of(const Death& death) const;

  /// A call that asks no other machine. `failure` is none when it went well.
  void local_call(const std::string& what, const Death& death, std::optional<core::Failure> failure);
  /// A call that may need others, begun at `began`. `crashed`: the caller's own machine died meanwhile.
  void call(const std::string& what, core::Boottime began, const Death& death, std::optional<core::Failure> failure,
            bool crashed);
  /// What a read gave against what it had to give.
  void bytes(const std::string& what, core::ByteView got, core::ByteView expected);
  /// At or after the deadline: what a lookup or a read of it gave.
  void after_death(const std::string& what, std::optional<core::Failure> failure);

 private:
  const core::Clock& clock_;
  const core::Nanoseconds call_limit_;
  Tally tally_;
};

}  // namespace ephfs::sim
