// SPDX-License-Identifier: Apache-2.0
#include "node/pool_files.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>

#include "core/config.hpp"

namespace ephfs::node {
namespace {

namespace files = std::filesystem;
using core::Error;
using core::fail;

constexpr std::string_view kPoolTitle = "ephfs-pool 1";
constexpr std::string_view kInvitationsTitle = "ephfs-invitations 1";
constexpr std::size_t kPoolFileBytesMax = (net::kMembersMax + 2) * (80 + net::kAddressBytesMax);
constexpr std::size_t kInvitationsBytesMax = (kInvitationsMax + 1) * 128;
constexpr int kLockTries = 400;
constexpr std::chrono::milliseconds kLockPause{5};

/// The words of one line of a text file, and where it was.
struct Line {
  int number = 0;
  std::vector<std::string_view> words;
};

core::Failure bad_line(const Line& line, std::string_view expected) {
  return fail(Error::damaged, "line " + std::to_string(line.number) + ": expected " + std::string(expected));
}

/// Cuts a file whose first line is `title` into the words of the lines behind it.
Result<std::vector<Line>> split_lines(std::string_view text, std::string_view title) {
  std::vector<Line> lines;
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return fail(Error::damaged, "the last line is cut off");
    std::string_view rest = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (number == 1) {
      if (rest == title) continue;
      const std::string_view kind = title.substr(0, title.find(' ') + 1);
      if (rest.starts_with(kind)) return fail(Error::version, "line 1: " + std::string(rest.substr(0, 64)));
      return fail(Error::damaged, "line 1: expected " + std::string(title));
    }
    Line line{number, {}};
    while (!rest.empty()) {
      const std::size_t space = std::min(rest.find(' '), rest.size());
      line.words.push_back(rest.substr(0, space));
      rest.remove_prefix(std::min(space + 1, rest.size()));
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

template <class Integer>
bool read_number(std::string_view word, Integer& out) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), out);
  return error == std::errc{} && end == word.data() + word.size();
}

std::optional<net::Member> read_member(const Line& line) {
  if (line.words.size() < 2 || line.words.size() > 3) return std::nullopt;
  const auto id = core::NodeId::from_hex(line.words[1]);
  if (!id) return std::nullopt;
  net::Member member{*id, line.words.size() == 3 ? std::string(line.words[2]) : std::string()};
  if (!is_plausible(member)) return std::nullopt;
  return member;
}

void append_member(std::string& text, std::string_view kind, const net::Member& member) {
  text += kind;
  text += ' ';
  text += member.id.hex();
  if (!member.address.empty()) {
    text += ' ';
    text += member.address;
  }
  text += '\n';
}

/// A file's text, or none when there is no such file.
Result<std::optional<std::string>> read_text(const files::path& path, std::size_t limit) {
  const auto bytes = core::read_file(path, limit);
  if (bytes) return std::optional(std::string(core::as_text(*bytes)));
  if (bytes.error().code == Error::not_found) return std::optional<std::string>();
  return bytes.error();
}

core::Failure in_file(const files::path& path, const core::Failure& failure) {
  return fail(failure.code, path.string() + ": " + failure.detail);
}

files::path invitations_path(const files::path& directory) {
  return directory / "invitations";
}

}  // namespace

files::path pool_path(const files::path& directory) {
  return directory / "pool";
}

bool is_plausible(const net::Member& member) {
  if (member.id.is_zero()) return false;
  if (member.address.empty()) return true;
  const auto printable = [](char c) { return c > ' ' && c < '\x7f'; };
  return member.address.size() <= net::kAddressBytesMax && std::ranges::all_of(member.address, printable) &&
         core::parse_address(member.address).has_value();
}

std::string encode_pool_file(const PoolFile& file) {
  std::string text(kPoolTitle);
  text += "\npool ";
  text += file.pool.hex();
  text += '\n';
  append_member(text, "self", file.self);
  for (const auto& member : file.others) append_member(text, "member", member);
  return text;
}

Result<PoolFile> parse_pool_file(std::string_view text) {
  EPHFS_TRY(const std::vector<Line> lines, split_lines(text, kPoolTitle));
  PoolFile file;
  bool has_pool = false;
  bool has_self = false;
  std::map<core::NodeId, net::Member> others;
  for (const Line& line : lines) {
    const std::string_view kind = line.words.empty() ? std::string_view() : line.words[0];
    if (kind == "pool" && !has_pool && line.words.size() == 2) {
      const auto id = core::PoolId::from_hex(line.words[1]);
      if (!id) return bad_line(line, "pool ID");
      file.pool = *id;
      has_pool = true;
      continue;
    }
    const auto member = read_member(line);
    if (kind == "self" && !has_self && member) {
      file.self = *member;
      has_self = true;
    } else if (kind == "member" && member && others.size() < net::kMembersMax) {
      if (!others.emplace(member->id, *member).second) return bad_line(line, "each member once");
    } else {
      return bad_line(line, "pool ID, self ID [ADDRESS], or member ID [ADDRESS]");
    }
  }
  if (!has_pool || !has_self) return fail(Error::damaged, "the pool's id or the node's own line is missing");
  others.erase(file.self.id);
  for (auto& [id, member] : others) file.others.push_back(std::move(member));
  return file;
}

