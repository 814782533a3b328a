// SPDX-License-Identifier: Apache-2.0
#include "node/file_receipt_store.hpp"

#include <algorithm>
#include <charconv>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/little_endian.hpp"
#include "core/log.hpp"

namespace ephfs::node {
namespace {

namespace files = std::filesystem;
using core::Error;
using core::fail;
using core::fail_errno;

// docs/formats.md, "Receipt files", has the grammar.
constexpr std::string_view kMagic = "EPHRCPTS";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeadBytes = 12;
constexpr std::size_t kCheckBytes = 8;
constexpr std::string_view kSuffix = ".receipts";
constexpr std::size_t kNameDigits = 16;
// A file is appended to in runs of so many bytes at most.
constexpr std::size_t kSegmentBytesMax = std::size_t{64} << 20U;

core::Bytes encode_head() {
  core::Bytes head(kHeadBytes);
  std::ranges::copy(core::as_bytes(kMagic), head.begin());
  core::store_le(core::MutableByteView(head).subspan(kMagic.size()), kVersion);
  return head;
}

/// length, envelope, and the first bytes of the SHA-256 of both.
void encode_record(core::Bytes& out, const core::Bytes& envelope) {
  const std::size_t start = out.size();
  out.resize(start + sizeof(std::uint32_t));
  core::store_le(core::MutableByteView(out).subspan(start), static_cast<std::uint32_t>(envelope.size()));
  out.insert(out.end(), envelope.begin(), envelope.end());
  const auto sum = core::sha256(core::ByteView(out).subspan(start));
  out.insert(out.end(), sum.view().begin(), sum.view().begin() + kCheckBytes);
}

/// The envelope that begins at `offset`; none when there is no whole, sound record.
std::optional<core::ByteView> record_at(core::ByteView file, std::size_t offset) {
  if (file.size() - offset < sizeof(std::uint32_t)) return std::nullopt;
  const auto length = core::load_le<std::uint32_t>(file.subspan(offset));
  if (length == 0 || length > core::kEnvelopeBytesMax) return std::nullopt;
  const std::size_t body = sizeof(std::uint32_t) + length;
  if (file.size() - offset < body + kCheckBytes) return std::nullopt;
  const auto sum = core::sha256(file.subspan(offset, body));
  if (!std::ranges::equal(sum.view().first(kCheckBytes), file.subspan(offset + body, kCheckBytes))) return std::nullopt;
  return file.subspan(offset + sizeof(std::uint32_t), length);
}

std::optional<std::uint64_t> number_of(std::string_view name) {
  if (name.size() != kNameDigits + kSuffix.size() || !name.ends_with(kSuffix)) return std::nullopt;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + kNameDigits, number, 16);
  if (error != std::errc{} || end != name.data() + kNameDigits || number == 0) return std::nullopt;
  return number;
}

}  // namespace

files::path FileReceiptStore::path_of(std::uint64_t segment) const {
  std::array<std::byte, sizeof segment> digits{};
  for (std::size_t i = 0; i < digits.size(); ++i)
    digits[digits.size() - 1 - i] = static_cast<std::byte>(segment >> (8 * i));
  return directory_ / (core::to_hex(digits) + std::string(kSuffix));
}

