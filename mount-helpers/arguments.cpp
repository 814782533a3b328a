// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>

#include "mount-helpers/commands.hpp"

namespace ephfs::cli {

using core::Error;
using core::fail;

namespace {

std::string usage_line(const Synopsis& synopsis) {
  return "usage: " + std::string(synopsis.command) + (synopsis.form.empty() ? "" : " ") + std::string(synopsis.form);
}

}  // namespace

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

core::Result<ParsedArguments> parse_arguments(const Arguments& arguments, const Synopsis& synopsis) {
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
    const auto option = std::ranges::find(synopsis.options, name, &ArgumentOption::name);
    if (option == synopsis.options.end()) return fail(Error::invalid_argument, "unknown option " + name);
    if (option->value.empty()) {
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

core::Failure usage(const Synopsis& synopsis) {
  return fail(Error::invalid_argument, usage_line(synopsis));
}

core::Failure bad_option(const ParsedArguments& parsed, const std::string& name, const std::string& expected) {
  return fail(Error::invalid_argument, "option " + name + " " + parsed.value(name) + ": expected " + expected);
}

bool wants_help(const Arguments& arguments, const Synopsis& synopsis) {
  for (std::size_t at = 0; at < arguments.size() && arguments[at] != "--"; ++at) {
    const std::string& argument = arguments[at];
    const auto own = std::ranges::find(synopsis.options, argument, &ArgumentOption::name);
    const bool is_own = own != synopsis.options.end();
    if (argument == "--help" || (argument == "-h" && (!is_own || arguments.size() == 1))) return true;
    if (is_own && !own->value.empty()) ++at;
  }
  return false;
}

std::string help_text(const Synopsis& synopsis) {
  std::string text = usage_line(synopsis) + "\n" + std::string(synopsis.help) + "\n";
  std::size_t width = 0;
  const auto shown = [](const ArgumentOption& option) {
    return std::string(option.name) + (option.value.empty() ? "" : " ") + std::string(option.value);
  };
  for (const auto& option : synopsis.options) width = std::max(width, shown(option).size());
  for (const auto& option : synopsis.options) {
    std::string line = "  " + shown(option);
    line.resize(width + 4, ' ');
    text += line + std::string(option.help) + "\n";
  }
  return text;
}

std::string line_of(const core::Failure& failure) {
  if (failure.code == Error::invalid_argument && !failure.detail.empty()) return failure.detail;
  // What a daemon said ends with the words of its own code.
  for (int i = 0; i <= static_cast<int>(Error::no_memory); ++i) {
    const std::string words(core::to_string(static_cast<Error>(i)));
    if (failure.code == Error::io && failure.detail.ends_with(": " + words)) return failure.detail;
  }
  return failure.message();
}

core::Result<> finish_output() {
  const bool failed_before = std::ferror(stdout) != 0;
  if (std::fflush(stdout) != 0) return core::fail_errno("writing to standard output");
  if (failed_before) return fail(Error::io, "writing to standard output");
  return {};
}

}  // namespace ephfs::cli
