// SPDX-License-Identifier: Apache-2.0
// FUSE requests about names: look-up, making, removing and moving them, and listing directories.
#include <cerrno>
#include <climits>
#include <span>

#include <sys/stat.h>

#include "fs/fuse_timed.hpp"

namespace ephfs::fs {
namespace {

/// The kernel may believe that a name is not there for as long as it likes: names appear only through this mount.
constexpr double kAbsentSeconds = 3600;
constexpr off_t kDotEntries = 2;

void on_lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  auto found = engine_of(request).lookup({parent}, name);
  // Of what is dead by a clock that may yet be corrected the kernel must not remember that it is not there.
  if (!found && found.error().code == core::Error::not_found) {
    fuse_entry_param absent{};
    absent.entry_timeout = kAbsentSeconds;
    fuse_reply_entry(request, &absent);
    return;
  }
  reply_entry(request, found);
}

void on_forget(fuse_req_t request, fuse_ino_t number, std::uint64_t lookups) {
  engine_of(request).forget({number}, lookups);
  fuse_reply_none(request);
}

void on_forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets) {
  Engine& engine = engine_of(request);
  for (const auto& forget : std::span(forgets, count)) engine.forget({forget.ino}, forget.nlookup);
  fuse_reply_none(request);
}

void on_mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  reply_entry(request, engine_of(request).make_node({parent}, name, mode, rdev, caller_of(request)));
}

void on_mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
  reply_entry(request, engine_of(request).make_node({parent}, name, (mode & ~S_IFMT) | S_IFDIR, 0, caller_of(request)));
}

void on_symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
  reply_entry(request, engine_of(request).make_symlink({parent}, name, target, caller_of(request)));
}

void on_link(fuse_req_t request, fuse_ino_t number, fuse_ino_t parent, const char* name) {
  reply_entry(request, engine_of(request).make_link({number}, {parent}, name));
}

void on_unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  reply_status(request, engine_of(request).unlink({parent}, name));
}

void on_rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  reply_status(request, engine_of(request).remove_directory({parent}, name));
}

void on_rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
               unsigned flags) {
  RenameMode mode = RenameMode::replace;
  switch (flags) {
    case 0:
      break;
    case RENAME_NOREPLACE:
      mode = RenameMode::no_replace;
      break;
    case RENAME_EXCHANGE:
      mode = RenameMode::exchange;
      break;
    default:
      fuse_reply_err(request, EINVAL);
      return;
  }
  reply_status(request, engine_of(request).rename({parent}, name, {new_parent}, new_name, mode));
}

void on_readlink(fuse_req_t request, fuse_ino_t number) {
  const auto target = engine_of(request).read_link({number});
  if (!target) return reply_inode_failure(request, target.error());
  fuse_reply_readlink(request, target->c_str());
}

void on_opendir(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
  auto directory = engine_of(request).open_directory({number});
  if (!directory) return reply_inode_failure(request, directory.error());
  auto handle = std::make_unique<std::shared_ptr<OpenDirectory>>(*std::move(directory));
  info->fh = reinterpret_cast<std::uint64_t>(handle.get());
  if (fuse_reply_open(request, info) == 0) (void)handle.release();  // on_releasedir takes it back
}

void on_releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  delete reinterpret_cast<std::shared_ptr<OpenDirectory>*>(info->fh);
  fuse_reply_err(request, 0);
}

/// Entries of one directory reply, in a buffer of the size the kernel gave. Positions: 1 behind ".", 2 behind "..",
/// then one more behind each name.
class Listing {
 public:
  Listing(fuse_req_t request, std::size_t size, bool plus) : request_(request), plus_(plus), bytes_(size) {}

  /// False when the entry does not fit. For a plus entry `attributes` gives what the kernel caches with it, and is
  /// asked only when the entry fits, because asking raises the lookup count.
  template <class GetEntry>
  bool add(const char* name, off_t next, InodeNumber number, std::uint32_t mode, GetEntry get_entry) {
    const std::size_t needed = size_of(name);
    if (used_ + needed > bytes_.size()) return false;
    char* at = bytes_.data() + used_;
    fuse_entry_param entry{};
    entry.attr.st_ino = number.value;
    entry.attr.st_mode = mode;
    if (plus_ && !get_entry(entry)) return true;  // died meanwhile: left out
    if (plus_) {
      fuse_add_direntry_plus(request_, at, needed, name, &entry, next);
    } else {
      fuse_add_direntry(request_, at, needed, name, &entry.attr, next);
    }
    used_ += needed;
    return true;
  }
  /// How many of these names, from the first on, there is room for.
  [[nodiscard]] std::size_t count_fitting(std::span<const meta::NameRecord> names) const {
    std::size_t used = used_;
    const auto past = std::ranges::find_if(names, [&](const auto& name) {
      used += size_of(name.name.c_str());
      return used > bytes_.size();
    });
    return static_cast<std::size_t>(past - names.begin());
  }
  [[nodiscard]] bool plus() const { return plus_; }
  void reply() { fuse_reply_buf(request_, bytes_.data(), used_); }

