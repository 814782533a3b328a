// SPDX-License-Identifier: Apache-2.0
// The shares that a node keeps, as files: DIR/shares/HEX.share, and beside a counted one HEX.taken (docs/formats.md,
// "Share files").
//
// Invariants. A share under its whole name is whole. A counted share's number of takes is the length of its HEX.taken,
// which only grows, and has grown on stable storage before the share is given out; so no crash gives a take back. A
// counted share without that file is never given out. Thread-safe: shares are few, and one mutex is held over the disk
// work of each call. The node's store of shards keeps a second process out of the directory.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "net/peer.hpp"

namespace ephfs::node {

using core::Result;

constexpr std::size_t kSharesMax = 4096;
constexpr std::uint64_t kSharesBytesMax = std::uint64_t{512} << 20U;  // of contents
/// So many wrong tokens for one share in a minute, and nobody is given it for the rest of that minute.
constexpr unsigned kWrongTokensMax = 16;

class ShareStore {
 public:
  /// Opens the shares of a node's directory. What a crash left unfinished, what has ended at `now`, and what is
  /// damaged, is deleted; the last with a line in the log. version, naming the file, for a share of a later ephfs.
  [[nodiscard]] static Result<std::unique_ptr<ShareStore>> open(const std::filesystem::path& directory,
                                                                core::Instant now);

  /// The grant has been checked, and the content against it. exists, no_space.
  [[nodiscard]] Result<> put(const core::ShareGrant& grant, const core::Envelope& envelope, core::ByteView content);
  /// not_found, not_permitted, busy, quota_exceeded as Peer::take_share() says; damaged when the file fails its check,
  /// and then nothing is counted.
  [[nodiscard]] Result<net::TakenShare> take(const net::ShareClaim& claim, core::Instant now, core::Boottime boot);
  [[nodiscard]] Result<> drop(const core::ShareDrop& drop);

  [[nodiscard]] core::Deadline next_deadline() const;
  struct Ended {
    std::size_t deleted = 0;
    Result<> outcome;
  };
  /// Deletes up to `limit` shares that have ended at `now`, earliest first.
  [[nodiscard]] Ended remove_expired(core::Instant now, std::size_t limit);
  [[nodiscard]] std::size_t size() const;

 private:
  struct Held {
    core::ShareGrant grant;
    core::Envelope envelope;
    std::uint64_t taken = 0;
    unsigned wrong_tokens = 0;  // since `wrong_since`
    core::Boottime wrong_since;
  };

  explicit ShareStore(std::filesystem::path root) : root_(std::move(root)) {}
  [[nodiscard]] std::filesystem::path share_file(const core::ShareId& share) const {
    return root_ / (share.hex() + ".share");
  }
  [[nodiscard]] std::filesystem::path taken_file(const core::ShareId& share) const {
    return root_ / (share.hex() + ".taken");
  }
  [[nodiscard]] Result<> scan(core::Instant now);
  [[nodiscard]] Result<> adopt(const core::ShareId& share, core::Instant now);
  [[nodiscard]] Result<> check_token(Held& held, const net::ShareClaim& claim, core::Boottime boot);
  [[nodiscard]] Result<> count(Held& held);
  void index(Held held);
  [[nodiscard]] Result<> remove(const core::ShareId& share);

  const std::filesystem::path root_;  // DIR/shares
  mutable std::mutex mutex_;          // guards what follows, and the files
  std::map<core::ShareId, Held> held_;
  std::set<std::pair<core::Deadline, core::ShareId>> by_deadline_;
  std::uint64_t bytes_ = 0;
};

}  // namespace ephfs::node
