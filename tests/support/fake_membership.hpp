// SPDX-License-Identifier: Apache-2.0
// A pool's members in memory. Thread-safe.
#pragma once

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "net/membership.hpp"

namespace ephfs::testing {

class FakeMembership final : public net::Membership {
 public:
  explicit FakeMembership(const core::PoolId& pool) : pool_(pool) {}

  void add(const net::Member& member) {
    const std::lock_guard lock(mutex_);
    members_.insert_or_assign(member.id, member);
    ++version_;
  }
  void drop(const core::NodeId& id) {
    const std::lock_guard lock(mutex_);
    members_.erase(id);
    ++version_;
  }
  /// Opens an invitation for one.
  void invite(core::ByteView secret) {
    const std::lock_guard lock(mutex_);
    secrets_.push_back(core::to_bytes(secret));
  }
  [[nodiscard]] bool knows(const net::Member& member) const {
    const std::lock_guard lock(mutex_);
    const auto found = members_.find(member.id);
    return found != members_.end() && found->second == member;
  }

  [[nodiscard]] core::PoolId pool() const override { return pool_; }
  [[nodiscard]] bool admits(const core::NodeId& id) const override {
    const std::lock_guard lock(mutex_);
    return members_.contains(id);
  }
  [[nodiscard]] std::vector<net::Member> members() const override {
    const std::lock_guard lock(mutex_);
    std::vector<net::Member> all;
    for (const auto& [id, member] : members_) all.push_back(member);
    return all;
  }
  [[nodiscard]] std::uint64_t version() const override {
    const std::lock_guard lock(mutex_);
    return version_;
  }
  [[nodiscard]] core::Result<> admit(const net::Member& stranger, core::ByteView secret) override {
    const std::lock_guard lock(mutex_);
    const auto found = std::find(secrets_.begin(), secrets_.end(), core::to_bytes(secret));
    if (found == secrets_.end()) return core::fail(core::Error::not_permitted, "no such invitation");
    secrets_.erase(found);
    members_.insert_or_assign(stranger.id, stranger);
    ++version_;
    return {};
  }
  void learn(const std::vector<net::Member>& others) override {
    for (const auto& member : others) add(member);
  }

 private:
  const core::PoolId pool_;
  mutable std::mutex mutex_;
  std::map<core::NodeId, net::Member> members_;
  std::uint64_t version_ = 0;
  std::vector<core::Bytes> secrets_;
};

}  // namespace ephfs::testing
