// SPDX-License-Identifier: Apache-2.0
// What a volume's names should be: a tree in plain maps, with the errors POSIX asks for and the deadlines
// ephfs adds. Operations are named as the engine's and give an errno, 0 when they succeed.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fs/engine.hpp"

namespace ephfs::fs::testing {

struct ModelInode {
  std::uint32_t mode = 0;
  std::uint32_t links = 0;
  std::string target;
  core::Instant deadline;  // not of directories
  bool is_explicit = false;
  Milliseconds ttl{0};  // a directory's default; 0: none
  std::map<std::string, std::shared_ptr<ModelInode>> names;
  std::weak_ptr<ModelInode> parent;  // of a directory
  bool removed = false;
  InodeNumber number;  // what the engine calls it
};
using ModelPointer = std::shared_ptr<ModelInode>;

class NamespaceModel {
 public:
  explicit NamespaceModel(Milliseconds default_ttl);

  int make(const ModelPointer& parent, const std::string& name, std::uint32_t mode, const std::string& target,
           core::Instant now, ModelPointer& made);
  int link(const ModelPointer& inode, const ModelPointer& parent, const std::string& name, core::Instant now);
  int unlink(const ModelPointer& parent, const std::string& name, core::Instant now);
  int remove_directory(const ModelPointer& parent, const std::string& name, core::Instant now);
  int rename(const ModelPointer& parent, const std::string& name, const ModelPointer& new_parent,
             const std::string& new_name, RenameMode mode, core::Instant now);
  int lookup(const ModelPointer& parent, const std::string& name, core::Instant now, ModelPointer& found) const;
  /// Names that are alive.
  [[nodiscard]] static std::map<std::string, ModelPointer> list(const ModelInode& directory, core::Instant now);
  [[nodiscard]] static bool is_dead(const ModelInode& inode, core::Instant now);

  ModelPointer root;
  /// Everything ever made, oldest first.
  std::vector<ModelPointer> inodes;
  /// How often something new came in the way of something dead.
  std::size_t buried = 0;

 private:
  /// The living inode of that name; one that died is forgotten with all its names.
  ModelPointer living(const ModelPointer& parent, const std::string& name, core::Instant now);
  void bury(const ModelPointer& dead);
  static int check_name(const std::string& name);
  static bool is_within(const ModelPointer& directory, const ModelPointer& ancestor);
  static void drop_link(const ModelPointer& inode);

  Milliseconds default_ttl_;
};

}  // namespace ephfs::fs::testing