std::string encode_invitations(const std::vector<Invitation>& invitations) {
  std::string text(kInvitationsTitle);
  text += '\n';
  for (const auto& invitation : invitations) {
    text += "invitation " + invitation.secret_hash.hex() + ' ' + std::to_string(invitation.expires.ms) + ' ' +
            std::to_string(invitation.uses) + '\n';
  }
  return text;
}

Result<std::vector<Invitation>> parse_invitations(std::string_view text) {
  EPHFS_TRY(const std::vector<Line> lines, split_lines(text, kInvitationsTitle));
  std::vector<Invitation> invitations;
  for (const Line& line : lines) {
    Invitation invitation;
    const auto hash = line.words.size() == 4 ? core::ShardId::from_hex(line.words[1]) : std::nullopt;
    if (!hash || line.words[0] != "invitation" || !read_number(line.words[2], invitation.expires.ms) ||
        !read_number(line.words[3], invitation.uses) || invitation.uses == 0 || invitations.size() == kInvitationsMax) {
      return bad_line(line, "invitation HASH EXPIRES USES");
    }
    invitation.secret_hash = *hash;
    invitations.push_back(invitation);
  }
  return invitations;
}

Result<core::FileDescriptor> lock_pool(const files::path& directory) {
  const files::path path = directory / "pool.lock";
  EPHFS_TRY(auto lock, core::open_file(path, O_RDWR | O_CREAT, 0600));
  for (int tries = 0; tries < kLockTries; ++tries) {
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
    if (errno != EWOULDBLOCK && errno != EINTR) return core::fail_errno("lock " + path.string());
    std::this_thread::sleep_for(kLockPause);
  }
  return fail(Error::busy, path.string() + " is held by another process");
}

Result<std::optional<PoolFile>> read_pool_file(const files::path& directory) {
  const files::path path = pool_path(directory);
  EPHFS_TRY(const auto text, read_text(path, kPoolFileBytesMax));
  if (!text) return std::optional<PoolFile>();
  auto file = parse_pool_file(*text);
  if (!file) return in_file(path, file.error());
  return std::optional<PoolFile>(std::move(*file));
}

Result<> write_pool_file(const files::path& directory, const PoolFile& file) {
  return core::replace_file(pool_path(directory), core::as_bytes(encode_pool_file(file)), 0600);
}

Result<std::vector<Invitation>> read_invitations(const files::path& directory) {
  const files::path path = invitations_path(directory);
  EPHFS_TRY(const auto text, read_text(path, kInvitationsBytesMax));
  if (!text) return std::vector<Invitation>();
  auto invitations = parse_invitations(*text);
  if (!invitations) return in_file(path, invitations.error());
  return invitations;
}

Result<> write_invitations(const files::path& directory, const std::vector<Invitation>& invitations) {
  return core::replace_file(invitations_path(directory), core::as_bytes(encode_invitations(invitations)), 0600);
}

Result<InvitationSecret> create_invitation(const files::path& directory, core::Instant now, core::Instant expires,
                                           std::uint32_t uses) {
  if (uses == 0 || expires <= now) return fail(Error::invalid_argument, "an invitation that nobody could use");
  EPHFS_TRY(const auto lock, lock_pool(directory));
  EPHFS_TRY(auto invitations, read_invitations(directory));
  std::erase_if(invitations, [&](const Invitation& one) { return now >= one.expires; });
  if (invitations.size() >= kInvitationsMax) {
    return fail(Error::no_space, std::to_string(kInvitationsMax) + " invitations are open");
  }
  InvitationSecret secret = InvitationSecret::zeroed();
  core::fill_random(secret.mutable_view());
  invitations.push_back({core::sha256(secret.view()), expires, uses});
  EPHFS_TRY_VOID(write_invitations(directory, invitations));
  return secret;
}

Result<> adopt_pool(const files::path& directory, const core::PoolId& pool, const net::Member& self,
                    const std::vector<net::Member>& members) {
  if (!is_plausible(self)) return fail(Error::invalid_argument, "address " + self.address);
  EPHFS_TRY(const auto lock, lock_pool(directory));
  EPHFS_TRY(const auto old, read_pool_file(directory));
  if (old && old->pool != pool && !old->others.empty()) {
    return fail(Error::exists, directory.string() + " belongs to pool " + old->pool.hex());
  }
  PoolFile file{pool, self, {}};
  std::map<core::NodeId, net::Member> others;
  for (const auto& member : members) {
    if (member.id != self.id && is_plausible(member)) others.insert_or_assign(member.id, member);
  }
  if (others.size() > net::kMembersMax) return fail(Error::protocol, "a pool of too many members");
  for (auto& [id, member] : others) file.others.push_back(std::move(member));
  return write_pool_file(directory, file);
}

}  // namespace ephfs::node
