// SPDX-License-Identifier: Apache-2.0
#include "core/log.hpp"

#include <atomic>

#include <unistd.h>

namespace ephfs::core {
namespace {

std::atomic<LogSink> log_sink{nullptr};

}  // namespace

void log_line(std::string_view line) {
  if (const LogSink sink = log_sink.load()) return sink(std::string(line));
  std::string text = "ephfs: ";
  text += line;
  text += '\n';
  // One system call, so that lines of several threads never mix. Where even standard error is closed nobody is left.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

void set_log_sink(LogSink sink) {
  log_sink = sink;
}

}  // namespace ephfs::core