 private:
  [[nodiscard]] std::size_t size_of(const char* name) const {
    return plus_ ? fuse_add_direntry_plus(request_, nullptr, 0, name, nullptr, 0)
                 : fuse_add_direntry(request_, nullptr, 0, name, nullptr, 0);
  }

  fuse_req_t request_;
  bool plus_;
  std::vector<char> bytes_;
  std::size_t used_ = 0;
};

/// Adds the names from `offset` on, as many as fit.
void list_names(Engine& engine, OpenDirectory& directory, InodeNumber number, off_t offset, Listing& listing) {
  const std::lock_guard lock(directory.mutex);
  const core::Instant now = engine.clock().now();
  const auto first =
      std::min(static_cast<std::size_t>(std::max<off_t>(offset - kDotEntries, 0)), directory.names.size());
  const auto rest = std::span(directory.names).subspan(first);
  if (listing.plus()) engine.expect_lookups(rest.first(listing.count_fitting(rest)));
  bool room = true;
  for (std::size_t at = first; room && at < directory.names.size(); ++at) {
    const auto& name = directory.names[at];
    if (name.deadline.passed(now + kLastMoment)) continue;
    const auto look_up = [&](fuse_entry_param& entry) {
      const auto found = engine.lookup(number, name.name);
      if (found) entry = to_entry(*found);
      return found.has_value();
    };
    room = listing.add(name.name.c_str(), static_cast<off_t>(at) + kDotEntries + 1, name.inode, name.mode, look_up);
  }
}

void list_directory(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset, fuse_file_info* info,
                    bool plus) {
  Engine& engine = engine_of(request);
  OpenDirectory& directory = directory_of(info);
  if (offset == 0) {
    if (auto loaded = engine.rewind(directory); !loaded) return reply_failure(request, loaded.error());
  }
  Listing listing(request, size, plus);
  // The kernel does not look "." and ".." up, so they carry no lookup count.
  const auto no_lookup = [](fuse_entry_param&) { return true; };
  bool room = true;
  if (offset < 1) room = listing.add(".", 1, {number}, S_IFDIR, no_lookup);
  if (room && offset < kDotEntries) room = listing.add("..", kDotEntries, {number}, S_IFDIR, no_lookup);
  if (room) list_names(engine, directory, {number}, offset, listing);
  // Nothing of the directory is held any more: a reply lets the kernel close it.
  listing.reply();
}

void on_readdir(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset, fuse_file_info* info) {
  list_directory(request, number, size, offset, info, false);
}

void on_readdirplus(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset, fuse_file_info* info) {
  list_directory(request, number, size, offset, info, true);
}

void on_fsyncdir(fuse_req_t request, fuse_ino_t number, int, fuse_file_info*) {
  reply_status(request, engine_of(request).sync_directory({number}));
}

}  // namespace

void add_name_operations(fuse_lowlevel_ops& operations) {
  operations.lookup = timed<on_lookup>("lookup");
  operations.forget = timed<on_forget>("forget");
  operations.forget_multi = timed<on_forget_multi>("forget_multi");
  operations.mknod = timed<on_mknod>("mknod");
  operations.mkdir = timed<on_mkdir>("mkdir");
  operations.symlink = timed<on_symlink>("symlink");
  operations.link = timed<on_link>("link");
  operations.unlink = timed<on_unlink>("unlink");
  operations.rmdir = timed<on_rmdir>("rmdir");
  operations.rename = timed<on_rename>("rename");
  operations.readlink = timed<on_readlink>("readlink");
  operations.opendir = timed<on_opendir>("opendir");
  operations.releasedir = timed<on_releasedir>("releasedir");
  operations.readdir = timed<on_readdir>("readdir");
  operations.readdirplus = timed<on_readdirplus>("readdirplus");
  operations.fsyncdir = timed<on_fsyncdir>("fsyncdir");
}

}  // namespace ephfs::fs
