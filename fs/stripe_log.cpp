// SPDX-License-Identifier: Apache-2.0
#include "fs/stripe_log.hpp"

#include <algorithm>

#include "fs/stripe_coding.hpp"

namespace ephfs::fs {

using core::Error;
using core::fail;

namespace {

constexpr std::size_t kOpenStripesMax = 64;
/// A stream's stripes keep their ciphertext in memory until they are placed while no more buffers than this are in use.
constexpr std::size_t kBuffersInUseMax = 8;
/// What is left of a shared stripe is used for part of a larger run when it takes at least this much.
constexpr std::uint64_t kSmallestPart = 256U << 10U;
/// More is not copied to spare its file's sync: that costs less than writing as much twice.
constexpr std::uint64_t kKeptBytesMax = 128U << 10U;

/// Past its first stripe's worth a file that is written in large pieces is a stream, and shares stripes with no other:
/// what is deleted of it is whole stripes.
bool is_stream(const std::vector<PlainRun>& runs) {
  const PlainRun& run = runs.front();
  return runs.size() == 1 &&
         (run.bytes.size() >= kStripeBytes || (run.bytes.size() >= kLargeWrite && run.offset >= kStripeBytes));
}

std::uint64_t sealed_bytes(const std::vector<PlainRun>& runs) {
  std::uint64_t sealed = 0;
  for (const auto& run : runs) sealed += sealed_length(run.bytes.size());
  return sealed;
}

}  // namespace

/// Held by those who have staged and not yet committed. What they meant the catalog to keep is loose if it does not.
class StripeLog::Pins final : public StripePins::Pin {
 public:
  Pins(StripeLog& log, std::vector<EntryPtr> entries, bool keeps)
      : log_(log), entries_(std::move(entries)), is_loose_(keeps) {}
  ~Pins() override { log_.unpin(entries_, is_loose_); }
  Pins(const Pins&) = delete;
  Pins& operator=(const Pins&) = delete;
  void kept() override { is_loose_ = false; }

 private:
  StripeLog& log_;
  std::vector<EntryPtr> entries_;
  bool is_loose_;
};

StripeLog::StripeLog(Context context) : context_(std::move(context)) {}

Result<Staged> StripeLog::stage(const StageRequest& request) {
  EPHFS_CHECK(request.cipher.key != nullptr, "what is staged has a key");
  if (request.runs.empty()) return Staged{};
  const DeadlineBucket times = bucket_of(request.deadline, request.ttl);
  Bucket bucket{times.end, times.width, {}, is_stream(request.runs) ? request.inode : InodeNumber{}};
  if (request.profile) {
    bucket.profile = *request.profile;
  } else if (context_.options.profile) {
    bucket.profile = *context_.options.profile;
  } else {
    bucket.profile = core::auto_profile(std::max<std::size_t>(context_.peers.all().size(), 1));
  }

  std::vector<Piece> pieces;
  std::vector<EntryPtr> pinned;
  bool keeps = false;
  Result<> outcome;
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t need = sealed_bytes(request.runs);
    if (staged_bytes_ > 0 && staged_bytes_ + need > context_.options.staging_bytes) {
      while (!open_.empty()) close_locked(EntryPtr(open_.begin()->second));
      refused_bytes_ = need;
      return fail(Error::would_block, "staging is full");
    }
    outcome = reserve_locked(request, bucket, pieces);
    for (const auto& piece : pieces) pinned.push_back(piece.entry);
    keeps = is_worth_keeping_locked(request, pinned);
  }
  auto pins = std::make_shared<Pins>(*this, pinned, keeps);
  Staged staged;
  for (auto first = pieces.begin(); first != pieces.end() && outcome;) {
    const auto last = std::find_if(first, pieces.end(), [&](const Piece& one) { return one.entry != first->entry; });
    outcome = write_pieces({first, last}, request.cipher, keeps ? &staged.ciphertext.emplace_back() : nullptr);
    first = last;
  }
  if (!outcome) {
    const std::lock_guard lock(mutex_);
    for (const auto& entry : pinned) {
      entry->memory = nullptr;  // it may say more than the file
      close_locked(entry);
    }
    return outcome.error();
  }

