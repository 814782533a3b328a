// SPDX-License-Identifier: Apache-2.0
#include "fs/share_book.hpp"

#include "core/little_endian.hpp"

namespace ephfs::fs {
namespace {

using core::Error;
using core::fail;

constexpr const char* kSetting = "shares";
constexpr std::byte kVersion{1};
constexpr std::size_t kFixedBytes = core::ShareId::kSize + 8 + 8 + 1;

void append(core::Bytes& out, core::ByteView bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void encode(const KeptShare& share, core::Bytes& out) {
  append(out, share.id.view());
  std::array<std::byte, 16> numbers{};
  core::store_le(core::MutableByteView(numbers).first(8), share.inode.value);
  core::store_le(core::MutableByteView(numbers).last(8), share.deadline.raw());
  append(out, numbers);
  out.push_back(static_cast<std::byte>(share.nodes.size()));
  for (const auto& node : share.nodes) append(out, node.view());
}

Result<std::vector<KeptShare>> decode(core::ByteView bytes) {
  const auto damaged = fail(Error::damaged, "the catalog's list of shares");
  if (bytes.empty()) return damaged;
  if (bytes[0] != kVersion) return fail(Error::version, "the catalog's list of shares");
  bytes = bytes.subspan(1);
  std::vector<KeptShare> shares;
  while (!bytes.empty()) {
    if (bytes.size() < kFixedBytes || shares.size() >= kSharesKeptMax) return damaged;
    KeptShare share;
    share.id = *core::ShareId::from_bytes(bytes.first(core::ShareId::kSize));
    share.inode = {core::load_le<std::uint64_t>(bytes.subspan(core::ShareId::kSize))};
    share.deadline = Deadline::from_raw(core::load_le<std::int64_t>(bytes.subspan(core::ShareId::kSize + 8)));
    const auto nodes = std::to_integer<std::size_t>(bytes[kFixedBytes - 1]);
    bytes = bytes.subspan(kFixedBytes);
    if (nodes > net::kShareHoldersMax || bytes.size() < nodes * core::NodeId::kSize) return damaged;
    for (std::size_t i = 0; i < nodes; ++i) {
      share.nodes.push_back(*core::NodeId::from_bytes(bytes.first(core::NodeId::kSize)));
      bytes = bytes.subspan(core::NodeId::kSize);
    }
    shares.push_back(std::move(share));
  }
  return shares;
}

}  // namespace

Result<> ShareBook::load() {
  EPHFS_TRY(const auto kept, state_.catalog->value(kSetting));
  if (!kept) return {};
  EPHFS_TRY(auto shares, decode(*kept));
  const core::Instant now = state_.clock.confirmed_now();
  const std::lock_guard lock(mutex_);
  for (auto& share : shares) {
    if (share.deadline.passed(now)) continue;
    EPHFS_TRY(const auto inode, state_.catalog->inode(share.inode));
    if (!inode || inode->links == 0 || inode->deadline < share.deadline) {
      to_send_.push_back(std::move(share));
    } else {
      shares_.emplace(share.inode, std::move(share));
    }
  }
  count_ = shares_.size();
  return {};
}

void ShareBook::start() {
  const std::lock_guard lock(mutex_);
  started_ = true;
  if (!to_send_.empty()) send_soon_locked();
}

awaitable<void> ShareBook::stop() {
  refuse();
  co_await tasks_.join();
}

Result<> ShareBook::check_room() {
  const core::Instant now = state_.clock.confirmed_now();
  const std::lock_guard lock(mutex_);
  std::erase_if(shares_, [&](const auto& entry) { return entry.second.deadline.passed(now); });
  count_ = shares_.size();
  if (shares_.size() + to_send_.size() < kSharesKeptMax) return {};
  return fail(Error::quota_exceeded, "this volume has " + std::to_string(kSharesKeptMax) + " shares already");
}

Result<> ShareBook::add(KeptShare share) {
  EPHFS_TRY_VOID(check_room());
  const std::lock_guard lock(mutex_);
  const auto added = shares_.emplace(share.inode, std::move(share));
  auto committed = commit_locked();
  if (!committed) shares_.erase(added);
  count_ = shares_.size();
  return committed;
}

Result<> ShareBook::commit_locked() {
  core::Bytes value{kVersion};
  for (const auto& [inode, share] : shares_) encode(share, value);
  for (const auto& share : to_send_) encode(share, value);
  meta::Changes changes;
  changes.emplace_back(meta::PutValue{kSetting, std::move(value)});
  return state_.catalog->commit(changes);
}

void ShareBook::take_back(InodeNumber inode, Deadline latest) {
  if (count_ == 0) return;
  const std::lock_guard lock(mutex_);
  const auto [first, last] = shares_.equal_range(inode);
  for (auto one = first; one != last;) {
    if (one->second.deadline <= latest) {
      ++one;
      continue;
    }
    to_send_.push_back(std::move(one->second));
    one = shares_.erase(one);
  }
  count_ = shares_.size();
  if (!to_send_.empty()) send_soon_locked();
}

void ShareBook::send_soon_locked() {
  if (!started_ || sending_ || refusing_.stop_requested()) return;
  sending_ = true;
  tasks_.spawn(state_.executor, [this] { return send_all(); });
}

awaitable<void> ShareBook::send_all() {
  // Whoever spawned this holds the mutex, and on the loop's own thread a task begins at once.
  co_await core::asio::post(core::asio::use_awaitable);
  for (;;) {
    KeptShare share;
    {
      const std::lock_guard lock(mutex_);
      // What is still to be sent when the volume is unmounted is in the catalog, as it was.
      if (to_send_.empty() || refusing_.stop_requested()) {
        sending_ = false;
        co_return;
      }
      share = to_send_.front();
    }
    co_await send(std::move(share));
    const std::lock_guard lock(mutex_);
    to_send_.pop_front();
    if (!to_send_.empty()) continue;
    if (auto committed = commit_locked(); !committed) {
      state_.log("the list of shares: " + committed.error().message());
    }
  }
}

awaitable<void> ShareBook::send(KeptShare share) {
  for (const auto& node : share.nodes) {
    const auto peer = state_.peers.find(node);
    if (!peer) continue;
    const core::ShareDrop drop{share.id, node, *core::OwnerId::from_bytes(state_.owner.public_key().view())};
    const net::CallLimits limits{state_.clock.boot_now() + core::Nanoseconds(state_.options.peer_timeout), refusing()};
    // Once, and whatever comes of it: the share has a deadline.
    (void)co_await peer->drop_share(core::sign_share_drop(drop, state_.owner), limits);
  }
}

}  // namespace ephfs::fs
