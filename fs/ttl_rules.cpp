// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "fs/engine_state.hpp"
#include "fs/maintenance.hpp"
#include "fs/reaper.hpp"
#include "fs/scrubber.hpp"
#include "fs/share_book.hpp"
#include "fs/warner.hpp"

namespace ephfs::fs {
namespace {

Milliseconds clamp_span(const TtlPolicy& policy, Milliseconds span) {
  if (span == kPermanentTtl && policy.allow_permanent) return span;
  return std::clamp(span, policy.shortest, std::max(policy.shortest, policy.longest));
}

/// No deadline lies past the last instant that has a calendar form.
Deadline deadline_in(core::Instant now, Milliseconds span) {
  return Deadline(std::min(now + span, core::kInstantMax));
}

/// A span for people: "never", or one that may have run out.
std::string say_span(Milliseconds span) {
  if (span == kPermanentTtl) return "never";
  return span.count() > 0 ? core::format_span(span) : std::string("in the past");
}

/// One line now and then, however many files are made.
void warn_of_clamping(const EngineState& state, InodeNumber directory, Milliseconds asked, Milliseconds given) {
  constexpr core::Nanoseconds kBetweenWarnings{std::chrono::minutes(1)};
  const core::Boottime now = state.clock.boot_now();
  std::int64_t next = state.next_clamp_warning.load();
  if (now.ns < next || !state.next_clamp_warning.compare_exchange_strong(next, (now + kBetweenWarnings).ns)) return;
  state.log("what is made in directory " + std::to_string(directory.value) + " lives " + say_span(given) +
            ": the ttl it would inherit, " + say_span(asked) + ", is outside the volume's bounds");
}

core::Failure out_of_bounds(const TtlPolicy& policy, Milliseconds span) {
  return core::fail(core::Error::invalid_argument, "ttl " + say_span(span) + " is not within " +
                                                       core::format_span(policy.shortest) + " to " +
                                                       core::format_span(policy.longest));
}

Result<> check_span(const TtlPolicy& policy, Milliseconds span) {
  if (span < policy.shortest || span > policy.longest) return out_of_bounds(policy, span);
  return {};
}

Result<> check_permanent(const TtlPolicy& policy) {
  if (policy.allow_permanent) return {};
  return core::fail(core::Error::invalid_argument, "\"never\" is not allowed in this volume");
}

/// The instant `at` as a deadline, checked. `now` is the reading of the clock that `at` was reckoned from.
Result<ChosenDeadline> deadline_at(const EngineState& state, core::Instant now, core::Instant at) {
  const Milliseconds left = at - now;
  EPHFS_TRY_VOID(check_span(state.options.ttl, left));
  if (at > core::kInstantMax) return core::fail(core::Error::invalid_argument, "a deadline past the year 9999");
  return ChosenDeadline{Deadline(at), left};
}

}  // namespace

InheritedTtl inherited_ttl(const EngineState& state, const meta::InodeRecord& parent) {
  const auto& policy = state.options.ttl;
  const core::Instant now = state.clock.now();
  InheritedTtl inherited;
  // For a directory, "explicit" says that its ttl_mode was set; otherwise the volume's holds.
  inherited.mode = parent.deadline_explicit ? parent.ttl_mode : policy.mode;
  Milliseconds span = policy.initial;
  if (!parent.default_deadline.is_never()) {
    span = parent.default_deadline.instant() - now;
  } else if (parent.ttl.count() > 0) {
    span = parent.ttl;
  }
  inherited.ttl = clamp_span(policy, span);
  if (inherited.ttl != span) warn_of_clamping(state, parent.number, span, inherited.ttl);
  if (inherited.ttl == kPermanentTtl) {
    inherited.ttl = Milliseconds{0};
    return inherited;
  }
  inherited.deadline = deadline_in(now, inherited.ttl);
  return inherited;
}

Result<TtlWish> parse_ttl_wish(std::string_view text) {
  TtlWish wish;
  if (text == "never") {
    wish.kind = TtlWish::Kind::never;
    return wish;
  }
  constexpr std::size_t kYearDigits = 4;  // RFC 3339 begins YYYY-, and no span has a dash there
  if (text.starts_with('@') || (text.size() > kYearDigits && text[kYearDigits] == '-')) {
    wish.kind = TtlWish::Kind::instant;
    EPHFS_TRY(wish.at, core::parse_instant(text));
    return wish;
  }
  if (text.starts_with('+')) {
    wish.kind = TtlWish::Kind::extension;
    text.remove_prefix(1);
  }
  EPHFS_TRY(wish.span, core::parse_span(text));
  return wish;
}

Result<ChosenDeadline> choose_deadline(const EngineState& state, const TtlWish& wish, Deadline present) {
  const core::Instant now = state.clock.now();
  switch (wish.kind) {
    case TtlWish::Kind::never:
      EPHFS_TRY_VOID(check_permanent(state.options.ttl));
      return ChosenDeadline{};
    case TtlWish::Kind::span:
      return deadline_at(state, now, now + wish.span);
    case TtlWish::Kind::extension:
      if (present.is_never()) return core::fail(core::Error::invalid_argument, "what never dies cannot be extended");
      return deadline_at(state, now, present.instant() + wish.span);
    case TtlWish::Kind::instant:
      return deadline_at(state, now, wish.at);
  }
  return core::fail(core::Error::invalid_argument);
}

Result<> set_directory_default(const EngineState& state, const TtlWish& wish, bool as_instant,
                               meta::InodeRecord& directory) {
  const auto& policy = state.options.ttl;
  Milliseconds ttl{0};
  Deadline instant;
  if (wish.kind == TtlWish::Kind::never) {
    EPHFS_TRY_VOID(check_permanent(policy));
    ttl = kPermanentTtl;
  } else if (as_instant || wish.kind == TtlWish::Kind::instant ||
             (wish.kind == TtlWish::Kind::extension && !directory.default_deadline.is_never())) {
    EPHFS_TRY(const auto chosen, choose_deadline(state, wish, directory.default_deadline));
    instant = chosen.deadline;
  } else {
    ttl = wish.span;
    if (wish.kind == TtlWish::Kind::extension) {
      const Milliseconds present = directory.ttl.count() > 0 ? directory.ttl : policy.initial;
      if (present == kPermanentTtl)
        return core::fail(core::Error::invalid_argument, "what never dies cannot be extended");
      ttl += present;
    }
    EPHFS_TRY_VOID(check_span(policy, ttl));
  }
  directory.ttl = ttl;
  directory.default_deadline = instant;
  return {};
}

Result<> change_deadline(const EngineState& state, meta::InodeRecord& record, Deadline deadline, Milliseconds ttl,
                         bool is_explicit) {
  if (S_ISREG(record.mode) && deadline != record.deadline) {
    EPHFS_TRY(const auto key, unwrap_file_key(state, record));
    const Deadline before = std::exchange(record.deadline, deadline);
    auto wrapped = wrap_file_key(state, record, key);
    if (!wrapped) {
      record.deadline = before;
      return std::move(wrapped).error();
    }
    record.wrapped_key = *std::move(wrapped);
  }
  record.deadline = deadline;
  record.ttl = ttl;
  record.deadline_explicit = is_explicit;
  return {};
}

CarriedDeadline carried_deadline(const EngineState& state, const meta::InodeRecord& replaced) {
  CarriedDeadline carried{replaced.uid, replaced.deadline, replaced.ttl, replaced.ttl_mode, replaced.deadline_explicit};
  if (replaced.ttl_mode != meta::TtlMode::fixed && !replaced.deadline.is_never() && replaced.ttl.count() > 0) {
    const Milliseconds span = clamp_span(state.options.ttl, replaced.ttl);
    carried.deadline = std::max(replaced.deadline, deadline_in(state.clock.now(), span));
  }
  return carried;
}

void deadline_shortened(EngineState& state, const Inode& inode) {
  if (state.kernel == nullptr || inode.lookups == 0) return;
  state.kernel->forget_pages(inode.number);
  auto names = state.catalog->names_of(inode.number);
  if (!names) return;  // the reaper tells the kernel again when the time comes
  for (auto& [parent, name] : *names) state.kernel->forget_entry(parent, std::move(name));
}

Milliseconds reread_after(const EngineState& state, const Inode& inode) {
  if (state.options.read_only) return Milliseconds{0};
  // The volume's longest ttl may have become less than the file's own.
  return std::min(inode.reread(), std::max(state.options.ttl.longest / kSlideSteps, kRereadMin));
}

PageWatch page_watch(const EngineState& state, const Inode& inode) {
  return {inode.deadline(), inode.is_written, reread_after(state, inode)};
}

void watch_pages(EngineState& state, const Inode& inode) {
  if (state.kernel == nullptr || inode.handles == 0) return;
  const PageWatch watch = page_watch(state, inode);
  if (watch.deadline.is_never()) {
    state.kernel->unwatch(inode.number);
  } else {
    state.kernel->watch(inode.number, watch);
  }
}

void deadline_changed(EngineState& state, const std::shared_ptr<Inode>& inode) {
  const Deadline deadline = inode->deadline();
  watch_pages(state, *inode);
  if (state.reaper) state.reaper->notify(deadline);
  if (state.warner) state.warner->notify(inode);
  if (state.shares) state.shares->deadline_changed(inode->number, deadline);
  if (!inode->is_regular()) return;
  // What wrapped its key until now may be under an epoch that outlives the file.
  if (state.scrubber) state.scrubber->notify();
  if (state.maintenance) state.maintenance->deadline_changed(inode);
}

bool slide_deadline(EngineState& state, Inode& inode, bool written) {
  auto& record = inode.record;
  if (record.ttl_mode == meta::TtlMode::fixed || (record.ttl_mode == meta::TtlMode::modified && !written)) return false;
  if (record.deadline.is_never() || record.ttl.count() <= 0 || inode.removed) return false;
  const Milliseconds span = clamp_span(state.options.ttl, record.ttl);
  const Deadline slid = deadline_in(state.clock.now(), span);
  if (slid <= record.deadline || slid.instant() - record.deadline.instant() < span / kSlideSteps) return false;
  // A key that cannot be wrapped again leaves the deadline where it was: the file dies on time, only sooner.
  if (!change_deadline(state, record, slid, record.ttl, record.deadline_explicit)) return false;
  inode.record_dirty = true;
  inode.publish_ttl();
  return true;
}

bool hurry_near_death(const EngineState& state, const Inode& inode, core::Instant now) {
  const bool dies_soon = inode.deadline().passed(now + kDropsBegin);
  if (dies_soon && state.kernel != nullptr) state.kernel->hurry();
  return dies_soon;
}

}  // namespace ephfs::fs