Result<std::unique_ptr<FileReceiptStore>> FileReceiptStore::open(const files::path& directory, core::Instant now,
                                                                 ReceiptLimits limits) {
  const files::path root = directory / "receipts";
  if (::mkdir(root.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno("mkdir " + root.string());
  EPHFS_TRY_VOID(core::sync_directory(directory));
  std::unique_ptr<FileReceiptStore> store(new FileReceiptStore(root, limits));
  std::vector<std::uint64_t> numbers;
  std::error_code error;
  for (files::directory_iterator entry(root, error), end; !error && entry != end; entry.increment(error)) {
    if (const auto number = number_of(entry->path().filename().string())) numbers.push_back(*number);
  }
  if (error) return fail_errno("read " + root.string(), error.value());
  std::ranges::sort(numbers);
  for (const std::uint64_t number : numbers) {
    EPHFS_TRY_VOID(store->load(number, number == numbers.back()));
    store->next_segment_ = number + 1;
  }
  EPHFS_TRY_VOID(store->drop_old(now, 0));
  return store;
}

Result<> FileReceiptStore::load(std::uint64_t number, bool is_last) {
  const files::path path = path_of(number);
  EPHFS_TRY(const auto content, core::read_file(path, kSegmentBytesMax));
  const core::ByteView file(content);
  const auto head = encode_head();
  if (file.size() < kHeadBytes && std::ranges::equal(file, core::ByteView(head).first(file.size()))) {
    // A file that was begun and not finished.
    if (::unlink(path.c_str()) != 0) return fail_errno("unlink " + path.string());
    return {};
  }
  if (file.size() < kHeadBytes || core::as_text(file.first(kMagic.size())) != kMagic) {
    return fail(Error::damaged, path.string() + ": not a receipt file");
  }
  const auto version = core::load_le<std::uint32_t>(file.subspan(kMagic.size()));
  if (version != kVersion) return fail(Error::version, path.string() + ": version " + std::to_string(version));

  Segment segment;
  EPHFS_TRY(segment.file, core::open_file(path, O_RDWR));
  segment.bytes = kHeadBytes;
  while (segment.bytes < file.size()) {
    const auto record = record_at(file, segment.bytes);
    const auto envelope = record ? core::Envelope::parse(*record) : Result<core::Envelope>(fail(Error::damaged));
    // What this node signed and wrote itself is not verified again for each start: the owner does, who does not trust
    // it.
    const auto receipt = envelope ? core::read_receipt(*envelope) : Result<core::Receipt>(fail(Error::damaged));
    if (!receipt) break;
    if (segment.receipts++ == 0) segment.first = receipt->at;
    segment.last = std::max(segment.last, receipt->at);
    places_[receipt->shard] = {number, static_cast<std::uint32_t>(segment.bytes + sizeof(std::uint32_t)),
                               static_cast<std::uint32_t>(record->size())};
    segment.bytes += sizeof(std::uint32_t) + record->size() + kCheckBytes;
  }
  if (segment.bytes < file.size()) {
    if (!is_last) core::log_line(path.string() + ": damaged at byte " + std::to_string(segment.bytes));
    if (::ftruncate(segment.file.get(), static_cast<off_t>(segment.bytes)) != 0) {
      return fail_errno("cut " + path.string());
    }
    EPHFS_TRY_VOID(core::sync_data(segment.file));
  }
  receipts_ += segment.receipts;
  segments_.emplace(number, std::move(segment));
  return {};
}

Result<> FileReceiptStore::append(const std::vector<KeptReceipt>& receipts) {
  if (receipts.empty()) return {};
  const std::lock_guard lock(mutex_);
  EPHFS_TRY_VOID(drop_old(receipts.back().receipt.at, receipts.size()));
  for (std::size_t done = 0; done < receipts.size();) {
    const bool fits = !segments_.empty() && segments_.rbegin()->second.receipts < limits_.segment_receipts &&
                      (segments_.rbegin()->second.receipts == 0 ||
                       receipts[done].receipt.at - segments_.rbegin()->second.first < limits_.segment_span);
    if (!fits) EPHFS_TRY_VOID(begin_segment());
    const std::uint64_t room = limits_.segment_receipts - segments_.rbegin()->second.receipts;
    const std::size_t count = std::min<std::uint64_t>(room, receipts.size() - done);
    EPHFS_TRY_VOID(append_some(receipts.data() + done, count));
    done += count;
  }
  return {};
}

/// Mutex held. To the last file, which has room for them.
Result<> FileReceiptStore::append_some(const KeptReceipt* receipts, std::size_t count) {
  auto& [number, segment] = *segments_.rbegin();
  core::Bytes run;
  std::vector<std::pair<core::ShardId, Place>> places;
  for (std::size_t i = 0; i < count; ++i) {
    const auto envelope = receipts[i].envelope.serialize();
    const std::uint64_t at = segment.bytes + run.size() + sizeof(std::uint32_t);
    places.emplace_back(receipts[i].receipt.shard,
                        Place{number, static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(envelope.size())});
    encode_record(run, envelope);
  }
  // Whatever a failure leaves behind the last whole receipt is written over by the next run, or cut by the next start.
  EPHFS_TRY_VOID(core::write_all(segment.file, segment.bytes, run));
  EPHFS_TRY_VOID(core::sync_data(segment.file));
  if (segment.receipts == 0) segment.first = receipts[0].receipt.at;
  for (std::size_t i = 0; i < count; ++i) segment.last = std::max(segment.last, receipts[i].receipt.at);
  segment.bytes += run.size();
  segment.receipts += count;
  receipts_ += count;
  for (const auto& [shard, place] : places) places_[shard] = place;
  return {};
}

Result<> FileReceiptStore::begin_segment() {
  const std::uint64_t number = next_segment_;
  Segment segment;
  EPHFS_TRY(segment.file, core::open_file(path_of(number), O_RDWR | O_CREAT | O_TRUNC, 0600));
  EPHFS_TRY_VOID(core::write_all(segment.file, 0, encode_head()));
  EPHFS_TRY_VOID(core::sync_directory(directory_));
  segment.bytes = kHeadBytes;
  ++next_segment_;
  segments_.emplace(number, std::move(segment));
  return {};
}

Result<> FileReceiptStore::drop_old(core::Instant now, std::uint64_t coming) {
  while (!segments_.empty()) {
    const Segment& oldest = segments_.begin()->second;
    const bool too_old = oldest.last + limits_.kept < now;
    if (!too_old && receipts_ + coming <= limits_.receipts) break;
    EPHFS_TRY_VOID(drop_first());
  }
  return {};
}

Result<> FileReceiptStore::drop_first() {
  const auto oldest = segments_.begin();
  const std::uint64_t number = oldest->first;
  const files::path path = path_of(number);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno("unlink " + path.string());
  receipts_ -= oldest->second.receipts;
  segments_.erase(oldest);
  std::erase_if(places_, [number](const auto& entry) { return entry.second.segment == number; });
  return {};
}

Result<std::optional<core::Envelope>> FileReceiptStore::find(const core::ShardId& shard) const {
  const std::lock_guard lock(mutex_);
  const auto found = places_.find(shard);
  if (found == places_.end()) return std::optional<core::Envelope>();
  const Place& place = found->second;
  core::Bytes bytes(place.length);
  EPHFS_TRY_VOID(core::read_exactly(segments_.at(place.segment).file, place.offset, bytes));
  EPHFS_TRY(auto envelope, core::Envelope::parse(bytes));
  return std::optional<core::Envelope>(std::move(envelope));
}

std::uint64_t FileReceiptStore::size() const {
  const std::lock_guard lock(mutex_);
  return places_.size();
}

}  // namespace ephfs::node
