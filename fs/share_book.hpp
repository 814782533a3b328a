// SPDX-License-Identifier: Apache-2.0
// Which shares of this volume's files lie on which nodes, so that they can be taken back: when the file loses its last
// name, or its deadline comes to lie before the share's. What ends at its own deadline needs nothing: the node sees to
// it.
//
// Kept as one value in the catalog's settings (docs/formats.md, "Shares"): there are few. Taking back is an order to
// each node, sent once, in the background; a node that does not hear it keeps the share until the deadline.
// Thread-safe.
#pragma once

#include <atomic>
#include <deque>
#include <mutex>
#include <unordered_map>

#include "core/async.hpp"
#include "core/records.hpp"
#include "fs/engine_state.hpp"

namespace ephfs::fs {

constexpr std::size_t kSharesKeptMax = 1024;

struct KeptShare {
  core::ShareId id;
  InodeNumber inode;
  Deadline deadline;
  std::vector<core::NodeId> nodes;
};

class ShareBook {
 public:
  explicit ShareBook(EngineState& state) : state_(state) {}

  /// Reads what is kept. A share whose file has gone, or dies before it, is taken back once start() was called.
  [[nodiscard]] Result<> load();
  void start();
  [[nodiscard]] awaitable<void> stop();

  /// quota_exceeded when too many are kept.
  [[nodiscard]] Result<> check_room();
  /// Commits it.
  [[nodiscard]] Result<> add(KeptShare share);
  /// The file has lost its last name: its shares are taken back. Any thread; the engine's locks may be held.
  void withdraw(InodeNumber inode) { take_back(inode, Deadline(core::Instant{0})); }
  /// The file dies at another time: shares that would outlive it are taken back.
  void deadline_changed(InodeNumber inode, Deadline deadline) { take_back(inode, deadline); }

  /// From now on nobody shares: ends soon whatever waits for that.
  void refuse() { refusing_.request_stop(); }
  [[nodiscard]] std::stop_token refusing() const { return refusing_.get_token(); }

 private:
  void take_back(InodeNumber inode, Deadline latest);
  void send_soon_locked();
  awaitable<void> send_all();
  awaitable<void> send(KeptShare share);
  [[nodiscard]] Result<> commit_locked();

  EngineState& state_;
  std::stop_source refusing_;
  core::TaskGroup tasks_;
  std::atomic<std::size_t> count_{0};  // of shares_, for those who ask without the lock
  std::mutex mutex_;                   // guards what follows
  std::unordered_multimap<InodeNumber, KeptShare> shares_;
  std::deque<KeptShare> to_send_;
  bool started_ = false;
  bool sending_ = false;
};

}  // namespace ephfs::fs
