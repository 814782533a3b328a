// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/sim/scenario.hpp"

namespace ephfs::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kContentMax = std::size_t{9} << 20U;

/// Mostly small, now and then more than a stripe.
std::size_t choose_length(testing::Random& random) {
  switch (random.below(16)) {
    case 0:
      return random.between(1, 3) << 20U;
    case 1:
      return random.chance(4) ? random.between(4, 6) << 20U : random.between(1, 900) << 10U;
    case 2:
    case 3:
    case 4:
      return random.between(1, 200) << 10U;
    case 5:
    case 6:
    case 7:
      return random.between(1, 8) * 4096;
    default:
      return random.between(1, 5000);
  }
}

}  // namespace

/// Every other user works on files that slide: on writing, or on reading too.
meta::TtlMode Scenario::mode_of(const User& user) const {
  if (!options_.sliding || user.index % 2 == 0) return meta::TtlMode::fixed;
  return user.index % 4 == 1 ? meta::TtlMode::modified : meta::TtlMode::accessed;
}

Death Scenario::slid(ExpectedFile& file, core::Instant began, bool written, bool went_well) {
  file.slide(began, cluster_.clock().now(), written, went_well);
  return file.deadline;
}

core::InodeNumber Scenario::directory_of(const std::string& path) const {
  for (const auto& user : users_) {
    if (path.starts_with(user->name + '/')) return user->directory;
  }
  EPHFS_CHECK(false, "every path is a user's");
}

awaitable<void> Scenario::work(User* user) {
  auto& random = user->random;
  while (!over()) {
    co_await core::sleep_for(cluster_.clock(), span(random, 100ms, 40s));
    if (paused_ || over()) continue;
    const std::string path = user->name + "/f" + std::to_string(random.below(kFilesPerUser));
    const auto known = judge_.files.find(path);
    // What is about to die, or has just died, may be either.
    if (known != judge_.files.end() && judge_.life_of(known->second.deadline) != Judge::Life::alive) continue;
    ++working_;
    const std::uint64_t what = random.below(20);
    user->doing = path + ", choice " + std::to_string(what);
    if (known == judge_.files.end() || what < 6) {
      co_await write_file(user, path);
    } else if (what < 14) {
      co_await read_file(user, path);
    } else if (what < 15) {
      unlink_file(user, path);
    } else if (what < 16) {
      rename_file(user, path, user->name + "/f" + std::to_string(random.below(kFilesPerUser)));
    } else if (what < 17) {
      truncate_file(user, path);
    } else if (what < 19 && options_.shares) {
      co_await share_file(user, path);
    } else {
      set_ttl(user, path);
    }
    --working_;
    user->doing = "rest";
  }
}

Descriptor Scenario::open(const std::string& path, int flags) {
  const auto& mount = cluster_.mount();
  const Death deadline = judge_.files.at(path).deadline;
  const auto found = mount->engine->lookup(directory_of(path), name_of(path));
  judge_.local_call("lookup " + path, deadline, failure_of(found));
  if (!found) return {};
  auto opened = mount->engine->open_file(found->number, flags);
  mount->engine->forget(found->number, 1);
  judge_.local_call("open " + path, deadline, failure_of(opened));
  if (!opened) return {};
  return {mount, *std::move(opened)};
}

