// SPDX-License-Identifier: Apache-2.0
#include "fs/shard_gather.hpp"

#include <algorithm>

namespace ephfs::fs {

using core::Error;
using core::fail;
using core::SharedBytes;

namespace {

/// Who has not answered for this long does not answer.
constexpr core::Nanoseconds kSilence = std::chrono::seconds(1);
/// Between two questions to a node that could not be reached and may return.
constexpr core::Nanoseconds kAskAgain = std::chrono::milliseconds(200);

struct Answer {
  unsigned index = 0;
  bool stopped = false;  // no answer: the caller gave up
  Result<SharedBytes> bytes = SharedBytes();
  bool lied = false;
};

/// Asks one node for [offset, offset + length) of a shard and checks what comes.
awaitable<Answer> ask(std::shared_ptr<net::Peer> peer, meta::PlacementRecord row, std::uint64_t offset,
                      std::uint64_t length, bool verified, net::CallLimits limits) {
  Answer answer;
  answer.index = row.index;
  net::FetchRequest request;
  request.shard = row.shard;
  request.offset = offset;
  request.length = length;
  request.with_proof = verified;
  auto range = co_await peer->fetch(request, std::move(limits));
  if (!range) {
    answer.bytes = std::move(range).error();
    co_return answer;
  }
  const std::uint64_t end = range->offset + range->bytes.size();
  bool good = range->shard_bytes == row.shard_bytes && range->offset <= offset && end >= offset + length;
  if (good && verified) {
    good = range->offset % core::kLeafBytes == 0 && (end % core::kLeafBytes == 0 || end == row.shard_bytes) &&
           core::verify_range(row.shard, row.shard_bytes, range->offset / core::kLeafBytes, range->bytes.view(),
                              range->proof);
  }
  if (good) {
    answer.bytes = range->bytes.slice(offset - range->offset, length);
  } else {
    answer.lied = true;
    answer.bytes = fail(Error::damaged, "node " + row.node.hex() + " gave what is not of shard " + row.shard.hex());
  }
  co_return answer;
}

}  // namespace

/// One gathering: which shards were asked, and what became of each.
class ShardGatherer::Attempt {
 public:
  Attempt(const Context& context, GatherRequest request, net::CallLimits limits)
      : context_(context),
        request_(std::move(request)),
        limits_(std::move(limits)),
        patience_(limits_.until - context_.clock.boot_now()) {
    k_ = request_.rows->record.profile.k;
    const auto& rows = request_.rows->placements;
    bool complete = rows.size() == request_.rows->record.profile.width();
    for (std::size_t i = 0; complete && i < rows.size(); ++i) complete = rows[i].index == i;
    if (!complete) return;
    sources_.reserve(rows.size());
    for (const auto& row : rows) {
      Source& source = sources_.emplace_back(row);
      source.wanted = std::ranges::find(request_.wanted, row.index) != request_.wanted.end();
      if (source.wanted) look_up(source);
    }
  }

  awaitable<Gathered> run();

 private:
  enum class State : std::uint8_t { idle, asked, here, failed };
  struct Source {
    explicit Source(const meta::PlacementRecord& its_row) : row(its_row) {}

    const meta::PlacementRecord& row;
    bool wanted = false;
    bool looked_up = false;  // of the others, only once they are needed
    std::shared_ptr<net::Peer> peer;
    unsigned cost = 0;
    State state = State::idle;
    core::Boottime asked_at;
    std::optional<core::Boottime> again_at;  // failed, and to be asked again then
    bool asked_again = false;
    SharedBytes bytes;
  };

  void look_up(Source& source) const;
  void ask_shard(Source& source);
  void ask_more(core::Boottime now);
  void take(Answer answer);
  [[nodiscard]] bool hopeless() const;
  [[nodiscard]] core::Boottime next_look(core::Boottime now) const;
  void note_late(core::Boottime now);
  [[nodiscard]] std::size_t count(State state) const {
    return static_cast<std::size_t>(std::ranges::count(sources_, state, &Source::state));
  }
  [[nodiscard]] bool late(const Source& source, core::Boottime now) const {
    return source.state == State::asked && now - source.asked_at >= context_.hedge_delay;
  }
  [[nodiscard]] bool done() const;
  [[nodiscard]] core::Failure failure(Error code) const;
  [[nodiscard]] Result<std::vector<SharedBytes>> result() const;

