// SPDX-License-Identifier: Apache-2.0
// What the catalog costs, one thread: commits of the usual operations and lookups, at several sizes of the volume.
#include <benchmark/benchmark.h>

#include "core/secret.hpp"
#include "meta/sqlite_catalog.hpp"
#include "tests/meta/records.hpp"
#include "tests/support/temp_dir.hpp"

namespace {

using namespace ephfs;

/// A catalog with a directory of `files` empty files.
class Volume {
 public:
  explicit Volume(std::uint64_t files) {
    auto opened = meta::open_sqlite_catalog(directory_.path() / "catalog.db");
    EPHFS_CHECK(opened.has_value(), "a new catalog opens");
    catalog_ = std::move(*opened);
    meta::Changes changes;
    changes.emplace_back(meta::PutInode{meta::testing::directory(1)});
    for (std::uint64_t i = 0; i < files; ++i) {
      add_file(changes);
      if (changes.size() > 1000 || i + 1 == files) commit(changes);
    }
    if (!changes.empty()) commit(changes);
  }
  std::string add_file(meta::Changes& changes) {
    const std::uint64_t number = ++last_;
    meta::InodeRecord file = meta::testing::regular(number, 0, meta::testing::at(static_cast<std::int64_t>(number)));
    file.file = core::random_id<core::FileId>();
    file.wrapped_key = core::Bytes(72);
    changes.emplace_back(meta::PutInode{std::move(file)});
    std::string name = "file" + std::to_string(number);
    changes.emplace_back(meta::PutName{{1}, name, {number}});
    return name;
  }
  void commit(meta::Changes& changes) {
    EPHFS_CHECK(catalog_->commit(changes).has_value(), "what is right is committed");
    changes.clear();
  }
  [[nodiscard]] meta::Catalog& catalog() { return *catalog_; }
  [[nodiscard]] std::uint64_t last() const { return last_; }

 private:
  testing::TempDir directory_;
  std::unique_ptr<meta::Catalog> catalog_;
  std::uint64_t last_ = 1;
};

void create(benchmark::State& state) {
  Volume volume(static_cast<std::uint64_t>(state.range(0)));
  meta::Changes changes;
  for (auto _ : state) {
    volume.add_file(changes);
    volume.commit(changes);
  }
}
BENCHMARK(create)->ArgName("files")->Arg(1000)->Arg(100'000);

void lookup(benchmark::State& state) {
  Volume volume(static_cast<std::uint64_t>(state.range(0)));
  std::uint64_t at = 0;
  for (auto _ : state) {
    at = (at * 6364136223846793005U + 1442695040888963407U);
    const std::uint64_t number = 2 + (at >> 20U) % (volume.last() - 1);
    benchmark::DoNotOptimize(volume.catalog().lookup({1}, "file" + std::to_string(number)));
  }
}
BENCHMARK(lookup)->ArgName("files")->Arg(1000)->Arg(100'000);

void rename_file(benchmark::State& state) {
  Volume volume(1000);
  std::string name = "file2";
  meta::Changes changes;
  for (auto _ : state) {
    std::string other = name == "file2" ? "other" : "file2";
    changes.emplace_back(meta::DropName{{1}, name});
    changes.emplace_back(meta::PutName{{1}, other, {2}});
    volume.commit(changes);
    name = std::move(other);
  }
}
BENCHMARK(rename_file);

}  // namespace
