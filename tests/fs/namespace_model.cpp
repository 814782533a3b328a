// SPDX-License-Identifier: Apache-2.0
#include "tests/fs/namespace_model.hpp"

#include <cerrno>

#include <sys/stat.h>

namespace ephfs::fs::testing {

NamespaceModel::NamespaceModel(Milliseconds default_ttl)
    : root(std::make_shared<ModelInode>()), default_ttl_(default_ttl) {
  root->mode = S_IFDIR | 0755;
  root->links = 2;
  root->number = core::kRootInode;
  inodes.push_back(root);
}

bool NamespaceModel::is_dead(const ModelInode& inode, core::Instant now) {
  return !S_ISDIR(inode.mode) && now + kLastMoment >= inode.deadline;
}

int NamespaceModel::check_name(const std::string& name) {
  if (name.empty()) return ENOENT;
  if (name.size() > 255) return ENAMETOOLONG;
  if (name == "." || name == ".." || name.find('/') != std::string::npos) return EINVAL;
  return 0;
}

std::map<std::string, ModelPointer> NamespaceModel::list(const ModelInode& directory, core::Instant now) {
  auto names = directory.names;
  std::erase_if(names, [&](const auto& entry) { return is_dead(*entry.second, now); });
  return names;
}

void NamespaceModel::bury(const ModelPointer& dead) {
  dead->removed = true;
  ++buried;
  for (const auto& inode : inodes) {
    std::erase_if(inode->names, [&](const auto& entry) { return entry.second == dead; });
  }
}

ModelPointer NamespaceModel::living(const ModelPointer& parent, const std::string& name, core::Instant now) {
  const auto found = parent->names.find(name);
  if (found == parent->names.end()) return nullptr;
  if (!is_dead(*found->second, now)) return found->second;
  const ModelPointer dead = found->second;
  bury(dead);
  return nullptr;
}

void NamespaceModel::drop_link(const ModelPointer& inode) {
  if (--inode->links == 0) inode->removed = true;
}

bool NamespaceModel::is_within(const ModelPointer& directory, const ModelPointer& ancestor) {
  for (auto at = directory; at; at = at->parent.lock()) {
    if (at == ancestor) return true;
  }
  return false;
}

int NamespaceModel::make(const ModelPointer& parent, const std::string& name, std::uint32_t mode,
                         const std::string& target, core::Instant now, ModelPointer& made) {
  if (const int wrong = check_name(name)) return wrong;
  if (!S_ISDIR(parent->mode)) return ENOTDIR;
  if (parent->removed) return ENOENT;
  if (living(parent, name, now)) return EEXIST;
  made = std::make_shared<ModelInode>();
  made->mode = mode;
  made->target = target;
  if (S_ISDIR(mode)) {
    made->links = 2;
    made->ttl = parent->ttl;
    made->parent = parent;
    ++parent->links;
  } else {
    made->links = 1;
    made->deadline = now + (parent->ttl.count() > 0 ? parent->ttl : default_ttl_);
  }
  parent->names[name] = made;
  inodes.push_back(made);
  return 0;
}

int NamespaceModel::link(const ModelPointer& inode, const ModelPointer& parent, const std::string& name,
                         core::Instant now) {
  if (const int wrong = check_name(name)) return wrong;
  if (is_dead(*inode, now)) return ENOENT;
  if (S_ISDIR(inode->mode)) return EPERM;
  if (!S_ISDIR(parent->mode)) return ENOTDIR;
  if (parent->removed) return ENOENT;
  if (living(parent, name, now)) return EEXIST;
  parent->names[name] = inode;
  ++inode->links;
  return 0;
}

int NamespaceModel::lookup(const ModelPointer& parent, const std::string& name, core::Instant now,
                           ModelPointer& found) const {
  if (const int wrong = check_name(name)) return wrong;
  if (!S_ISDIR(parent->mode)) return ENOTDIR;
  const auto entry = parent->names.find(name);
  if (entry == parent->names.end() || is_dead(*entry->second, now)) return ENOENT;
  found = entry->second;
  return 0;
}

int NamespaceModel::unlink(const ModelPointer& parent, const std::string& name, core::Instant now) {
  ModelPointer inode;
  if (const int wrong = lookup(parent, name, now, inode)) return wrong;
  if (S_ISDIR(inode->mode)) return EISDIR;
  parent->names.erase(name);
  drop_link(inode);
  return 0;
}

int NamespaceModel::remove_directory(const ModelPointer& parent, const std::string& name, core::Instant now) {
  ModelPointer inode;
  if (const int wrong = lookup(parent, name, now, inode)) return wrong;
  if (!S_ISDIR(inode->mode)) return ENOTDIR;
  if (!list(*inode, now).empty()) return ENOTEMPTY;
  while (!inode->names.empty()) bury(ModelPointer(inode->names.begin()->second));
  parent->names.erase(name);
  --parent->links;
  inode->links = 0;
  inode->removed = true;
  inode->parent.reset();
  return 0;
}

int NamespaceModel::rename(const ModelPointer& parent, const std::string& name, const ModelPointer& new_parent,
                           const std::string& new_name, RenameMode mode, core::Instant now) {
  if (const int wrong = check_name(name)) return wrong;
  if (const int wrong = check_name(new_name)) return wrong;
  if (!S_ISDIR(parent->mode) || !S_ISDIR(new_parent->mode)) return ENOTDIR;
  ModelPointer source;
  if (const int wrong = lookup(parent, name, now, source)) return wrong;
  const ModelPointer target = new_parent->removed ? nullptr : living(new_parent, new_name, now);
  const bool exchange = mode == RenameMode::exchange;
  if (target && mode == RenameMode::no_replace) return EEXIST;
  if (!target && exchange) return ENOENT;
  if (is_within(new_parent, source)) return EINVAL;
  if (target && is_within(parent, target)) return exchange ? EINVAL : ENOTEMPTY;
  if (target == source) return 0;
  const bool is_directory = S_ISDIR(source->mode);
  if (exchange) {
    const int moved = (is_directory ? 1 : 0) - (S_ISDIR(target->mode) ? 1 : 0);
    new_parent->links += static_cast<std::uint32_t>(moved);
    parent->links -= static_cast<std::uint32_t>(moved);
    parent->names[name] = target;
    new_parent->names[new_name] = source;
    if (is_directory) source->parent = new_parent;
    if (S_ISDIR(target->mode)) target->parent = parent;
    return 0;
  }
  if (target) {
    if (is_directory && !S_ISDIR(target->mode)) return ENOTDIR;
    if (!is_directory && S_ISDIR(target->mode)) return EISDIR;
    if (is_directory && !list(*target, now).empty()) return ENOTEMPTY;
  }
  if (new_parent->removed) return ENOENT;
  if (target) {
    if (is_directory) {
      while (!target->names.empty()) bury(ModelPointer(target->names.begin()->second));
      --new_parent->links;
      target->links = 0;
      target->removed = true;
      target->parent.reset();
    } else {
      if (S_ISREG(source->mode) && S_ISREG(target->mode) && !source->is_explicit) {
        source->deadline = target->deadline;
        source->is_explicit = target->is_explicit;
      }
      drop_link(target);
    }
  }
  parent->names.erase(name);
  new_parent->names[new_name] = source;
  if (is_directory) {
    --parent->links;
    ++new_parent->links;
    source->parent = new_parent;
  }
  return 0;
}

}  // namespace ephfs::fs::testing