  const Context& context_;
  GatherRequest request_;
  net::CallLimits limits_;
  const core::Nanoseconds patience_;  // what the caller would wait in all
  unsigned k_ = 0;
  std::vector<Source> sources_;
  std::vector<Gathered::Fault> faults_;
  std::string last_failure_;
  std::stop_source stop_;
  core::Mailbox<Answer> answers_;
};

/// Finds its node.
void ShardGatherer::Attempt::look_up(Source& source) const {
  source.looked_up = true;
  // A shard that is owed may be there under its older lease.
  if (source.row.stored || !source.row.lease_deadline.passed(context_.clock.confirmed_now())) {
    source.peer = context_.peers.find(source.row.node);
  }
  if (source.peer) {
    source.cost = context_.nodes.reading_cost(*source.peer);
  } else {
    source.state = State::failed;
  }
}

void ShardGatherer::Attempt::ask_shard(Source& source) {
  source.state = State::asked;
  source.again_at.reset();
  source.asked_at = context_.clock.boot_now();
  const bool verified = request_.verified || context_.nodes.lied(source.row.node);
  const net::CallLimits limits{limits_.until, stop_.get_token()};
  std::function<awaitable<void>()> task = [peer = source.peer, row = source.row, offset = request_.offset,
                                           length = request_.length, verified, limits,
                                           answers = answers_]() -> awaitable<void> {
    auto answer = co_await ask(peer, row, offset, length, verified, limits);
    answers.post(std::move(answer));
  };
  context_.tasks.spawn(context_.executor, std::move(task));
}

/// Asks what is wanted from nodes that are expected to answer; when any of it is missing or late, as many others as
/// make k that are here or in time.
void ShardGatherer::Attempt::ask_more(core::Boottime now) {
  for (auto& source : sources_) {
    if (source.again_at && *source.again_at <= now) ask_shard(source);
  }
  const auto expected = [](const Source& source) { return source.cost < NodeBook::kSilentCost; };
  bool restoring = false;
  for (auto& source : sources_) {
    if (!source.wanted || source.state == State::here) continue;
    if (source.state == State::idle && expected(source)) ask_shard(source);
    if (source.state != State::asked || late(source, now)) restoring = true;
  }
  if (!restoring) return;
  for (auto& source : sources_) {
    if (!source.looked_up) look_up(source);
  }
  std::size_t coming = count(State::here);
  for (const auto& source : sources_) coming += source.state == State::asked && !late(source, now) ? 1 : 0;
  while (coming < k_) {
    Source* best = nullptr;
    for (auto& source : sources_) {
      if (source.state != State::idle) continue;
      const auto grade = [](const Source& one) { return std::pair(one.cost, !one.wanted); };
      if (best == nullptr || grade(source) < grade(*best)) best = &source;
    }
    if (best == nullptr) return;
    ask_shard(*best);
    ++coming;
  }
}

void ShardGatherer::Attempt::take(Answer answer) {
  Source& source = sources_[answer.index];
  if (answer.bytes) {
    source.state = State::here;
    source.bytes = std::move(*answer.bytes);
    context_.nodes.answered(source.row.node);
    return;
  }
  source.state = State::failed;
  const core::Failure& why = answer.bytes.error();
  last_failure_ = "node " + source.row.node.hex().substr(0, 8) + ": " + why.message();
  if (answer.lied || why.code == Error::protocol) {
    faults_.push_back({answer.index, source.row.node, ShardFault::lied, why.detail});
  } else if (why.code == Error::not_found || why.code == Error::damaged) {
    faults_.push_back({answer.index, source.row.node, ShardFault::lost, why.message()});
  } else if (why.code == Error::unreachable || why.code == Error::timed_out) {
    // That it is still away is no new failure.
    if (!source.asked_again) context_.nodes.failed(source.row.node, why.code);
    source.asked_again = true;
    if (why.code == Error::unreachable && context_.nodes.may_return(source.row.node, patience_)) {
      source.again_at = context_.clock.boot_now() + kAskAgain;
    }
  }
}

/// Fewer than k can be had, and not all that is wanted will come by itself.
bool ShardGatherer::Attempt::hopeless() const {
  const auto lost = [](const Source& one) { return one.state == State::failed && !one.again_at; };
  const bool wanted_lost = std::ranges::any_of(sources_, [&](const Source& one) { return one.wanted && lost(one); });
  return wanted_lost && sources_.size() - static_cast<std::size_t>(std::ranges::count_if(sources_, lost)) < k_;
}

/// When something is to be done even if no answer comes.
core::Boottime ShardGatherer::Attempt::next_look(core::Boottime now) const {
  core::Boottime next = limits_.until;
  for (const auto& source : sources_) {
    if (source.state == State::asked && !late(source, now))
      next = std::min(next, source.asked_at + context_.hedge_delay);
    if (source.again_at) next = std::min(next, *source.again_at);
  }
  return next;
}

void ShardGatherer::Attempt::note_late(core::Boottime now) {
  for (const auto& source : sources_) {
    if (!late(source, now)) continue;
    if (now - source.asked_at >= kSilence) {
      context_.nodes.failed(source.row.node, Error::timed_out);
    } else {
      context_.nodes.was_late(source.row.node);
    }
  }
}

bool ShardGatherer::Attempt::done() const {
  if (count(State::here) >= k_) return true;
  return std::ranges::all_of(sources_, [](const Source& one) { return !one.wanted || one.state == State::here; });
}

core::Failure ShardGatherer::Attempt::failure(Error code) const {
  std::string detail = "stripe " + std::to_string(request_.rows->record.number.value) + ": " +
                       std::to_string(count(State::here)) + " of the " + std::to_string(k_) + " shards it takes";
  if (!last_failure_.empty()) detail += "; " + last_failure_;
  return fail(code, std::move(detail));
}

Result<std::vector<SharedBytes>> ShardGatherer::Attempt::result() const {
  std::vector<core::ErasureCode::Piece> pieces;
  std::vector<unsigned> missing;
  std::vector<SharedBytes> ranges;
  for (const unsigned index : request_.wanted) {
    if (sources_[index].state != State::here) missing.push_back(index);
    ranges.push_back(sources_[index].bytes);
  }
  if (missing.empty()) return ranges;
  for (const auto& source : sources_) {
    if (source.state == State::here && pieces.size() < k_) pieces.push_back({source.row.index, source.bytes.view()});
  }
  std::vector<std::shared_ptr<core::Buffer>> buffers;
  std::vector<core::MutableByteView> out;
  for (std::size_t i = 0; i < missing.size(); ++i) {
    buffers.push_back(std::make_shared<core::Buffer>(request_.length));
    out.push_back(buffers.back()->view());
  }
  EPHFS_TRY_VOID(core::ErasureCode::of(request_.rows->record.profile)->restore(pieces, missing, out));
  for (std::size_t i = 0; i < missing.size(); ++i) {
    const auto at = std::ranges::find(request_.wanted, missing[i]) - request_.wanted.begin();
    ranges[static_cast<std::size_t>(at)] = SharedBytes(buffers[i], std::as_const(*buffers[i]).view());
  }
  return ranges;
}

awaitable<Gathered> ShardGatherer::Attempt::run() {
  std::function<void()> give_up = [answers = answers_] {
    Answer stopped;
    stopped.stopped = true;
    answers.post(std::move(stopped));
  };
  const std::stop_callback<std::function<void()>> on_stop(limits_.stop, give_up);
  const std::stop_callback<std::function<void()>> on_end(context_.stop, give_up);
  std::optional<core::Failure> failed;
  if (sources_.empty()) failed = failure(Error::io);
  while (!failed && !done()) {
    const core::Boottime now = context_.clock.boot_now();
    if (now >= limits_.until) {
      failed = failure(Error::io);
      break;
    }
    ask_more(now);
    if (hopeless()) {
      failed = failure(Error::io);
      break;
    }
    auto answer = co_await answers_.receive_until(context_.clock, next_look(now));
    if (!answer) continue;
    if (answer->stopped) {
      failed = fail(Error::cancelled);
      break;
    }
    take(std::move(*answer));
  }
  stop_.request_stop();
  note_late(context_.clock.boot_now());
  Gathered gathered{failed ? Result<std::vector<SharedBytes>>(std::move(*failed)) : result(), std::move(faults_)};
  co_return gathered;
}

awaitable<Gathered> ShardGatherer::gather(GatherRequest request, net::CallLimits limits) {
  const auto attempt = std::make_unique<Attempt>(context_, std::move(request), std::move(limits));
  co_return co_await attempt->run();
}

}  // namespace ephfs::fs
