// SPDX-License-Identifier: Apache-2.0
// Files against arrays of bytes: seeded random operations, byte for byte, over crashes and remounts.
#include <algorithm>
#include <thread>

#include "tests/fs/file_volume.hpp"

namespace ephfs::fs::testing {
namespace {

constexpr std::uint64_t kSizeMax = 300'000;
constexpr int kFiles = 4;

struct ModelFile {
  InodeNumber number;
  File open;
  core::Bytes bytes;
  core::Bytes flushed;     // what a crash cannot take
  bool is_flushed = true;  // nothing was changed since
};

class FileModel {
 public:
  FileModel(FileVolume& volume, Random& random) : volume_(volume), random_(random) {
    for (int i = 0; i < kFiles; ++i) {
      auto& file = files_.emplace_back();
      file.open = volume_.create("file" + std::to_string(i));
      file.number = file.open->inode->number;
    }
  }

  void step() {
    auto& file = files_[random_.below(files_.size())];
    switch (random_.below(16)) {
      case 0:
        return truncate(file);
      case 1:
        return punch(file);
      case 2:
        return zero(file);
      case 3:
        return copy(file);
      case 4:
        return append(file);
      case 5:
        return reopen(file);
      case 6:
      case 7:
        return flush(file);
      case 8:
        return seek(file);
      case 9:
      case 10:
      case 11:
        return read(file);
      default:
        return write(file);
    }
  }

  void crash() {
    for (auto& file : files_) file.open.reset();
    volume_.crash();
    for (auto& file : files_) {
      file.open = volume_.open_file(file.number);
      const auto content = volume_.content(file.open);
      ASSERT_TRUE(content) << content.error();
      if (file.is_flushed) {
        ASSERT_EQ(*content, file.flushed) << "flushed bytes of inode " << file.number.value;
      }
      file.bytes = file.flushed = *content;
      file.is_flushed = true;
    }
  }

  void remount() {
    const bool was_started = volume_.is_started();
    if (!was_started) volume_.start();
    for (auto& file : files_) {
      volume_.engine().release(file.open);
      file.open.reset();
    }
    volume_.close();
    volume_.open();
    if (was_started) volume_.start();
    for (auto& file : files_) {
      file.open = volume_.open_file(file.number);
      file.flushed = file.bytes;
      file.is_flushed = true;
    }
    check_all();
  }

  /// Gives a file another deadline: its bytes are to move.
  void change_ttl() {
    const auto& file = files_[random_.below(files_.size())];
    const auto set = volume_.set_ttl(file.number, std::to_string(random_.between(1, 30)) + "d");
    ASSERT_TRUE(set) << set.error();
  }

  void check_all() {
    for (auto& file : files_) {
      const auto content = volume_.content(file.open);
      ASSERT_TRUE(content) << content.error();
      ASSERT_EQ(*content, file.bytes) << "inode " << file.number.value;
    }
  }