  for (const auto& piece : pieces) {
    meta::ExtentRecord extent;
    extent.inode = request.inode;
    extent.offset = extent.origin_offset = piece.file_offset;
    extent.length = extent.origin_length = piece.plain.size();
    extent.stripe = piece.entry->record.number;
    extent.stripe_offset = piece.stripe_offset;
    const bool is_noted = !staged.extents.empty() && staged.extents.back().stripe == extent.stripe;
    if (!is_noted) staged.changes.emplace_back(meta::PutStripe{piece.entry->record});
    staged.extents.push_back(extent);
  }
  if (!keeps) note_loose(pinned);
  staged.pins = StripePins(std::move(pins));
  return staged;
}

/// Finds a place for all of the request, pinning each stripe once for each piece in it.
Result<> StripeLog::reserve_locked(const StageRequest& request, const Bucket& bucket, std::vector<Piece>& pieces) {
  for (const PlainRun& run : request.runs) {
    PlainRun rest = run;
    while (!rest.bytes.empty()) {
      EPHFS_TRY(const auto entry, stripe_with_room_locked(bucket, rest.bytes.size()));
      const std::uint64_t room = plain_capacity(kStripeCapacity - entry->appended);
      Piece piece;
      piece.entry = entry;
      piece.stripe_offset = entry->appended;
      piece.file_offset = rest.offset;
      piece.plain = rest.bytes.first(std::min<std::uint64_t>(rest.bytes.size(), room));
      piece.memory = entry->memory;
      const std::uint64_t sealed = sealed_length(piece.plain.size());
      entry->appended += sealed;
      staged_bytes_ += sealed;
      entry->latest = std::max(entry->latest, request.deadline);
      ++entry->pins;
      rest = {rest.offset + piece.plain.size(), rest.bytes.subspan(piece.plain.size())};
      pieces.push_back(std::move(piece));
      if (plain_capacity(kStripeCapacity - entry->appended) < kBlockBytes) close_locked(entry);
    }
  }
  return {};
}

/// The bucket's open stripe, or a new one where too little of a run of `bytes` would go into it.
Result<StripeLog::EntryPtr> StripeLog::stripe_with_room_locked(const Bucket& bucket, std::uint64_t bytes) {
  if (const auto found = open_.find(bucket); found != open_.end()) {
    const std::uint64_t room = plain_capacity(kStripeCapacity - found->second->appended);
    const bool is_shared = bucket.stream.value == 0;
    if (room >= std::min(bytes, is_shared ? kSmallestPart : kBlockBytes)) return found->second;
    close_locked(EntryPtr(found->second));
  }
  EPHFS_TRY(auto entry, open_stripe_locked(bucket));
  open_[bucket] = entry;
  return entry;
}

Result<StripeLog::EntryPtr> StripeLog::open_stripe_locked(const Bucket& bucket) {
  if (open_.size() >= kOpenStripesMax) {
    const auto oldest = std::ranges::min_element(
        open_, {}, [](const auto& one) { return std::pair(one.second->seal_at, one.second->record.number); });
    close_locked(EntryPtr(oldest->second));
  }
  auto entry = std::make_shared<Entry>();
  entry->bucket = bucket;
  meta::StripeRecord& record = entry->record;
  record.number = {next_number_};
  record.id = core::random_id<core::StripeId>();
  record.format = core::preferred_block_format();
  record.profile = bucket.profile;
  record.length = kStripeCapacity;
  record.deadline = bucket.end;
  record.created = context_.clock.now();
  EPHFS_TRY(entry->file, context_.files.create_staged({record.number, record.id}));
  ++next_number_;
  if (bucket.stream.value != 0) entry->memory = context_.buffers.try_take(kBuffersInUseMax);
  // A short-lived file's stripe is on its way long before it dies: an eighth of the ttl.
  const core::Nanoseconds age = std::min(context_.options.seal_age, bucket.width * 8);
  entry->seal_at = context_.clock.boot_now() + age;
  entries_.emplace(record.number, entry);
  wake_.notify();
  return entry;
}