awaitable<void> Scenario::write_file(User* user, std::string path) {
  auto& random = user->random;
  Descriptor descriptor;
  if (judge_.files.contains(path)) {
    descriptor = open(path, O_RDWR);
  } else {
    const auto& mount = cluster_.mount();
    auto created = mount->engine->create(user->directory, name_of(path), 0644, O_RDWR, {});
    ExpectedFile file;
    file.mode = mode_of(*user);
    file.ttl = file.mode == meta::TtlMode::fixed ? cluster_.options().ttl.initial : kSlidingTtl;
    file.deadline = cluster_.clock().now() + file.ttl;
    judge_.local_call("create " + path, file.deadline, failure_of(created));
    if (created) {
      mount->engine->forget(created->first.number, 1);
      descriptor = Descriptor(mount, std::move(created->second));
      judge_.files[path] = std::move(file);
    }
  }
  const std::uint64_t times = random.between(1, 3);
  for (std::uint64_t i = 0; i < times && descriptor.is_open(); ++i) {
    const auto before = judge_.files.find(path);
    if (before == judge_.files.end()) co_return;
    const std::size_t size = before->second.content.size();
    const std::size_t gap = random.chance(5) ? random.below(100'000) : 0;
    const std::uint64_t offset =
        std::min<std::uint64_t>(random.chance(2) ? size : random.below(size + 1), kContentMax) + gap;
    const core::Bytes bytes = random.bytes(choose_length(random));
    const core::Boottime began = cluster_.clock().boot_now();
    const core::Instant at = cluster_.clock().now();
    Death deadline = before->second.deadline;
    auto written = descriptor.engine().try_write(*descriptor.file(), offset, bytes);
    if (!written && written.error().code == core::Error::would_block) {
      written = co_await descriptor.engine().write(descriptor.file(), offset, bytes, {});
    }
    const bool crashed = descriptor.mount() != cluster_.mount();
    const auto file = judge_.files.find(path);
    if (file != judge_.files.end()) deadline = slid(file->second, at, true, written.has_value());
    judge_.call("write " + path, began, deadline, failure_of(written), crashed);
    if (!written || crashed || file == judge_.files.end()) co_return;
    file->second.write(offset, bytes);
  }
  if (!descriptor.is_open()) co_return;
  co_await save(user, path, &descriptor);
  if (descriptor.mount() == cluster_.mount() && judge_.files.contains(path) && random.chance(3)) {
    held_[path] = std::move(descriptor);
  }
}

/// What a program does at the end: close, fsync, or die before either.
awaitable<void> Scenario::save(User* user, std::string path, const Descriptor* descriptor) {
  const std::uint64_t how = user->random.below(10);
  if (how == 0) co_return;
  const core::Boottime began = cluster_.clock().boot_now();
  const Death deadline = judge_.files.at(path).deadline;
  Result<> saved;
  if (how < 6) {
    saved = descriptor->engine().try_flush(*descriptor->file());
    if (!saved && saved.error().code == core::Error::would_block) {
      saved = co_await descriptor->engine().flush(descriptor->file());
    }
  } else {
    saved = co_await descriptor->engine().fsync(descriptor->file());
  }
  const bool crashed = descriptor->mount() != cluster_.mount();
  judge_.call((how < 6 ? "flush " : "fsync ") + path, began, deadline, failure_of(saved), crashed);
  const auto file = judge_.files.find(path);
  if (saved && !crashed && file != judge_.files.end()) file->second.unflushed.clear();
  if (saved && !crashed && how >= 6 && options_.proofs) take_proof(path, *descriptor);
}

awaitable<void> Scenario::read_file(User* user, std::string path) {
  auto& random = user->random;
  const Descriptor descriptor = open(path, O_RDONLY);
  if (!descriptor.is_open()) co_return;
  const ExpectedFile& file = judge_.files.at(path);
  const std::size_t size = file.content.size();
  const std::size_t offset = random.chance(3) ? 0 : random.below(size + 1);
  const std::size_t length = random.chance(3) ? size + 10 : random.between(1, 200'000);
  const auto from = file.content.begin() + static_cast<std::ptrdiff_t>(offset);
  const core::Bytes expected(from, from + static_cast<std::ptrdiff_t>(std::min(length, size - offset)));
  Death deadline = file.deadline;
  const core::Boottime began = cluster_.clock().boot_now();
  const core::Instant at = cluster_.clock().now();
  core::Bytes out(length);
  const core::MutableByteView view(out);
  auto got = descriptor.engine().try_read(*descriptor.file(), offset, view);
  if (!got && got.error().code == core::Error::would_block) {
    got = co_await descriptor.engine().read(descriptor.file(), offset, view, {});
  }
  const bool crashed = descriptor.mount() != cluster_.mount();
  if (const auto now = judge_.files.find(path); now != judge_.files.end()) {
    deadline = slid(now->second, at, false, got && *got > 0);
  }
  judge_.call("read " + path, began, deadline, failure_of(got), crashed);
  if (got) judge_.bytes("read " + path, core::ByteView(out).first(*got), expected);
}

void Scenario::unlink_file(User* user, const std::string& path) {
  const auto done = cluster_.mount()->engine->unlink(user->directory, name_of(path));
  judge_.local_call("unlink " + path, judge_.files.at(path).deadline, failure_of(done));
  if (!done) return;
  judge_.files.erase(path);
  held_.erase(path);
}

void Scenario::rename_file(User* user, const std::string& from, const std::string& to) {
  if (from == to) return;
  const auto target = judge_.files.find(to);
  if (target != judge_.files.end() && judge_.life_of(target->second.deadline) != Judge::Life::alive) return;
  // What is saved over a sliding file slides, or not, by rules that have tests of their own.
  if (target != judge_.files.end() && mode_of(*user) != meta::TtlMode::fixed) return;
  const auto done = cluster_.mount()->engine->rename(user->directory, name_of(from), user->directory, name_of(to),
                                                     fs::RenameMode::replace);
  ExpectedFile moved = judge_.files.at(from);
  judge_.local_call("rename " + from + " " + to, moved.deadline, failure_of(done));
  if (!done) return;
  // An editor's save keeps the deadline that was asked for.
  if (target != judge_.files.end() && !moved.has_own_deadline) {
    moved.deadline = target->second.deadline;
    moved.has_own_deadline = target->second.has_own_deadline;
  }
  judge_.files.erase(from);
  judge_.files[to] = std::move(moved);
  held_.erase(to);
  if (auto held = held_.extract(from)) {
    held.key() = to;
    held_.insert(std::move(held));
  }
}

void Scenario::truncate_file(User* user, const std::string& path) {
  ExpectedFile& file = judge_.files.at(path);
  const auto& engine = cluster_.mount()->engine;
  const auto found = engine->lookup(user->directory, name_of(path));
  judge_.local_call("lookup " + path, file.deadline, failure_of(found));
  if (!found) return;
  fs::SetAttributes set;
  set.size = user->random.chance(3) ? 0 : user->random.below(file.content.size() + 10'000);
  const auto done = engine->set_attributes(found->number, set, false);
  engine->forget(found->number, 1);
  const core::Instant at = cluster_.clock().now();
  judge_.local_call("truncate " + path, slid(file, at, true, done.has_value()), failure_of(done));
  if (done) file.truncate(*set.size);
}

void Scenario::set_ttl(User* user, const std::string& path) {
  auto& random = user->random;
  ExpectedFile& file = judge_.files.at(path);
  const auto& engine = cluster_.mount()->engine;
  const auto found = engine->lookup(user->directory, name_of(path));
  judge_.local_call("lookup " + path, file.deadline, failure_of(found));
  if (!found) return;
  const core::Milliseconds kinds[] = {core::Milliseconds(random.between(1000, 60'000)),
                                      core::Milliseconds(random.between(60, 1800) * 1000),
                                      core::Milliseconds(random.between(1, 5) * 3'600'000)};
  const core::Milliseconds ttl = kinds[random.below(3)];
  const auto set =
      engine->set_xattr(found->number, "user.ephfs.ttl", core::as_bytes(core::format_span(ttl)), fs::XattrMode::any);
  judge_.local_call("ttl " + path, file.deadline, failure_of(set));
  if (set) {
    file.ttl = ttl;
    file.deadline = cluster_.clock().now() + ttl;
    file.has_own_deadline = true;
    const auto expires = engine->xattr(found->number, "user.ephfs.expires");
    judge_.local_call("expires " + path, file.deadline, failure_of(expires));
    if (expires && core::as_text(*expires) != core::format_instant(file.deadline.latest)) {
      judge_.findings.add(path + " says it expires " + std::string(core::as_text(*expires)));
    }
  }
  engine->forget(found->number, 1);
}

}  // namespace ephfs::sim
