// SPDX-License-Identifier: Apache-2.0
// Prints, as JSON, the secrets that a volume without a passphrase holds of some files in its root directory,
// worked out from its files by docs/formats.md alone: what a forensic test searches for when the files are
// dead. Usage: volume_secrets VOLUME [NAME...]. Names that are not there are left out.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <sqlite3.h>

#include "core/aead.hpp"
#include "core/files.hpp"
#include "core/keyring.hpp"
#include "core/little_endian.hpp"

namespace {

using namespace ephfs::core;

using Database = std::unique_ptr<sqlite3, decltype(&sqlite3_close)>;
using Statement = std::unique_ptr<sqlite3_stmt, decltype(&sqlite3_finalize)>;

Bytes column(sqlite3_stmt* row, int number) {
  const auto* const data = static_cast<const std::byte*>(sqlite3_column_blob(row, number));
  return {data, data + sqlite3_column_bytes(row, number)};
}

std::string in_quotes(std::string_view text) {
  return '"' + std::string(text) + '"';
}
std::string list(const std::vector<Key>& keys) {
  std::string text = "[";
  for (const Key& key : keys) text += (text.size() > 1 ? "," : "") + in_quotes(to_hex(key.view()));
  return text + "]";
}

struct Wheel {
  std::uint64_t first = 0;
  std::vector<Key> seeds;
};

Wheel read_wheel(const std::string& path, const VolumeKeys& keys) {
  constexpr std::size_t kHead = 34;
  constexpr std::size_t kState = 32 + 8 + 8 + 32 * 32;
  const Bytes file = read_file(path, 8192).value();
  const ByteView slot = ByteView(file).first(4096);
  Bytes state(kState);
  open_small(derive_key(keys.master, "keywheel", keys.volume.view()), slot.first(kHead),
             slot.subspan(kHead, 24 + kState + kAeadTagBytes), state)
      .value();
  Wheel wheel;
  wheel.first = load_le<std::uint64_t>(ByteView(state).subspan(32));
  for (std::uint64_t rest = (std::uint64_t{1} << 32U) - wheel.first; rest != 0; rest &= rest - 1) {
    wheel.seeds.push_back(Key::copy_of(ByteView(state).subspan(48 + wheel.seeds.size() * 32, 32)));
  }
  return wheel;
}

/// The seeds on the way from the wheel's to the epoch's leaf: each of them gives the epoch's key.
std::vector<Key> path_to(const Wheel& wheel, std::uint64_t epoch) {
  std::uint64_t begin = wheel.first;
  for (const Key& seed : wheel.seeds) {
    const std::uint64_t rest = (std::uint64_t{1} << 32U) - begin;
    std::uint64_t leaves = rest & (~rest + 1);
    if (epoch >= begin + leaves) {
      begin += leaves;
      continue;
    }
    std::vector<Key> path;
    path.push_back(seed.copy());
    while (leaves > 1) {
      leaves /= 2;
      const bool right = epoch >= begin + leaves;
      if (right) begin += leaves;
      path.push_back(derive_key(path.back(), right ? "ggm-rght" : "ggm-left", {}));
    }
    return path;
  }
  return {};
}

/// The file's part of the output; empty where there is no such file.
std::string secrets_of(sqlite3* database, const Wheel& wheel, const std::string& name) {
  sqlite3_stmt* found = nullptr;
  sqlite3_prepare_v2(
      database,
      "SELECT i.number, i.file, i.wrapped_key, i.deadline FROM names n JOIN inodes i ON i.number = n.inode "
      "WHERE n.parent = 1 AND n.name = CAST(?1 AS BLOB)",
      -1, &found, nullptr);
  const Statement row(found, sqlite3_finalize);
  sqlite3_bind_text(row.get(), 1, name.data(), static_cast<int>(name.size()), SQLITE_STATIC);
  if (sqlite3_step(row.get()) != SQLITE_ROW) return {};
  const std::int64_t deadline = sqlite3_column_int64(row.get(), 3);
  const auto epoch = static_cast<std::uint64_t>(deadline / 60'000);
  const std::vector<Key> path = path_to(wheel, epoch);
  if (path.empty()) return {};
  const Key epoch_key = derive_key(path.back(), "epochkey", {});
  Bytes context = to_bytes(as_bytes("ephfs file key"));
  const Bytes file = column(row.get(), 1);
  context.insert(context.end(), file.begin(), file.end());
  context.resize(context.size() + 8);
  store_le(MutableByteView(context).last(8), deadline);
  const Bytes wrapped = column(row.get(), 2);
  Key key = Key::zeroed();
  open_small(epoch_key, context, wrapped, key.mutable_view()).value();

  sqlite3_stmt* extents = nullptr;
  sqlite3_prepare_v2(database,
                     "SELECT DISTINCT s.id FROM extents e JOIN stripes s ON s.number = e.stripe WHERE e.inode = ?1", -1,
                     &extents, nullptr);
  const Statement stripe(extents, sqlite3_finalize);
  sqlite3_bind_int64(stripe.get(), 1, sqlite3_column_int64(row.get(), 0));
  std::vector<Key> extent_keys;
  while (sqlite3_step(stripe.get()) == SQLITE_ROW) {
    extent_keys.push_back(derive_key(key, "ephfs-ex", column(stripe.get(), 0)));
  }
  return in_quotes(name) + ":{\"epoch\":" + std::to_string(epoch) + ",\"wrapped_key\":" + in_quotes(to_hex(wrapped)) +
         ",\"file_key\":" + in_quotes(to_hex(key.view())) + ",\"extent_keys\":" + list(extent_keys) +
         ",\"epoch_key\":" + in_quotes(to_hex(epoch_key.view())) + ",\"path\":" + list(path) + "}";
}

}  // namespace

int main(int count, char** words) {
  if (count < 2) return 2;
  const std::string volume = words[1];
  const auto keys = open_volume_keys(volume + "/keys", nullptr);
  if (!keys) {
    std::fprintf(stderr, "volume_secrets: %s\n", keys.error().message().c_str());
    return 1;
  }
  const Wheel wheel = read_wheel(volume + "/wheel", *keys);
  sqlite3* opened = nullptr;
  if (sqlite3_open_v2((volume + "/catalog.db").c_str(), &opened, SQLITE_OPEN_READONLY, nullptr) != SQLITE_OK) return 1;
  const Database database(opened, sqlite3_close);
  sqlite3_busy_timeout(database.get(), 5000);
  std::string files;
  for (int i = 2; i < count; ++i) {
    const std::string one = secrets_of(database.get(), wheel, words[i]);
    if (!one.empty()) files += (files.empty() ? "" : ",") + one;
  }
  std::printf("{\"first\":%llu,\"seeds\":%s,\"files\":{%s}}\n", static_cast<unsigned long long>(wheel.first),
              list(wheel.seeds).c_str(), files.c_str());
  return 0;
}
