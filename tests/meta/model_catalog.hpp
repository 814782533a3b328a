// SPDX-License-Identifier: Apache-2.0
// A Catalog in plain maps, written to be obviously right rather than fast: what SqliteCatalog is compared
// with. It has no disk: copies share what is in it, so "reopening" it is copying it. One mutex; thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <tuple>

#include "meta/catalog.hpp"

namespace ephfs::meta::testing {

class ModelCatalog final : public Catalog {
 public:
  Result<> commit(const Changes& changes) override;
  Result<> sync() override { return {}; }
  Result<> scrub() override { return {}; }  // it has no file

  Result<std::optional<core::Bytes>> value(const std::string& key) const override;
  Result<std::optional<InodeRecord>> inode(InodeNumber number) const override;
  Result<std::vector<InodeRecord>> inodes(const std::vector<InodeNumber>& numbers) const override;
  Result<InodeNumber> last_inode() const override;
  Result<StripeNumber> last_stripe() const override;
  Result<std::optional<InodeRecord>> lookup(InodeNumber parent, const std::string& name) const override;
  Result<std::vector<NameRecord>> names(InodeNumber parent, const std::string& after, std::size_t limit) const override;
  Result<std::optional<std::pair<InodeNumber, std::string>>> parent_of(InodeNumber number) const override;
  Result<std::vector<std::pair<InodeNumber, std::string>>> names_of(InodeNumber number) const override;
  Result<InodeTies> ties(InodeNumber number) const override;
  Result<std::optional<core::Bytes>> xattr(InodeNumber number, const std::string& name) const override;
  Result<std::vector<std::string>> xattr_names(InodeNumber number) const override;
  Result<std::vector<ExtentRecord>> extents(InodeNumber number) const override;
  Result<std::vector<ExtentRecord>> extents_at(InodeNumber number,
                                               const std::vector<std::uint64_t>& offsets) const override;
  Result<std::vector<ExtentRecord>> extents_in(StripeNumber stripe) const override;
  Result<std::optional<StripeRecord>> stripe(StripeNumber number) const override;
  Result<std::vector<StripeRecord>> stripes_in_state(StripeState state, std::size_t limit) const override;
  Result<std::vector<StripeRecord>> dead_stripes(core::Instant now, std::size_t limit) const override;
  Result<std::vector<StripeRecord>> sparse_stripes(unsigned permille, core::Instant later,
                                                   std::size_t limit) const override;
  Result<std::vector<PlacementRecord>> placements(StripeNumber stripe) const override;
  Result<std::vector<PlacementRecord>> owed(std::size_t limit) const override;
  Result<std::vector<RemovalRecord>> removals(std::size_t limit) const override;
  Result<std::vector<InodeNumber>> expired(core::Instant now, std::size_t limit) const override;
  Result<std::vector<ExpiredInode>> expired_inodes(core::Instant now, std::size_t limit) const override;
  Result<Deadline> next_deadline() const override;
  Result<std::vector<InodeNumber>> orphans(std::size_t limit) const override;
  Result<ExpiringTotals> expiring(core::Instant from, core::Instant until) const override;
  Result<std::vector<ExpiringRecord>> expiring_list(const ExpiringRecord& after, core::Instant until,
                                                    std::size_t limit) const override;
  Result<CatalogTotals> totals() const override;
  Result<std::vector<StripeRecord>> stripes_after(StripeNumber after, std::size_t limit) const override;
  Result<std::vector<AuditRecord>> audits(StripeNumber stripe) const override;
  Result<std::optional<DeadFileRecord>> dead_file(const core::FileId& file) const override;
  Result<std::optional<DeadStripeRecord>> dead_stripe(StripeNumber number) const override;
  Result<std::vector<DeadShardRecord>> dead_shards(StripeNumber stripe) const override;
  Result<std::vector<DeadShardRecord>> unproven(const core::NodeId& node, core::Instant now,
                                                std::size_t limit) const override;
  Result<std::optional<core::Instant>> next_unproven(const core::NodeId& node) const override;
  Result<DeadNumbers> dead_before(core::Instant instant, std::size_t limit) const override;
  /// Only names and link counts: the rest cannot come apart here, or has tests of its own.
  Result<std::vector<std::string>> check() const override;

 private:
  struct State {
    std::map<InodeNumber, InodeRecord> inodes;
    std::map<std::pair<InodeNumber, std::string>, InodeNumber> names;
    std::map<std::pair<InodeNumber, std::string>, core::Bytes> xattrs;
    std::map<std::pair<InodeNumber, std::uint64_t>, ExtentRecord> extents;
    std::map<StripeNumber, StripeRecord> stripes;
    std::map<std::pair<StripeNumber, std::uint8_t>, PlacementRecord> placements;
    std::map<std::pair<core::ShardId, core::NodeId>, RemovalRecord> removals;
    std::map<std::string, core::Bytes> values;
    std::map<InodeNumber, DeadFileRecord> dead_files;
    std::map<StripeNumber, DeadStripeRecord> dead_stripes;
    std::map<std::tuple<StripeNumber, std::uint8_t, core::NodeId>, DeadShardRecord> dead_shards;
    std::map<std::pair<StripeNumber, std::uint8_t>, AuditRecord> audits;
    InodeNumber last_inode;
    StripeNumber last_stripe;

    bool apply_death(const Change& change);  // of the kinds that are about the dead
    bool apply(const Change& change);        // false for a record no catalog may hold
    [[nodiscard]] bool is_whole() const;     // every reference leads somewhere
    [[nodiscard]] StripeRecord with_live(StripeRecord stripe) const;
  };
  template <class Keep>
  [[nodiscard]] std::vector<StripeRecord> stripes_where(std::size_t limit, Keep keep) const;

  struct Shared {
    std::mutex mutex;
    State state;
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace ephfs::meta::testing
