// SPDX-License-Identifier: Apache-2.0
// The head of a catalog's journal (docs/formats.md, "Catalog journal"), changed as other times would have it.
#pragma once

#include <array>
#include <filesystem>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sodium.h>

#include "core/files.hpp"
#include "core/little_endian.hpp"

namespace ephfs::meta::testing {

constexpr std::size_t kJournalHeadBytes = 64;
constexpr std::size_t kJournalVersionAt = 8;
constexpr std::size_t kJournalBootAt = 12;

/// Changes the head's bytes and makes its sum right again.
template <class Change>
void change_journal_head(const std::filesystem::path& journal, Change change) {
  core::Bytes head = core::read_file(journal, std::size_t{16} << 20U).value();
  head.resize(kJournalHeadBytes);
  change(head);
  const std::array<unsigned char, crypto_shorthash_KEYBYTES> key{};
  const core::MutableByteView view(head);
  crypto_shorthash(core::as_u8(view.last(8)), core::as_u8(core::ByteView(view.first(kJournalHeadBytes - 8))),
                   kJournalHeadBytes - 8, key.data());
  const auto file = core::open_file(journal, O_WRONLY).value();
  ASSERT_TRUE(core::write_all(file, 0, head));
}

/// As if the machine had been started since the journal was begun.
inline void as_of_another_boot(const std::filesystem::path& journal) {
  // No boot has it: ids are hexadecimal.
  change_journal_head(journal, [](core::Bytes& head) { head[kJournalBootAt] = std::byte{'x'}; });
}

/// As the first version of the journal wrote it.
inline void as_of_version_1(const std::filesystem::path& journal) {
  change_journal_head(journal, [](core::Bytes& head) {
    core::store_le(core::MutableByteView(head).subspan(kJournalVersionAt), std::uint32_t{1});
  });
}

}  // namespace ephfs::meta::testing
