// SPDX-License-Identifier: Apache-2.0
// The proof of one file, living or dead: everything that the nodes signed about its shards and the owner about the
// file, in one JSON text that can be checked with nothing else at hand (check_proof). The whole text is signed by the
// owner. Format: docs/formats.md, "Proof"; what it proves and what not: docs/proofs.md. Free functions; thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/keyring.hpp"
#include "core/records.hpp"
#include "core/signing.hpp"
#include "meta/catalog.hpp"

namespace ephfs::meta {

struct ProofContext {
  const Catalog& catalog;
  core::VolumeId volume;
  const core::Signer& owner;
  core::Instant now;
  core::PunctureRecord punctured{};  // what the volume's key wheel has destroyed; goes into proofs of the dead
};

/// not_found when there is no such inode, invalid_argument for what is no regular file; busy for a moment after its
/// deadline was brought forward.
[[nodiscard]] Result<std::string> prove_file(const ProofContext& context, InodeNumber number);
/// not_found for a file that is not remembered among the dead.
[[nodiscard]] Result<std::string> prove_dead_file(const ProofContext& context, const core::FileId& file);

/// What a proof says, once checked, and all that is wrong with it.
struct ProofReport {
  core::OwnerId owner;
  core::FileId file;
  Deadline deadline;
  std::optional<DeathCause> cause;  // none: the file lives
  core::Instant died;
  std::size_t stripes = 0;
  std::size_t shards = 0;
  std::size_t receipts = 0;   // good ones: stored or renewed
  std::size_t deletions = 0;  // good ones
  std::size_t audits = 0;     // good ones
  bool has_manifest = false;
  bool key_destroyed = false;       // the owner states that the key of the deadline's epoch is gone
  std::vector<std::string> faults;  // one line each; empty: the proof holds

  /// What a good proof leaves open of a death, one line each: shards that are not proven to be deleted, and of a file
  /// that expired, its key. What was removed early keeps its epoch's key until the deadline; its own was overwritten.
  [[nodiscard]] std::vector<std::string> missing() const;
};

constexpr std::size_t kProofBytesMax = std::size_t{256} << 20U;
constexpr std::size_t kProofDepthMax = 8;
/// Checks every signature, every id against its key, and every statement against the others. Needs nothing but the
/// text. What cannot even be read is a fault too. White space between the parts of the JSON text counts for nothing;
/// any other change is found.
[[nodiscard]] ProofReport check_proof(std::string_view text);

}  // namespace ephfs::meta
