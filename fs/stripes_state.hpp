// SPDX-License-Identifier: Apache-2.0
// What the parts of the data path share. Private to the files that implement stripes.hpp.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "core/log.hpp"
#include "fs/node_book.hpp"
#include "fs/shard_gather.hpp"
#include "fs/stripe_claims.hpp"
#include "fs/stripe_files.hpp"
#include "fs/stripe_log.hpp"
#include "fs/stripe_table.hpp"
#include "fs/stripes.hpp"

namespace ephfs::fs {

class Collector;         // collector.hpp: deletes what died
class Placer;            // placer.hpp: brings sealed stripes to nodes
class ReceiptCollector;  // receipt_collector.hpp: what nodes sign of the dead
class Repairer;          // repairer.hpp: what is still owed to nodes

struct StripesState {
  StripesState(Stripes::Context given, std::unique_ptr<StripeFiles> opened);
  ~StripesState();

  const Stripes::Context context;
  const core::asio::any_io_executor unhurried;
  const std::unique_ptr<StripeFiles> files;
  BufferPool buffers;  // of a stripe each
  BufferPool parity;   // of coded ones; apart, so that those under way leave streams theirs
  BufferPool scratch;
  StripeTable table;
  NodeBook nodes;
  StripeLog log;
  StripeClaims claims;
  core::TaskGroup tasks;
  std::stop_source stop;
  ShardGatherer gatherer;
  std::unique_ptr<Placer> placer;
  std::unique_ptr<Repairer> repairer;
  std::unique_ptr<Collector> collector;
  std::unique_ptr<ReceiptCollector> receipts;

  void say(std::string line) const { context.log ? context.log(std::move(line)) : core::log_line(line); }
  /// The longest a call that nobody waits for may take.
  [[nodiscard]] net::CallLimits call_limits(std::stop_token token) const {
    return {context.clock.boot_now() + core::Nanoseconds(context.options.peer_timeout), std::move(token)};
  }
  /// Shards that nodes turned out not to have, or to lie about, are owed from now on. Says so once.
  void report_faults(StripeNumber number, const std::vector<Gathered::Fault>& faults);
};

/// Whether these rows make a stripe placed: it survives the loss of this machine and of one node, as far as its profile
/// can (all shards stored is always enough).
[[nodiscard]] bool is_placed(const StripeRows& rows, const net::PeerDirectory& peers);

}  // namespace ephfs::fs
