// SPDX-License-Identifier: Apache-2.0
#include "meta/journaled_catalog.hpp"

#include <algorithm>
#include <limits>

#include "meta/catalog_journal.hpp"
#include "meta/sqlite_catalog.hpp"

namespace ephfs::meta {

namespace {

constexpr auto kEarliest = std::numeric_limits<std::int64_t>::min();
constexpr auto kLatest = std::numeric_limits<std::int64_t>::max();

class JournaledCatalog final : public Catalog {
 public:
  JournaledCatalog(std::unique_ptr<Catalog> below, JournalFile file)
      : below_(std::move(below)), journal_(std::make_unique<CatalogJournal>(*below_, std::move(file))) {}
  Result<> start() { return journal_->start(); }

  Result<> commit(const Changes& changes) override {
    EPHFS_TRY_VOID(journal_->commit(changes, {}));
    return {};
  }
  Result<bool> commit_keeping(const Changes& changes, const std::vector<StagedBytes>& staged) override {
    return journal_->commit(changes, staged);
  }
  Result<> sync() override { return journal_->sync(); }
  Result<> scrub() override {
    EPHFS_TRY_VOID(journal_->scrub());
    return below_->scrub();
  }

  Result<std::optional<InodeRecord>> inode(InodeNumber number) const override {
    using Said = std::optional<std::optional<InodeRecord>>;
    const Said said = journal_->with_layers([&](const CatalogLayers& layers) {
      const auto* overlaid = layers.overlaid_inode(number);
      return overlaid == nullptr ? Said() : Said(*overlaid);
    });
    if (said) return *said;
    return below_->inode(number);
  }
  Result<InodeNumber> last_inode() const override {
    // The journal first: what leaves it meanwhile is below.
    const InodeNumber newest = journal_->last_inode();
    EPHFS_TRY(const auto older, below_->last_inode());
    return std::max(newest, older);
  }
  Result<std::vector<InodeRecord>> inodes(const std::vector<InodeNumber>& numbers) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.inodes(numbers); });
  }
  Result<std::optional<InodeRecord>> lookup(InodeNumber parent, const std::string& name) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.lookup(parent, name); });
  }
  Result<std::vector<NameRecord>> names(InodeNumber parent, const std::string& after,
                                        std::size_t limit) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.names(parent, after, limit); });
  }
  Result<std::optional<Place>> parent_of(InodeNumber number) const override {
    EPHFS_TRY(auto places, names_of(number));
    if (places.empty()) return std::optional<Place>();
    return std::optional(std::move(places.front()));
  }
  Result<std::vector<Place>> names_of(InodeNumber number) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.names_of(number); });
  }
  Result<InodeTies> ties(InodeNumber number) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.ties(number); });
  }
  Result<std::optional<core::Bytes>> xattr(InodeNumber number, const std::string& name) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.xattr(number, name); });
  }
  Result<std::vector<std::string>> xattr_names(InodeNumber number) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.xattr_names(number); });
  }
  Result<std::vector<ExtentRecord>> extents(InodeNumber number) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.extents(number); });
  }

  Result<std::vector<ExtentRecord>> extents_at(InodeNumber number,
                                               const std::vector<std::uint64_t>& offsets) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.extents_at(number, offsets); });
  }
  Result<StripeNumber> last_stripe() const override {
    const StripeNumber newest = journal_->last_stripe();
    EPHFS_TRY(const auto older, below_->last_stripe());
    return std::max(newest, older);
  }
  Result<std::optional<StripeRecord>> stripe(StripeNumber number) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.stripe(number); });
  }
  Result<std::vector<PlacementRecord>> placements(StripeNumber stripe) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.placements(stripe); });
  }
  Result<std::vector<StripeRecord>> dead_stripes(core::Instant now, std::size_t limit) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.dead_stripes(now, limit); });
  }
  Result<std::vector<ExpiringRecord>> expiring_list(const ExpiringRecord& after, core::Instant until,
                                                    std::size_t limit) const override {
    return journal_->with_layers(
        [&](const CatalogLayers& layers) { return layers.expiring_list(after, until, limit); });
  }
  Result<std::vector<InodeNumber>> expired(core::Instant now, std::size_t limit) const override {
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.expired(now, limit); });
  }
  Result<std::vector<ExpiredInode>> expired_inodes(core::Instant now, std::size_t limit) const override {
    // Often many, which the catalog below finds, and drops, at once.
    EPHFS_TRY(const auto first, expired(now, 1));
    if (first.empty()) return std::vector<ExpiredInode>();
    if (journal_->drain()) return below_->expired_inodes(now, limit);
    return journal_->with_layers([&](const CatalogLayers& layers) { return layers.expired_inodes(now, limit); });
  }
  Result<Deadline> next_deadline() const override {
    EPHFS_TRY(const auto list, expiring_list(ExpiringRecord::before({kEarliest}), {kLatest}, 1));
    return list.empty() ? Deadline::never() : list.front().deadline;
  }
  Result<CatalogTotals> totals() const override {
    return journal_->with_layers([](const CatalogLayers& layers) { return layers.totals(); });
  }

  // What the journal never holds.
  Result<std::optional<core::Bytes>> value(const std::string& key) const override { return below_->value(key); }
  Result<std::vector<AuditRecord>> audits(StripeNumber stripe) const override { return below_->audits(stripe); }
  Result<std::optional<DeadStripeRecord>> dead_stripe(StripeNumber number) const override {
    return below_->dead_stripe(number);
  }
  Result<std::vector<DeadShardRecord>> dead_shards(StripeNumber stripe) const override {
    return below_->dead_shards(stripe);
  }
  Result<std::vector<DeadShardRecord>> unproven(const core::NodeId& node, core::Instant now,
                                                std::size_t limit) const override {
    return below_->unproven(node, now, limit);
  }
  Result<std::optional<core::Instant>> next_unproven(const core::NodeId& node) const override {
    return below_->next_unproven(node);
  }

  // What is rarely sought: below, once everything is there.
  Result<std::vector<ExtentRecord>> extents_in(StripeNumber stripe) const override {
    EPHFS_TRY_VOID(journal_->drain());
    return below_->extents_in(stripe);
  }
  Result<std::vector<StripeRecord>> stripes_in_state(StripeState state, std::size_t limit) const override {
    EPHFS_TRY_VOID(journal_->drain());
    return below_->stripes_in_state(state, limit);
  }
  Result<std::vector<StripeRecord>> stripes_after(StripeNumber after, std::size_t limit) const override {
    EPHFS_TRY_VOID(journal_->drain());
    return below_->stripes_after(after, limit);
  }
  Result<std::vector<StripeRecord>> sparse_stripes(unsigned permille, core::Instant later,
                                                   std::size_t limit) const override {
    EPHFS_TRY_VOID(journal_->drain());
    return below_->sparse_stripes(permille, later, limit);
  }
  Result<std::vector<InodeNumber>> orphans(std::size_t limit) const override {
    EPHFS_TRY_VOID(journal_->drain());
    return below_->orphans(limit);
  }
  Result<ExpiringTotals> expiring(core::Instant from, core::Instant until) const override {
    EPHFS_TRY_VOID(journal_->drain());
    return below_->expiring(from, until);
  }
  Result<std::vector<PlacementRecord>> owed(std::size_t limit) const override {
    if (journal_->has_placements()) EPHFS_TRY_VOID(journal_->drain());
    return below_->owed(limit);
  }
  Result<std::vector<RemovalRecord>> removals(std::size_t limit) const override {
    if (journal_->has_removals()) EPHFS_TRY_VOID(journal_->drain());
    return below_->removals(limit);
  }
  Result<std::optional<DeadFileRecord>> dead_file(const core::FileId& file) const override {
    if (journal_->has_dead_files()) EPHFS_TRY_VOID(journal_->drain());
    return below_->dead_file(file);
  }
  Result<DeadNumbers> dead_before(core::Instant instant, std::size_t limit) const override {
    if (journal_->has_dead_files()) EPHFS_TRY_VOID(journal_->drain());
    return below_->dead_before(instant, limit);
  }
  Result<std::vector<std::string>> check() const override {
    EPHFS_TRY_VOID(journal_->drain());
    return below_->check();
  }

 private:
  std::unique_ptr<Catalog> below_;
  std::unique_ptr<CatalogJournal> journal_;  // ends before what it writes to
};

}  // namespace

Result<std::unique_ptr<Catalog>> open_journaled_catalog(std::unique_ptr<Catalog> below,
                                                        const std::filesystem::path& path) {
  EPHFS_TRY(auto file, JournalFile::open(path));
  auto catalog = std::make_unique<JournaledCatalog>(std::move(below), std::move(file));
  EPHFS_TRY_VOID(catalog->start());
  return std::unique_ptr<Catalog>(std::move(catalog));
}

Result<std::unique_ptr<Catalog>> open_volume_catalog(const std::filesystem::path& directory) {
  EPHFS_TRY(auto below, open_sqlite_catalog(directory / "catalog.db"));
  return open_journaled_catalog(std::move(below), directory / "catalog.journal");
}

}  // namespace ephfs::meta
