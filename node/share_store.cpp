// SPDX-License-Identifier: Apache-2.0
#include "node/share_store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/files.hpp"
#include "core/little_endian.hpp"
#include "core/log.hpp"
#include "core/secret.hpp"

namespace ephfs::node {
namespace {

namespace files = std::filesystem;
using core::Bytes;
using core::ByteView;
using core::Error;
using core::fail;

constexpr std::string_view kMagic = "EPHSHARE";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeadBytes = 8 + 4 + 4 + 8;
constexpr std::size_t kSumBytes = 32;
constexpr std::size_t kFileBytesMax = kHeadBytes + core::kEnvelopeBytesMax + core::kShareBytesMax + kSumBytes;
constexpr core::Nanoseconds kWrongTokensSpan = std::chrono::minutes(1);

Bytes encode(const core::Envelope& envelope, ByteView content) {
  const Bytes statement = envelope.serialize();
  Bytes out(kHeadBytes);
  const core::MutableByteView head(out);
  std::ranges::copy(core::as_bytes(kMagic), out.begin());
  core::store_le(head.subspan(8), kVersion);
  core::store_le(head.subspan(12), static_cast<std::uint32_t>(statement.size()));
  core::store_le(head.subspan(16), std::uint64_t{content.size()});
  out.insert(out.end(), statement.begin(), statement.end());
  out.insert(out.end(), content.begin(), content.end());
  const auto sum = core::sha256(out);
  out.insert(out.end(), sum.view().begin(), sum.view().end());
  return out;
}

struct ShareFile {
  core::Envelope envelope;
  core::ShareGrant grant;
  core::SharedBytes content;
};

Result<ShareFile> read_share(const files::path& path) {
  const auto damaged = [&](const char* what) { return fail(Error::damaged, path.string() + ": " + what); };
  EPHFS_TRY(const Bytes bytes, core::read_file(path, kFileBytesMax));
  if (bytes.size() < kHeadBytes || core::as_text(ByteView(bytes).first(kMagic.size())) != kMagic) {
    return damaged("not a share file");
  }
  const ByteView all(bytes);
  if (const auto version = core::load_le<std::uint32_t>(all.subspan(8)); version != kVersion) {
    return fail(Error::version, path.string() + " is of version " + std::to_string(version));
  }
  const std::uint64_t envelope_bytes = core::load_le<std::uint32_t>(all.subspan(12));
  const std::uint64_t content_bytes = core::load_le<std::uint64_t>(all.subspan(16));
  if (envelope_bytes > core::kEnvelopeBytesMax || content_bytes > core::kShareBytesMax ||
      bytes.size() != kHeadBytes + envelope_bytes + content_bytes + kSumBytes) {
    return damaged("of a wrong length");
  }
  const ByteView summed = all.first(bytes.size() - kSumBytes);
  if (!std::ranges::equal(core::sha256(summed).view(), all.last(kSumBytes))) return damaged("fails its checksum");
  ShareFile file;
  EPHFS_TRY(file.envelope, core::Envelope::parse(all.subspan(kHeadBytes, envelope_bytes)));
  EPHFS_TRY(file.grant, core::open_share_grant(file.envelope));
  file.content = core::SharedBytes::copy_of(all.subspan(kHeadBytes + envelope_bytes, content_bytes));
  if (file.grant.content_bytes != content_bytes) return damaged("of a wrong length");
  return file;
}

Result<> unlink_file(const files::path& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return core::fail_errno("unlink " + path.string());
}

}  // namespace

Result<std::unique_ptr<ShareStore>> ShareStore::open(const files::path& directory, core::Instant now) {
  const auto root = directory / "shares";
  if (::mkdir(root.c_str(), 0700) != 0 && errno != EEXIST) return core::fail_errno("create " + root.string());
  EPHFS_TRY_VOID(core::sync_directory(directory));
  std::unique_ptr<ShareStore> store(new ShareStore(root));
  if (const auto scanned = store->scan(now); !scanned) return scanned.error();
  return store;
}

Result<> ShareStore::scan(core::Instant now) {
  std::error_code error;
  std::vector<files::path> found;
  for (const auto& entry : files::directory_iterator(root_, error)) found.push_back(entry.path());
  if (error) return core::fail_errno("list " + root_.string(), error.value());
  for (const auto& path : found) {
    const auto share = core::ShareId::from_hex(path.stem().string());
    if (path.filename().string().starts_with(".ephfs-new-")) {
      EPHFS_TRY_VOID(unlink_file(path));
    } else if (share && path.extension() == ".share") {
      EPHFS_TRY_VOID(adopt(*share, now));
    } else if (share && path.extension() == ".taken" && !files::exists(share_file(*share), error)) {
      EPHFS_TRY_VOID(unlink_file(path));
    }
  }
  return {};
}

Result<> ShareStore::adopt(const core::ShareId& share, core::Instant now) {
  auto file = read_share(share_file(share));
  if (!file && file.error().code == Error::version) return file.error();
  Held held;
  std::string fault;
  if (!file) {
    fault = file.error().message();
  } else if (file->grant.share != share) {
    fault = share_file(share).string() + " is another share";
  } else {
    held.grant = file->grant;
    held.envelope = file->envelope;
    struct stat status {};
    if (held.grant.fetches_max > 0) {
      if (::stat(taken_file(share).c_str(), &status) != 0) fault = share_file(share).string() + " has lost its count";
      held.taken = static_cast<std::uint64_t>(status.st_size);
    }
  }
  if (!fault.empty()) core::log_line("deleted: " + fault);
  if (!fault.empty() || held.grant.deadline.passed(now)) {
    EPHFS_TRY_VOID(unlink_file(share_file(share)));
    return unlink_file(taken_file(share));
  }
  index(std::move(held));
  return {};
}

void ShareStore::index(Held held) {
  bytes_ += held.grant.content_bytes;
  by_deadline_.emplace(held.grant.deadline, held.grant.share);
  const core::ShareId share = held.grant.share;
  held_.emplace(share, std::move(held));
}

Result<> ShareStore::put(const core::ShareGrant& grant, const core::Envelope& envelope, ByteView content) {
  const std::lock_guard lock(mutex_);
  if (const auto found = held_.find(grant.share); found != held_.end()) {
    if (found->second.envelope == envelope) return {};
    return fail(Error::exists, "share " + grant.share.hex());
  }
  if (held_.size() >= kSharesMax || grant.content_bytes > kSharesBytesMax - bytes_) {
    return fail(Error::no_space, "this node keeps as many shares as it may");
  }
  if (grant.fetches_max > 0) {
    // The count before the share: one that is there without it counts as damaged.
    EPHFS_TRY(const auto taken, core::open_file(taken_file(grant.share), O_WRONLY | O_CREAT | O_TRUNC));
    EPHFS_TRY_VOID(core::sync_data(taken));
  }
  if (auto written = core::replace_file(share_file(grant.share), encode(envelope, content), 0600); !written) {
    (void)unlink_file(taken_file(grant.share));
    return written;
  }
  Held held;
  held.grant = grant;
  held.envelope = envelope;
  index(std::move(held));
  return {};
}

Result<> ShareStore::check_token(Held& held, const net::ShareClaim& claim, core::Boottime boot) {
  if (boot - held.wrong_since >= kWrongTokensSpan) held.wrong_tokens = 0;
  if (held.wrong_tokens >= kWrongTokensMax) return fail(Error::busy, "too many wrong tokens for this share");
  const auto hash = core::sha256(claim.token.view());
  if (core::equal_in_constant_time(hash.view(), held.grant.token_hash.view())) return {};
  if (held.wrong_tokens++ == 0) held.wrong_since = boot;
  return fail(Error::not_permitted, "the link is not this share's");
}

/// One take more, on stable storage.
Result<> ShareStore::count(Held& held) {
  const auto path = taken_file(held.grant.share);
  // Without O_CREAT: a count that has gone is not begun anew.
  EPHFS_TRY(const auto file, core::open_file(path, O_WRONLY));
  const std::byte mark{1};
  EPHFS_TRY_VOID(core::write_all(file, held.taken, ByteView(&mark, 1)));
  // From here on it may be on the disk, whatever the sync says.
  ++held.taken;
  return core::sync_data(file);
}

Result<net::TakenShare> ShareStore::take(const net::ShareClaim& claim, core::Instant now, core::Boottime boot) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(claim.share);
  if (found == held_.end() || found->second.grant.deadline.passed(now)) {
    return fail(Error::not_found, "share " + claim.share.hex());
  }
  Held& held = found->second;
  EPHFS_TRY_VOID(check_token(held, claim, boot));
  const std::uint64_t most = held.grant.fetches_max;
  if (most > 0 && held.taken >= most) {
    return fail(Error::quota_exceeded,
                "the share was fetched " + std::to_string(most) + " times, as often as it may be");
  }
  EPHFS_TRY(auto file, read_share(share_file(claim.share)));
  if (file.grant != held.grant) return fail(Error::damaged, "share " + claim.share.hex());
  if (most > 0) EPHFS_TRY_VOID(count(held));
  net::TakenShare taken;
  taken.grant = std::move(file.envelope);
  taken.content = std::move(file.content);
  taken.fetches_left = most > 0 ? static_cast<std::uint32_t>(most - held.taken) : 0;
  return taken;
}

