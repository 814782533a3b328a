// SPDX-License-Identifier: Apache-2.0
// A catalog whose commits and syncs fail when told to; everything else goes to the real one.
#pragma once

#include <functional>
#include <memory>

#include "meta/catalog.hpp"

namespace ephfs::fs::testing {

class FaultyCatalog final : public meta::Catalog {
 public:
  /// `fails` is asked before each commit, `sync_fails` before each sync.
  FaultyCatalog(std::unique_ptr<meta::Catalog> real, std::function<bool()> fails, std::function<bool()> sync_fails = {})
      : real_(std::move(real)), fails_(std::move(fails)), sync_fails_(std::move(sync_fails)) {}

  meta::Result<> commit(const meta::Changes& changes) override {
    if (fails_ && fails_()) return core::fail(core::Error::io, "the catalog's disk");
    return real_->commit(changes);
  }
  meta::Result<> sync() override {
    ++syncs;
    if (sync_fails_ && sync_fails_()) return core::fail(core::Error::io, "the catalog's disk");
    return real_->sync();
  }
  unsigned syncs = 0;
  meta::Result<> scrub() override {
    ++scrubs;
    if (scrub_fails && scrub_fails()) return core::fail(core::Error::io, "the catalog's disk");
    return real_->scrub();
  }
  unsigned scrubs = 0;
  std::function<bool()> scrub_fails;

  meta::Result<std::optional<core::Bytes>> value(const std::string& key) const override { return real_->value(key); }
  meta::Result<std::optional<meta::InodeRecord>> inode(core::InodeNumber n) const override {
    ++single_reads;
    return real_->inode(n);
  }
  mutable unsigned single_reads = 0;  // of inodes, by number or by name
  meta::Result<core::InodeNumber> last_inode() const override { return real_->last_inode(); }
  meta::Result<core::StripeNumber> last_stripe() const override { return real_->last_stripe(); }
  meta::Result<std::optional<meta::InodeRecord>> lookup(core::InodeNumber parent,
                                                        const std::string& name) const override {
    ++single_reads;
    return real_->lookup(parent, name);
  }
  meta::Result<std::vector<meta::NameRecord>> names(core::InodeNumber parent, const std::string& after,
                                                    std::size_t limit) const override {
    return real_->names(parent, after, limit);
  }
  meta::Result<std::optional<std::pair<core::InodeNumber, std::string>>> parent_of(core::InodeNumber n) const override {
    return real_->parent_of(n);
  }
  meta::Result<std::vector<std::pair<core::InodeNumber, std::string>>> names_of(core::InodeNumber n) const override {
    return real_->names_of(n);
  }
  meta::Result<std::optional<core::Bytes>> xattr(core::InodeNumber n, const std::string& name) const override {
    return real_->xattr(n, name);
  }
  meta::Result<std::vector<std::string>> xattr_names(core::InodeNumber n) const override {
    return real_->xattr_names(n);
  }
  meta::Result<std::vector<meta::InodeRecord>> inodes(const std::vector<core::InodeNumber>& numbers) const override {
    auto found = real_->inodes(numbers);
    if (inodes_read) inodes_read();
    return found;
  }
  std::function<void()> inodes_read;  // while whoever asked has not got them yet
  meta::Result<meta::InodeTies> ties(core::InodeNumber n) const override { return real_->ties(n); }
  meta::Result<std::vector<meta::ExtentRecord>> extents(core::InodeNumber n) const override {
    return real_->extents(n);
  }
  meta::Result<std::vector<meta::ExtentRecord>> extents_at(core::InodeNumber n,
                                                           const std::vector<std::uint64_t>& offsets) const override {
    return real_->extents_at(n, offsets);
  }
  meta::Result<std::vector<meta::ExtentRecord>> extents_in(core::StripeNumber stripe) const override {
    return real_->extents_in(stripe);
  }
  meta::Result<std::optional<meta::StripeRecord>> stripe(core::StripeNumber n) const override {
    return real_->stripe(n);
  }
  meta::Result<std::vector<meta::StripeRecord>> stripes_in_state(meta::StripeState state,
                                                                 std::size_t limit) const override {
    return real_->stripes_in_state(state, limit);
  }
  meta::Result<std::vector<meta::StripeRecord>> dead_stripes(core::Instant now, std::size_t limit) const override {
    return real_->dead_stripes(now, limit);
  }
  meta::Result<std::vector<meta::StripeRecord>> sparse_stripes(unsigned permille, core::Instant later,
                                                               std::size_t limit) const override {
    return real_->sparse_stripes(permille, later, limit);
  }
  meta::Result<std::vector<meta::PlacementRecord>> placements(core::StripeNumber stripe) const override {
    return real_->placements(stripe);
  }
  meta::Result<std::vector<meta::PlacementRecord>> owed(std::size_t limit) const override { return real_->owed(limit); }
  meta::Result<std::vector<meta::RemovalRecord>> removals(std::size_t limit) const override {
    return real_->removals(limit);
  }
  meta::Result<std::vector<core::InodeNumber>> expired(core::Instant now, std::size_t limit) const override {
    return real_->expired(now, limit);
  }
  meta::Result<std::vector<meta::ExpiredInode>> expired_inodes(core::Instant now, std::size_t limit) const override {
    return real_->expired_inodes(now, limit);
  }
  meta::Result<core::Deadline> next_deadline() const override { return real_->next_deadline(); }
  meta::Result<std::vector<core::InodeNumber>> orphans(std::size_t limit) const override {
    return real_->orphans(limit);
  }
  meta::Result<meta::ExpiringTotals> expiring(core::Instant from, core::Instant until) const override {
    return real_->expiring(from, until);
  }
  meta::Result<std::vector<meta::ExpiringRecord>> expiring_list(const meta::ExpiringRecord& after, core::Instant until,
                                                                std::size_t limit) const override {
    return real_->expiring_list(after, until, limit);
  }
  meta::Result<meta::CatalogTotals> totals() const override { return real_->totals(); }
  meta::Result<std::vector<meta::StripeRecord>> stripes_after(core::StripeNumber after,
                                                              std::size_t limit) const override {
    return real_->stripes_after(after, limit);
  }
  meta::Result<std::vector<meta::AuditRecord>> audits(core::StripeNumber stripe) const override {
    return real_->audits(stripe);
  }
  meta::Result<std::optional<meta::DeadFileRecord>> dead_file(const core::FileId& file) const override {
    return real_->dead_file(file);
  }
  meta::Result<std::optional<meta::DeadStripeRecord>> dead_stripe(core::StripeNumber n) const override {
    return real_->dead_stripe(n);
  }
  meta::Result<std::vector<meta::DeadShardRecord>> dead_shards(core::StripeNumber stripe) const override {
    return real_->dead_shards(stripe);
  }
  meta::Result<std::vector<meta::DeadShardRecord>> unproven(const core::NodeId& node, core::Instant now,
                                                            std::size_t limit) const override {
    return real_->unproven(node, now, limit);
  }
  meta::Result<std::optional<core::Instant>> next_unproven(const core::NodeId& node) const override {
    return real_->next_unproven(node);
  }
  meta::Result<meta::DeadNumbers> dead_before(core::Instant instant, std::size_t limit) const override {
    return real_->dead_before(instant, limit);
  }
  meta::Result<std::vector<std::string>> check() const override { return real_->check(); }

 private:
  std::unique_ptr<meta::Catalog> real_;
  std::function<bool()> fails_;
  std::function<bool()> sync_fails_;
};

}  // namespace ephfs::fs::testing
