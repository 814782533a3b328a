// SPDX-License-Identifier: Apache-2.0
#include "tests/meta/catalog_contract.hpp"

#include "meta/journaled_catalog.hpp"
#include "meta/sqlite_catalog.hpp"
#include "tests/meta/model_catalog.hpp"
#include "tests/support/temp_dir.hpp"

namespace ephfs::meta::testing {
namespace {

class SqlitePlace final : public CatalogPlace {
 public:
  std::unique_ptr<Catalog> open() override { return open_sqlite_catalog(dir_ / "catalog").value(); }
  std::optional<std::filesystem::path> directory() const override { return dir_.path(); }

 private:
  ephfs::testing::TempDir dir_;
};

class ModelPlace final : public CatalogPlace {
 public:
  std::unique_ptr<Catalog> open() override { return std::make_unique<ModelCatalog>(model_); }

 private:
  ModelCatalog model_;
};

class JournaledSqlitePlace final : public CatalogPlace {
 public:
  std::unique_ptr<Catalog> open() override { return open_volume_catalog(dir_.path()).value(); }
  std::optional<std::filesystem::path> directory() const override { return dir_.path(); }

 private:
  ephfs::testing::TempDir dir_;
};

class JournaledModelPlace final : public CatalogPlace {
 public:
  std::unique_ptr<Catalog> open() override { return open_journaled_catalog(below_.open(), dir_ / "journal").value(); }

 private:
  ModelPlace below_;
  ephfs::testing::TempDir dir_;
};

INSTANTIATE_TEST_SUITE_P(
    Catalogs, CatalogContract,
    ::testing::Values(CatalogFactory{"Sqlite", [] { return std::make_unique<SqlitePlace>(); }},
                      CatalogFactory{"Model", [] { return std::make_unique<ModelPlace>(); }},
                      CatalogFactory{"JournaledSqlite", [] { return std::make_unique<JournaledSqlitePlace>(); }},
                      CatalogFactory{"JournaledModel", [] { return std::make_unique<JournaledModelPlace>(); }}),
    [](const auto& tested) { return tested.param.name; });

INSTANTIATE_TEST_SUITE_P(Catalogs, CatalogFilesContract,
                         ::testing::Values(CatalogFactory{"Sqlite", [] { return std::make_unique<SqlitePlace>(); }},
                                           CatalogFactory{"JournaledSqlite",
                                                          [] { return std::make_unique<JournaledSqlitePlace>(); }}),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace ephfs::meta::testing
