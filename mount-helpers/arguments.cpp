// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "mount-helpers/commands.hpp"

namespace ephfs::cli {

using core::Error;
using core::fail;

std::string ParsedArguments::value(const std::string& name, const std::string& otherwise) const {
  const auto found = options.find(name);
  return found == options.end() ? otherwise : found->second.back();
}

std::string ParsedArguments::joined(const std::string& name) const {
  std::string all;
  const auto found = options.find(name);
  if (found == options.end()) return all;
  for (const auto& part : found->second) all += (all.empty() ? "" : ",") + part;
  return all;
}

core::Result<ParsedArguments> parse_arguments(const Arguments& arguments, const std::vector<ArgumentOption>& options) {
  ParsedArguments parsed;
  bool only_words = false;
  for (std::size_t at = 0; at < arguments.size(); ++at) {
    const std::string& argument = arguments[at];
    if (only_words || argument.size() < 2 || argument[0] != '-') {
      parsed.words.push_back(argument);
      continue;
    }
    if (argument == "--") {
      only_words = true;
      parsed.dashes = parsed.words.size();
      continue;
    }
    const auto equals = argument.starts_with("--") ? argument.find('=') : std::string::npos;
    const std::string name = argument.substr(0, equals);
    const auto option = std::ranges::find(options, name, &ArgumentOption::name);
    if (option == options.end()) return fail(Error::invalid_argument, "unknown option " + name);
    if (!option->takes_value) {
      if (equals != std::string::npos) return fail(Error::invalid_argument, "option " + name + " takes no value");
      parsed.options[name].emplace_back();
    } else if (equals != std::string::npos) {
      parsed.options[name].push_back(argument.substr(equals + 1));
    } else if (at + 1 < arguments.size()) {
      parsed.options[name].push_back(arguments[++at]);
    } else {
      return fail(Error::invalid_argument, "option " + name + " needs a value");
    }
  }
  return parsed;
}

core::Failure usage(const std::string& line) {
  return fail(Error::invalid_argument, "usage: " + line);
}

}  // namespace ephfs::cli