 private:
  std::uint64_t length() { return random_.between(1, random_.chance(8) ? 70'000 : 5000); }

  void put(ModelFile& file, std::uint64_t offset, core::ByteView bytes) {
    if (file.bytes.size() < offset + bytes.size()) file.bytes.resize(offset + bytes.size());
    std::ranges::copy(bytes, file.bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    file.is_flushed = false;
  }
  /// A change that is committed at once: what is on disk is known again only after a flush.
  void fill_zero(ModelFile& file, std::uint64_t from, std::uint64_t to) {
    to = std::min<std::uint64_t>(to, file.bytes.size());
    if (from < to) std::fill_n(file.bytes.begin() + static_cast<std::ptrdiff_t>(from), to - from, std::byte{0});
    file.is_flushed = false;
  }

  void write(ModelFile& file) {
    const auto offset = random_.below(kSizeMax);
    const auto bytes = random_.bytes(length());
    const auto written = volume_.engine().try_write(*file.open, offset, bytes);
    ASSERT_TRUE(written) << written.error();
    put(file, offset, bytes);
  }
  void append(ModelFile& file) {
    const auto appender = volume_.open_file(file.number, O_WRONLY | O_APPEND);
    const auto bytes = random_.bytes(length());
    const auto written = volume_.engine().try_write(*appender, random_.below(100), bytes);
    volume_.engine().release(appender);
    ASSERT_TRUE(written) << written.error();
    put(file, file.bytes.size(), bytes);
    if (file.bytes.size() > 2 * kSizeMax) truncate(file);
  }
  void read(ModelFile& file) {
    const auto offset = random_.below(kSizeMax + 100);
    auto out = filled(length(), 0xa5);
    auto got = volume_.engine().try_read(*file.open, offset, out);
    if (!got && got.error().code == core::Error::would_block) {
      const core::MutableByteView view(out);
      got = volume_.run(volume_.engine().read(file.open, offset, view, {}));
    }
    ASSERT_TRUE(got) << got.error();
    const auto left = offset < file.bytes.size() ? file.bytes.size() - offset : 0;
    ASSERT_EQ(*got, std::min<std::uint64_t>(left, out.size()));
    ASSERT_TRUE(std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(*got),
                           file.bytes.begin() + static_cast<std::ptrdiff_t>(std::min(offset, file.bytes.size()))))
        << "at " << offset;
  }
  void truncate(ModelFile& file) {
    const auto size = random_.below(kSizeMax);
    const auto done = volume_.truncate(file.open, size);
    ASSERT_TRUE(done) << done.error();
    file.bytes.resize(size);
    file.is_flushed = false;
  }
  void punch(ModelFile& file) {
    const auto from = random_.below(kSizeMax);
    const auto size = length();
    const auto done = volume_.engine().allocate(*file.open, Allocation::punch_hole, from, size);
    ASSERT_TRUE(done) << done.error();
    fill_zero(file, from, from + size);
  }
  void zero(ModelFile& file) {
    const auto from = random_.below(kSizeMax);
    const auto size = length();
    const bool keep = random_.chance(2);
    const auto how = keep ? Allocation::zero_range_keep_size : Allocation::zero_range;
    const auto done = volume_.engine().allocate(*file.open, how, from, size);
    ASSERT_TRUE(done) << done.error();
    if (!keep && file.bytes.size() < from + size) file.bytes.resize(from + size);
    fill_zero(file, from, from + size);
  }
  void copy(ModelFile& to) {
    auto& from = files_[random_.below(files_.size())];
    const auto source = random_.below(kSizeMax);
    const auto target = random_.below(kSizeMax);
    const auto size = random_.between(1, 50'000);
    auto& engine = volume_.engine();
    const auto copied = volume_.run(engine.copy_range(from.open, source, to.open, target, size));
    const auto left = source < from.bytes.size() ? from.bytes.size() - source : 0;
    const auto clipped = std::min<std::uint64_t>(left, size);
    const bool overlaps = &from == &to && source < target + clipped && target < source + clipped;
    if (overlaps) {
      ASSERT_EQ(errno_of(copied), EINVAL);
      return;
    }
    ASSERT_TRUE(copied) << copied.error();
    ASSERT_EQ(*copied, clipped);
    if (*copied == 0) return;
    const core::Bytes bytes = core::to_bytes(core::ByteView(from.bytes).subspan(source, *copied));
    put(to, target, bytes);
  }
  void reopen(ModelFile& file) {
    volume_.engine().release(file.open);
    file.open = volume_.open_file(file.number);
  }
  void flush(ModelFile& file) {
    const auto flushed = volume_.engine().try_flush(*file.open);
    ASSERT_TRUE(flushed) << flushed.error();
    file.flushed = file.bytes;
    file.is_flushed = true;
  }
  /// Data is found wherever a byte is not zero, and whatever is no data is zero.
  void seek(ModelFile& file) {
    auto& engine = volume_.engine();
    std::uint64_t at = 0;
    while (at < file.bytes.size()) {
      const auto data = engine.seek(*file.open, SeekTo::data, at);
      if (!data) {
        ASSERT_EQ(data.error().code, core::Error::not_found);
      }
      const std::uint64_t hole_end = data ? *data : file.bytes.size();
      ASSERT_TRUE(std::all_of(file.bytes.begin() + static_cast<std::ptrdiff_t>(at),
                              file.bytes.begin() + static_cast<std::ptrdiff_t>(hole_end),
                              [](std::byte byte) { return byte == std::byte{0}; }));
      if (!data) return;
      const auto hole = engine.seek(*file.open, SeekTo::hole, *data);
      ASSERT_TRUE(hole) << hole.error();
      ASSERT_GT(*hole, *data);
      at = *hole;
    }
  }

  FileVolume& volume_;
  Random& random_;
  std::vector<ModelFile> files_;
};

void run_with_crashes(FileVolume& volume, Random& random, int steps) {
  volume.options.dirty_bytes = 400'000;
  volume.open();
  FileModel model(volume, random);
  for (int step = 0; step < steps; ++step) {
    if (random.chance(400)) {
      model.crash();
    } else if (random.chance(400)) {
      model.remount();
    } else {
      model.step();
    }
    if (::testing::Test::HasFatalFailure()) FAIL() << "step " << step;
  }
  model.check_all();
  EXPECT_TRUE(volume.catalog->check().value().empty());
}

TEST(FileModelTest, RandomOperationsAgreeByteForByte) {
  Random random;
  EPHFS_TRACE_SEED(random);
  FileVolume volume;
  run_with_crashes(volume, random, 4000);
}

TEST(FileModelTest, RandomOperationsAgreeInStaging) {
  Random random;
  EPHFS_TRACE_SEED(random);
  FileVolume volume(1);
  run_with_crashes(volume, random, 2000);
}

/// With everything running behind them: flushes by age, placing, compaction, moves to other deadlines, and a
/// cache so small that most reads go to the nodes.
TEST(FileModelTest, RandomOperationsAgreeOverNodes) {
  Random random;
  EPHFS_TRACE_SEED(random);
  FileVolume volume(6);
  volume.options.dirty_bytes = 400'000;
  volume.options.cache_bytes = 200'000;
  volume.options.inodes_kept = 1;
  volume.open();
  volume.start();
  FileModel model(volume, random);
  for (int step = 0; step < 1000; ++step) {
    if (random.chance(150)) {
      model.remount();
    } else if (random.chance(50)) {
      model.change_ttl();
    } else if (random.chance(10)) {
      volume.clock.run_for(std::chrono::milliseconds(random.below(60'000)));
    } else {
      model.step();
    }
    if (::testing::Test::HasFatalFailure()) FAIL() << "step " << step;
  }
  model.check_all();
  EXPECT_TRUE(volume.catalog->check().value().empty());
  EXPECT_TRUE(volume.log.empty()) << ::testing::PrintToString(volume.log);
}

/// Every commit and every staging in turn fails once; whatever the caller was told, memory, catalog and what
/// a remount finds agree.
TEST(FileModelTest, AFailureAnywhereLeavesTheFileAsItWas) {
  const auto run = [](unsigned failing, bool in_catalog) {
    FileVolume volume;
    volume.open();
    const File file = volume.create("file");
    const InodeNumber number = file->inode->number;
    unsigned calls = 0;
    bool failed = false;
    const auto fails = [&] { return failed = failed || calls == failing, calls++ == failing; };
    if (in_catalog) {
      volume.fail_commit = fails;
    } else {
      volume.disk->fail_stage = [&] { return fails() ? std::optional(core::Error::no_space) : std::nullopt; };
    }
    core::Bytes model;
    const auto write = [&](std::uint64_t offset, const core::Bytes& bytes) {
      EXPECT_TRUE(volume.engine().try_write(*file, offset, bytes));
      if (model.size() < offset + bytes.size()) model.resize(offset + bytes.size());
      std::ranges::copy(bytes, model.begin() + static_cast<std::ptrdiff_t>(offset));
    };
    const auto expect_model = [&](const char* after) {
      const auto content = volume.content(file);
      ASSERT_TRUE(content) << content.error();
      ASSERT_EQ(*content, model) << "after " << after << ", call " << failing
                                 << (in_catalog ? " of commit" : " of stage");
    };
    const auto flush = [&] {
      (void)volume.engine().try_flush(*file);
      expect_model("flush");
    };
    const auto punch = [&](std::uint64_t from, std::uint64_t to) {
      if (volume.engine().allocate(*file, Allocation::punch_hole, from, to - from)) {
        std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(from), to - from, std::byte{0});
      }
      expect_model("punch");
    };
    const auto truncate = [&](std::uint64_t size) {
      if (volume.truncate(file, size)) model.resize(size);
      expect_model("truncate");
    };
    write(0, filled(10'000, 1));
    write(20'000, filled(10'000, 2));
    write(40'000, filled(10'000, 3));
    flush();
    write(5000, filled(20'000, 4));
    punch(3000, 7000);
    flush();
    write(45'000, filled(10'000, 5));
    truncate(47'000);
    truncate(60'000);
    flush();
    punch(0, 50'000);
    write(100, filled(100, 6));
    flush();
    volume.fail_commit = nullptr;
    volume.disk->fail_stage = nullptr;
    const auto flushed = volume.engine().try_flush(*file);
    EXPECT_TRUE(flushed) << flushed.error();
    volume.crash();
    const File again = volume.open_file(number);
    const auto content = volume.content(again);
    EXPECT_TRUE(content && *content == model) << "remounted, call " << failing;
    return failed;
  };
  for (const bool in_catalog : {true, false}) {
    unsigned failing = 0;
    while (run(failing, in_catalog)) ++failing;
    EXPECT_GE(failing, 4U);
  }
}

/// Threads as the kernel's requests come: each writes blocks of its own value into one file, cuts it, flushes
/// it and reads it. A block is always one thread's, whole, or zero.
TEST(FileThreads, OneFileManyThreads) {
  constexpr std::size_t kBlock = 4096;
  constexpr std::size_t kBlocks = 64;
  constexpr int kThreads = 4;
  FileVolume volume(1);
  volume.options.dirty_bytes = 100'000;
  volume.open();
  const File file = volume.create("shared");
  std::atomic<int> wrong{0};
  const auto work = [&](int thread) {
    Random random(ephfs::testing::test_seed() + static_cast<std::uint64_t>(thread));
    const File own = volume.create("own" + std::to_string(thread));
    core::Bytes out(kBlock);
    for (int i = 0; i < 500; ++i) {
      const std::uint64_t at = random.below(kBlocks) * kBlock;
      const auto block = filled(kBlock, thread + 1);
      switch (random.below(6)) {
        case 0:
          wrong += volume.engine().try_flush(*file) ? 0 : 1;
          break;
        case 1:
          wrong += volume.truncate(file, at) ? 0 : 1;
          break;
        case 2:
          wrong += volume.engine().try_write(*own, at, block) ? 0 : 1;
          break;
        case 3: {
          const auto got = volume.engine().try_read(*file, at, out);
          if (!got) {
            ++wrong;
          } else if (*got == kBlock) {
            const bool one_value = std::ranges::all_of(out, [&](std::byte byte) { return byte == out[0]; });
            wrong += one_value ? 0 : 1;
          }
          break;
        }
        default:
          wrong += volume.engine().try_write(*file, at, block) ? 0 : 1;
      }
    }
    volume.engine().release(own);
  };
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < kThreads; ++thread) threads.emplace_back(work, thread);
  threads.clear();
  EXPECT_EQ(wrong, 0);
  volume.engine().release(file);
  EXPECT_TRUE(volume.catalog->check().value().empty());
}

}  // namespace
}  // namespace ephfs::fs::testing
