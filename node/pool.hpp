// SPDX-License-Identifier: Apache-2.0
// The pool as a running node knows it: the pool file, kept in step with what the command line writes while the node
// runs, and the peers named by hand, who belong to it without being written down. Everybody in a pool trusts
// everybody's word on who else is in it. Thread-safe; `mutex_` guards the copy in memory.
#pragma once

#include <functional>
#include <mutex>
#include <unordered_map>

#include <sys/types.h>

#include "core/clock.hpp"
#include "core/config.hpp"
#include "node/pool_files.hpp"

namespace ephfs::node {

class Pool final : public net::Membership {
 public:
  /// Opens the pool of `directory`, or makes one with nobody else in it. `self` and `address` replace what the file
  /// says of this node. invalid_argument for a peer by hand without a usable id or address.
  [[nodiscard]] static Result<std::unique_ptr<Pool>> open(std::filesystem::path directory, core::Clock& clock,
                                                          net::Member self,
                                                          std::vector<core::PeerAddress> static_peers);

  [[nodiscard]] core::PoolId pool() const override;
  [[nodiscard]] bool admits(const core::NodeId& id) const override;
  /// Everybody, this node first.
  [[nodiscard]] std::vector<net::Member> members() const override;
  [[nodiscard]] std::uint64_t version() const override;
  /// Somebody who is in already stays in and uses nothing up: an answer may have been lost.
  [[nodiscard]] Result<> admit(const net::Member& stranger, core::ByteView secret) override;
  /// What is unknown or implausible in itself is left out. An address that differs replaces the one known, except that
  /// of a peer by hand.
  void learn(const std::vector<net::Member>& others) override;
  /// Whom to tell that somebody was taken in, so that the others hear of it too. Set before the first admit(); called
  /// without a lock held.
  void on_admitted(std::function<void(const net::Member&)> listener) { admitted_listener_ = std::move(listener); }
  /// Writes down where others reach this node; empty when it does not listen.
  [[nodiscard]] Result<> set_own_address(std::string address);

 private:
  struct FileVersion {
    ino_t inode = 0;
    std::int64_t modified_ns = 0;
    off_t size = -1;
    friend bool operator==(const FileVersion&, const FileVersion&) = default;
  };

  Pool(std::filesystem::path directory, core::Clock& clock, net::Member self,
       std::vector<core::PeerAddress> static_peers);
  [[nodiscard]] FileVersion current_version() const;
  void refresh_locked() const;
  [[nodiscard]] Result<PoolFile> load_locked() const;
  /// Reads the file under the pool's lock, lets `change` alter it, and writes it when that says that it did.
  [[nodiscard]] Result<> update(const std::function<bool(PoolFile&)>& change);
  [[nodiscard]] Result<> use_invitation(core::ByteView secret);

  const std::filesystem::path directory_;
  const std::string file_;  // the pool's file in it
  core::Clock& clock_;
  const std::unordered_map<core::NodeId, std::string> static_peers_;
  std::function<void(const net::Member&)> admitted_listener_;

  mutable std::mutex mutex_;  // guards all below
  net::Member self_;
  mutable core::PoolId pool_;
  mutable std::unordered_map<core::NodeId, std::string> others_;
  mutable FileVersion file_version_;
  mutable std::uint64_t version_ = 0;
};

}  // namespace ephfs::node