Result<> ShareStore::remove(const core::ShareId& share) {
  const auto found = held_.find(share);
  EPHFS_TRY_VOID(unlink_file(share_file(share)));
  EPHFS_TRY_VOID(unlink_file(taken_file(share)));
  by_deadline_.erase({found->second.grant.deadline, share});
  bytes_ -= found->second.grant.content_bytes;
  held_.erase(found);
  return {};
}

Result<> ShareStore::drop(const core::ShareDrop& drop) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(drop.share);
  if (found == held_.end()) return fail(Error::not_found, "share " + drop.share.hex());
  if (found->second.grant.owner != drop.owner) return fail(Error::not_permitted, "the share is another owner's");
  EPHFS_TRY_VOID(remove(drop.share));
  return core::sync_directory(root_);
}

core::Deadline ShareStore::next_deadline() const {
  const std::lock_guard lock(mutex_);
  return by_deadline_.empty() ? core::Deadline::never() : by_deadline_.begin()->first;
}

ShareStore::Ended ShareStore::remove_expired(core::Instant now, std::size_t limit) {
  const std::lock_guard lock(mutex_);
  Ended ended;
  while (ended.deleted < limit && !by_deadline_.empty() && by_deadline_.begin()->first.passed(now)) {
    ended.outcome = remove(by_deadline_.begin()->second);
    if (!ended.outcome) break;
    ++ended.deleted;
  }
  return ended;
}

std::size_t ShareStore::size() const {
  const std::lock_guard lock(mutex_);
  return held_.size();
}

}  // namespace ephfs::node