/// Encrypts pieces of one stripe, which lie one behind the other, and writes them, window by window while it is in the
/// processor's cache.
Result<> StripeLog::write_pieces(std::span<const Piece> pieces, const FileCipher& cipher, meta::StagedBytes* copy) {
  const Piece& front = pieces.front();
  const meta::StripeRecord& record = front.entry->record;
  ExtentCodec codec(record.format, cipher, record.id);
  const auto scratch = front.memory ? nullptr : context_.scratch.take();
  std::uint64_t begin = front.stripe_offset;  // [begin, end) of the stripe is encrypted and not yet written
  std::uint64_t end = begin;
  if (copy != nullptr) {
    *copy = {record.number, context_.files.staged_path({record.number, record.id}).filename().string(), begin, {}};
  }
  const auto window = [&](std::uint64_t from, std::uint64_t to) {
    return front.memory ? front.memory->view().subspan(from, to - from)
                        : scratch->view().subspan(from - begin, to - from);
  };
  const auto write = [&]() -> Result<> {
    const core::ByteView bytes = window(begin, end);
    if (copy != nullptr) copy->bytes.insert(copy->bytes.end(), bytes.begin(), bytes.end());
    return core::write_all(*front.entry->file, begin, bytes);
  };
  for (const Piece& piece : pieces) {
    EPHFS_CHECK(piece.stripe_offset == end, "what is reserved together lies together");
    PlainRun rest{piece.file_offset, piece.plain};
    while (!rest.bytes.empty()) {
      const auto plain = rest.bytes.first(std::min<std::size_t>(rest.bytes.size(), plain_capacity(kWindowBytes)));
      const std::uint64_t length = sealed_length(plain.size());
      if (end + length - begin > kWindowBytes) {
        EPHFS_TRY_VOID(write());
        begin = end;
      }
      codec.seal(rest.offset, end, plain, window(end, end + length));
      end += length;
      rest = {rest.offset + plain.size(), rest.bytes.subspan(plain.size())};
    }
  }
  return write();
}

void StripeLog::close_locked(const EntryPtr& entry) {
  if (entry->phase != Phase::open) return;
  entry->phase = Phase::closing;
  closing_.insert(entry->record.number);
  if (const auto found = open_.find(entry->bucket); found != open_.end() && found->second == entry) open_.erase(found);
  if (entry->pins == 0) wake_.notify();
}

/// A stripe that has to be synced for others' bytes anyway is synced for these, too.
bool StripeLog::is_worth_keeping_locked(const StageRequest& request, const std::vector<EntryPtr>& entries) const {
  return request.synced_soon && sealed_bytes(request.runs) <= kKeptBytesMax &&
         std::ranges::none_of(entries, [](const EntryPtr& entry) { return entry->loose > entry->synced; });
}

void StripeLog::note_loose(const std::vector<EntryPtr>& entries) {
  const std::lock_guard lock(mutex_);
  for (const auto& entry : entries) ++entry->loose;
}

void StripeLog::unpin(const std::vector<EntryPtr>& entries, bool is_loose) {
  if (is_loose) note_loose(entries);
  const std::lock_guard lock(mutex_);
  for (const auto& entry : entries) {
    if (--entry->pins == 0 && entry->phase == Phase::closing) wake_.notify();
  }
}

std::optional<StagedView> StripeLog::find(StripeNumber number) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(number);
  if (found == entries_.end()) return std::nullopt;
  const Entry& entry = *found->second;
  StagedView view{entry.record, entry.file, entry.ciphertext, entry.phase != Phase::sealed, entry.damaged};
  if (!view.file && !view.damaged) {
    auto file = context_.files.open_staged({entry.record.number, entry.record.id});
    if (file) view.file = std::move(*file);
    view.damaged = !view.file;
  }
  return view;
}

