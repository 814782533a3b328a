// SPDX-License-Identifier: Apache-2.0
// The two small text files by which a node knows its pool (docs/formats.md, "Pool and invitations files"): `pool`, who
// belongs to it, and `invitations`, which secrets let a stranger in. A running node and the command line both change
// them: each change reads, alters and replaces a file under a lock on `pool.lock`, so neither undoes the other's.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "core/files.hpp"
#include "core/secret.hpp"
#include "core/signing.hpp"
#include "core/time.hpp"
#include "net/membership.hpp"
#include "net/wire.hpp"

namespace ephfs::node {

using core::Result;

struct PoolFile {
  core::PoolId pool;
  net::Member self;
  std::vector<net::Member> others;  // without self, by id, each once
};

/// An invitation as it is kept: what hashes to `secret_hash` opens it.
struct Invitation {
  core::ShardId secret_hash;  // SHA-256
  core::Instant expires;      // exclusive
  std::uint32_t uses = 1;     // left
};
constexpr std::size_t kInvitationsMax = 256;
using InvitationSecret = core::Secret<net::kJoinSecretBytes>;

[[nodiscard]] std::string encode_pool_file(const PoolFile& file);
/// damaged with the line for anything else than a pool file; version for another version.
[[nodiscard]] Result<PoolFile> parse_pool_file(std::string_view text);
[[nodiscard]] std::string encode_invitations(const std::vector<Invitation>& invitations);
[[nodiscard]] Result<std::vector<Invitation>> parse_invitations(std::string_view text);

/// Whether a member may be written down: an address is empty, or HOST:PORT of at most 255 printable bytes.
[[nodiscard]] bool is_plausible(const net::Member& member);

/// Holds the lock on both files of `directory` from here to its end. busy when somebody else holds it for seconds.
[[nodiscard]] Result<core::FileDescriptor> lock_pool(const std::filesystem::path& directory);

[[nodiscard]] std::filesystem::path pool_path(const std::filesystem::path& directory);
/// None when the directory has no pool yet.
[[nodiscard]] Result<std::optional<PoolFile>> read_pool_file(const std::filesystem::path& directory);
[[nodiscard]] Result<> write_pool_file(const std::filesystem::path& directory, const PoolFile& file);
/// None kept is an empty list.
[[nodiscard]] Result<std::vector<Invitation>> read_invitations(const std::filesystem::path& directory);
[[nodiscard]] Result<> write_invitations(const std::filesystem::path& directory,
                                         const std::vector<Invitation>& invitations);

/// Makes an invitation for `uses` joins until `expires` and returns its secret, which is stored nowhere. For the
/// command line, also while a node runs on `directory`. no_space when kInvitationsMax are open.
[[nodiscard]] Result<InvitationSecret> create_invitation(const std::filesystem::path& directory, core::Instant now,
                                                         core::Instant expires, std::uint32_t uses);
/// Writes down that `self` has joined `pool`, whose members are given (its own entry among them or not): what a join
/// leaves behind. exists when the directory belongs to another pool that has other members.
[[nodiscard]] Result<> adopt_pool(const std::filesystem::path& directory, const core::PoolId& pool,
                                  const net::Member& self, const std::vector<net::Member>& members);

}  // namespace ephfs::node
