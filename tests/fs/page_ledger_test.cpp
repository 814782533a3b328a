// SPDX-License-Identifier: Apache-2.0
// Which inodes have pages, as a process that was forked before sees it.
#include "fs/page_ledger.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include "tests/fs/engine_fixture.hpp"

namespace ephfs::fs::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::unique_ptr<PageLedger> make_ledger(std::size_t places) {
  auto made = PageLedger::make(places);
  EXPECT_TRUE(made) << made.error();
  return *std::move(made);
}

std::vector<std::uint64_t> seen(const PageLedger& ledger) {
  std::vector<std::uint64_t> numbers;
  ledger.visit([&](InodeNumber number) { numbers.push_back(number.value); });
  return numbers;
}

TEST(PageLedger, KnowsWhatIsInAndReusesPlaces) {
  const auto ledger = make_ledger(2);
  EXPECT_THAT(seen(*ledger), IsEmpty());
  const auto seven = ledger->add({7});
  (void)ledger->add({9});
  EXPECT_THAT(seen(*ledger), UnorderedElementsAre(7, 9));
  ledger->remove(seven);
  EXPECT_THAT(seen(*ledger), ElementsAre(9));
  (void)ledger->add({1'000'000});
  EXPECT_THAT(seen(*ledger), UnorderedElementsAre(9, 1'000'000));
}

TEST(PageLedger, WithTooFewPlacesLeavesNobodyOut) {
  const auto ledger = make_ledger(1);
  const auto kept = ledger->add({2});
  const auto homeless = ledger->add({4});
  EXPECT_THAT(seen(*ledger), ElementsAre(1, 2, 3, 4));
  ledger->remove(homeless);
  ledger->remove(kept);
  (void)ledger->add({3});
  EXPECT_THAT(seen(*ledger), ElementsAre(1, 2, 3, 4)) << "what was left out may still be there";
}

TEST(PageLedger, IsSharedWithWhoWasForkedBefore) {
  const auto ledger = make_ledger(8);
  std::array<int, 2> written{};
  ASSERT_EQ(::pipe(written.data()), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    char byte = 0;
    const bool told = ::read(written[0], &byte, 1) == 1;
    ::_exit(told && seen(*ledger) == std::vector<std::uint64_t>{5} ? 0 : 1);
  }
  (void)ledger->add({5});
  ASSERT_EQ(::write(written[1], "x", 1), 1);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ::close(written[0]);
  ::close(written[1]);
}

}  // namespace
}  // namespace ephfs::fs::testing