Result<core::SharedBytes> StripeLog::load(const StagedView& view) {
  const std::uint64_t length = view.open ? view.record.length : padded_length(view.record);
  if (!view.ciphertext.empty()) return view.ciphertext;
  if (view.damaged) return fail(Error::damaged, "staged stripe " + std::to_string(view.record.number.value));
  const auto buffer = context_.buffers.take();
  EPHFS_TRY_VOID(core::read_exactly(*view.file, 0, buffer->view().first(length)));
  return shared_part(buffer, 0, length);
}

Result<> StripeLog::sync(const std::vector<StripeNumber>& stripes) {
  std::vector<std::pair<EntryPtr, std::uint64_t>> synced;
  for (const StripeNumber number : stripes) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = entries_.find(number);
      if (found == entries_.end() || found->second->loose == found->second->synced) continue;
      synced.emplace_back(found->second, found->second->loose);
    }
    const auto view = find(number);
    if (!view) continue;
    if (view->damaged) return fail(Error::damaged, "staged stripe " + std::to_string(number.value));
    EPHFS_TRY_VOID(core::sync_data(*view->file));
  }
  if (synced.empty()) return {};
  EPHFS_TRY_VOID(context_.files.sync_staging());
  const std::lock_guard lock(mutex_);
  for (const auto& [entry, loose] : synced) entry->synced = std::max(entry->synced, loose);
  return {};
}

Result<> StripeLog::sync_all() {
  std::vector<StripeNumber> whole;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, entry] : entries_) {
      if (entry->loose != entry->synced) whole.push_back(number);
    }
  }
  std::erase_if(whole, [this](StripeNumber number) {
    const auto view = find(number);
    return !view || view->damaged;
  });
  return sync(whole);
}

void StripeLog::close(StripeNumber number) {
  const std::lock_guard lock(mutex_);
  if (const auto found = entries_.find(number); found != entries_.end()) close_locked(found->second);
}

bool StripeLog::set_open_deadline(StripeNumber number, Deadline deadline) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(number);
  if (found == entries_.end() || found->second->phase == Phase::sealed) return false;
  found->second->latest = deadline;
  return true;
}

void StripeLog::set_sealed_deadline(StripeNumber number, Deadline deadline) {
  const std::lock_guard lock(mutex_);
  if (const auto found = entries_.find(number); found != entries_.end()) found->second->record.deadline = deadline;
}

void StripeLog::erase_locked(const EntryPtr& entry) {
  const StripeNumber number = entry->record.number;
  if (open_.contains(entry->bucket) && open_.at(entry->bucket) == entry) open_.erase(entry->bucket);
  if (entry->phase == Phase::sealed && entry->file) --sealed_files_open_;
  staged_bytes_ -= entry->appended;
  closing_.erase(number);
  entries_.erase(number);
}

void StripeLog::placed(StripeNumber number, const meta::StripeRecord& record) {
  // After a loss of power the catalog must not look for a file that the cache has, or has no more.
  const auto synced = context_.catalog.sync();
  if (!synced) {
    context_.log("a staged file is left to the next mount: " + synced.error().message());
  }
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(number);
    if (found == entries_.end()) return;
    // The file is in the cache before the entry is gone, so that a reader finds one of them.
    if (synced) {
      auto adopted = context_.files.adopt({number, record.id}, padded_length(record), record.deadline);
      if (!adopted) {
        context_.log(adopted.error().message());
        context_.files.remove_staged({number, record.id});
      }
    }
    erase_locked(found->second);
  }
  changed_.notify_all();
}

void StripeLog::discard(StripeNumber number) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(number);
    if (found == entries_.end()) return;
    context_.files.remove_staged({number, found->second->record.id});
    erase_locked(found->second);
  }
  changed_.notify_all();
}

bool StripeLog::has_room() const {
  const std::lock_guard lock(mutex_);
  return staged_bytes_ == 0 || staged_bytes_ + refused_bytes_ <= context_.options.staging_bytes;
}

StripeLog::Counts StripeLog::counts() const {
  const std::lock_guard lock(mutex_);
  Counts counts;
  counts.bytes = staged_bytes_;
  for (const auto& [number, entry] : entries_) ++(entry->phase == Phase::sealed ? counts.sealed : counts.open);
  return counts;
}

}  // namespace ephfs::fs
