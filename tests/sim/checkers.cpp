// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/checkers.hpp"

#include <algorithm>
#include <cstring>

#include "core/time.hpp"

namespace ephfs::sim {
namespace {

using namespace std::chrono_literals;
using core::Error;

constexpr std::size_t kFindingsKept = 20;
constexpr core::Milliseconds kLastMomentMax = 20ms;  // how early a file may be refused
constexpr core::Nanoseconds kCallSlack = 1s;
/// How long a machine that comes back may not be noticed.
constexpr core::Nanoseconds kGrace = 10s;
/// What a quorum leaves to spare.
constexpr std::size_t kSpare = 1;
/// A sliding deadline is left where it is while it would move by less than this part of the ttl.
constexpr int kSlideSteps = 64;

}  // namespace

void Findings::add(const std::string& what) {
  if (count_++ < kFindingsKept) first_.push_back(core::format_instant(clock_.now()) + "  " + what);
}

std::string Findings::text() const {
  std::string text = std::to_string(count_) + " findings\n";
  for (const auto& line : first_) text += line + '\n';
  return text;
}

std::size_t AwayHistory::most_since(core::Boottime since) const {
  std::size_t most = 0;
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    most = std::max(most, step->second);
    if (step->first <= since) break;
  }
  return most;
}

void ExpectedFile::write(std::uint64_t offset, core::ByteView bytes) {
  unflushed.push_back(content);
  content.resize(std::max<std::size_t>(content.size(), offset + bytes.size()));
  std::ranges::copy(bytes, content.begin() + static_cast<std::ptrdiff_t>(offset));
}

void ExpectedFile::slide(core::Instant began, core::Instant now, bool written, bool went_well) {
  if (mode == meta::TtlMode::fixed || (mode == meta::TtlMode::modified && !written)) return;
  deadline.latest = std::max(deadline.latest, now + ttl);
  if (went_well) deadline.earliest = std::max(deadline.earliest, began + (ttl - ttl / kSlideSteps - 1ms));
}

void ExpectedFile::truncate(std::uint64_t size) {
  content.resize(size);
  for (auto& one : unflushed) one.resize(size);
}

bool ExpectedFile::may_be(core::ByteView found) const {
  const auto same = [&found](const core::Bytes& one) { return std::ranges::equal(one, found); };
  if (same(content)) return true;
  if (unflushed.empty()) return false;
  const auto as_long = [&found](const core::Bytes& one) { return one.size() == found.size(); };
  if (!as_long(content) && std::ranges::none_of(unflushed, as_long)) return false;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto has = [&](const core::Bytes& one) {
      return i < one.size() ? one[i] == found[i] : found[i] == std::byte{0};
    };
    if (!has(content) && std::ranges::none_of(unflushed, has)) return false;
  }
  return true;
}

void Digest::note(std::uint64_t value) {
  for (unsigned i = 0; i < 8; ++i) {
    hash_ ^= (value >> (8 * i)) & 0xffU;
    hash_ *= 1099511628211U;
  }
}

void Digest::note(std::string_view text) {
  for (const char one : text) note(static_cast<std::uint64_t>(static_cast<unsigned char>(one)));
}

Judge::Life Judge::life_of(const Death& death) const {
  const core::Instant now = clock_.now();
  if (now >= death.latest) return Life::dead;
  return now + kLastMomentMax >= death.earliest ? Life::dying : Life::alive;
}

void Judge::local_call(const std::string& what, const Death& death, std::optional<core::Failure> failure) {
  call(what, clock_.boot_now(), death, failure, false);
}

void Judge::call(const std::string& what, core::Boottime began, const Death& death,
                 std::optional<core::Failure> failure, bool crashed) {
  const core::Boottime now = clock_.boot_now();
  ++tally_.calls;
  digest.note(what);
  digest.note(failure ? static_cast<std::uint64_t>(failure->code) : 255U);
  digest.note(static_cast<std::uint64_t>(now.ns));
  if (now - began > call_limit_ + kCallSlack) {
    findings.add(what + " took " + std::to_string((now - began).count() / 1'000'000) + " ms");
  }
  if (!failure) {
    if (life_of(death) == Life::dead) findings.add(what + " went well after the deadline");
    return;
  }
  if (crashed) {
    ++tally_.crashed;
    return;
  }
  const bool of_death =
      failure->code == Error::stale || failure->code == Error::gone || failure->code == Error::not_found;
  if (life_of(death) != Life::alive && of_death) return;
  const bool of_the_pool = failure->code == Error::io || failure->code == Error::timed_out;
  if (of_the_pool && away.most_since(core::Boottime{began.ns - kGrace.count()}) > kSpare) {
    ++tally_.excused;
    return;
  }
  findings.add(what + " failed: " + failure->message());
}

void Judge::bytes(const std::string& what, core::ByteView got, core::ByteView expected) {
  if (std::ranges::equal(got, expected)) return;
  const auto differ = std::ranges::mismatch(got, expected);
  findings.add(what + " gave " + std::to_string(got.size()) + " bytes, expected " + std::to_string(expected.size()) +
               ", which differ from byte " + std::to_string(differ.in1 - got.begin()) + " on");
}

void Judge::after_death(const std::string& what, std::optional<core::Failure> failure) {
  ++tally_.deaths;
  digest.note(what);
  digest.note(failure ? static_cast<std::uint64_t>(failure->code) : 255U);
  if (!failure) {
    findings.add(what + " is there after the deadline");
  } else if (failure->code != Error::stale && failure->code != Error::gone && failure->code != Error::not_found) {
    findings.add(what + " after the deadline: " + failure->message());
  }
}

}  // namespace ephfs::sim
