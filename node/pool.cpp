// SPDX-License-Identifier: Apache-2.0
#include "node/pool.hpp"

#include <algorithm>

#include <sys/stat.h>

#include "core/log.hpp"

namespace ephfs::node {
namespace {

using core::Error;
using core::fail;

std::unordered_map<core::NodeId, std::string> by_id(const std::vector<core::PeerAddress>& peers) {
  std::unordered_map<core::NodeId, std::string> addresses;
  for (const auto& peer : peers) addresses.insert_or_assign(peer.id, peer.address);
  return addresses;
}

/// Puts a member into the list, or its address right; whether that changed anything.
bool merge_member(PoolFile& file, const net::Member& member) {
  for (auto& known : file.others) {
    if (known.id != member.id) continue;
    if (member.address.empty() || known.address == member.address) return false;
    known.address = member.address;
    return true;
  }
  if (file.others.size() >= net::kMembersMax) return false;
  file.others.push_back(member);
  std::ranges::sort(file.others, {}, &net::Member::id);
  return true;
}

}  // namespace

Result<std::unique_ptr<Pool>> Pool::open(std::filesystem::path directory, core::Clock& clock, net::Member self,
                                         std::vector<core::PeerAddress> static_peers) {
  for (const auto& peer : static_peers) {
    if (peer.address.empty() || !is_plausible({peer.id, peer.address})) {
      return fail(Error::invalid_argument, "peer " + peer.id.hex() + " " + peer.address);
    }
  }
  std::erase_if(static_peers, [&](const core::PeerAddress& peer) { return peer.id == self.id; });
  if (!is_plausible(self)) return fail(Error::invalid_argument, "address " + self.address);
  std::unique_ptr<Pool> pool(new Pool(std::move(directory), clock, std::move(self), std::move(static_peers)));
  EPHFS_TRY_VOID(pool->update([](PoolFile&) { return true; }));
  return pool;
}

Pool::Pool(std::filesystem::path directory, core::Clock& clock, net::Member self,
           std::vector<core::PeerAddress> static_peers)
    : directory_(std::move(directory)),
      file_(pool_path(directory_)),
      clock_(clock),
      static_peers_(by_id(static_peers)),
      self_(std::move(self)) {}

core::PoolId Pool::pool() const {
  const std::lock_guard lock(mutex_);
  refresh_locked();
  return pool_;
}

bool Pool::admits(const core::NodeId& id) const {
  const std::lock_guard lock(mutex_);
  refresh_locked();
  return id == self_.id || static_peers_.contains(id) || others_.contains(id);
}

std::vector<net::Member> Pool::members() const {
  const std::lock_guard lock(mutex_);
  refresh_locked();
  std::vector<net::Member> members{self_};
  for (const auto& [id, address] : static_peers_) members.push_back({id, address});
  for (const auto& [id, address] : others_) {
    if (!static_peers_.contains(id)) members.push_back({id, address});
  }
  std::ranges::sort(std::next(members.begin()), members.end(), {}, &net::Member::id);
  return members;
}

std::uint64_t Pool::version() const {
  const std::lock_guard lock(mutex_);
  refresh_locked();
  return version_;
}

Result<> Pool::admit(const net::Member& stranger, core::ByteView secret) {
  if (!is_plausible(stranger)) return fail(Error::invalid_argument, "a member's address");
  if (!admits(stranger.id)) EPHFS_TRY_VOID(use_invitation(secret));
  EPHFS_TRY_VOID(update([&](PoolFile& file) { return merge_member(file, stranger); }));
  if (admitted_listener_) admitted_listener_(stranger);
  return {};
}

Result<> Pool::use_invitation(core::ByteView secret) {
  const core::ShardId hash = core::sha256(secret);
  EPHFS_TRY(const auto lock, lock_pool(directory_));
  EPHFS_TRY(auto invitations, read_invitations(directory_));
  const core::Instant now = clock_.now();
  std::erase_if(invitations, [this](const Invitation& one) { return clock_.confirmed_now() >= one.expires; });
  auto opened = invitations.end();
  for (auto one = invitations.begin(); one != invitations.end(); ++one) {
    const bool same = core::equal_in_constant_time(one->secret_hash.view(), hash.view());
    if (same && now < one->expires) opened = one;
  }
  if (opened == invitations.end()) {
    return fail(Error::not_permitted, "the invitation is unknown, used up or expired");
  }
  if (--opened->uses == 0) invitations.erase(opened);
  return write_invitations(directory_, invitations);
}

void Pool::learn(const std::vector<net::Member>& others) {
  const auto merge_all = [&](PoolFile& file) {
    bool changed = false;
    for (const auto& member : others) {
      if (member.id == file.self.id || !is_plausible(member)) continue;
      if (merge_member(file, member)) changed = true;
    }
    return changed;
  };
  {
    // News are mostly old; those cost no lock on the file.
    const std::lock_guard lock(mutex_);
    refresh_locked();
    const bool all_known = std::ranges::all_of(others, [&](const net::Member& member) {
      if (member.id == self_.id) return true;
      const auto known = others_.find(member.id);
      return known != others_.end() && (member.address.empty() || known->second == member.address);
    });
    if (all_known) return;
  }
  if (const auto learnt = update(merge_all); !learnt) core::log_line(learnt.error().message());
}

Result<> Pool::set_own_address(std::string address) {
  {
    const std::lock_guard lock(mutex_);
    const net::Member self{self_.id, address};
    if (!is_plausible(self)) return fail(Error::invalid_argument, "address " + address);
    self_ = self;
    ++version_;
  }
  return update([](PoolFile&) { return true; });
}

Pool::FileVersion Pool::current_version() const {
  struct stat status {};
  if (::stat(file_.c_str(), &status) != 0) return {};
  return {status.st_ino, status.st_mtim.tv_sec * std::int64_t{1'000'000'000} + status.st_mtim.tv_nsec, status.st_size};
}

void Pool::refresh_locked() const {
  const FileVersion version = current_version();
  if (version == file_version_) return;
  auto file = load_locked();
  if (!file) {
    // The file is replaced in one step, so this is damage, not a moment: what was known stays true.
    core::log_line(file.error().message());
    file_version_ = version;
    return;
  }
  pool_ = file->pool;
  others_.clear();
  for (auto& member : file->others) others_.insert_or_assign(member.id, std::move(member.address));
  others_.erase(self_.id);
  file_version_ = version;
  ++version_;
}

Result<PoolFile> Pool::load_locked() const {
  EPHFS_TRY(auto file, read_pool_file(directory_));
  if (file) return std::move(*file);
  // There is none yet, or somebody deleted it under a running node.
  PoolFile known{pool_.is_zero() ? core::random_id<core::PoolId>() : pool_, self_, {}};
  for (const auto& [id, address] : others_) known.others.push_back({id, address});
  return known;
}

Result<> Pool::update(const std::function<bool(PoolFile&)>& change) {
  EPHFS_TRY(const auto file_lock, lock_pool(directory_));
  const std::lock_guard lock(mutex_);
  EPHFS_TRY(PoolFile file, load_locked());
  file.self = self_;
  std::erase_if(file.others, [&](const net::Member& member) { return member.id == self_.id; });
  if (change(file)) EPHFS_TRY_VOID(write_pool_file(directory_, file));
  refresh_locked();
  return {};
}

}  // namespace ephfs::node
