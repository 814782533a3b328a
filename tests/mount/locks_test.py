# SPDX-License-Identifier: Apache-2.0
"""File locks: who keeps whom out of what, and what ends a lock. Waiting for one is in lock_waits_test.py."""
import errno
import os

from locker_process import EXCLUSIVE, FLOCK, NONE, OPEN_FILE, RECORD, SHARED
from lockers import ALL, OF_OPEN_FILES, OF_RANGES, LockTest, by


class Kinds(LockTest):
    @by(*ALL)
    def test_an_exclusive_lock_keeps_the_others_out(self):
        one, two = self.lockers(2)
        self.assert_taken(one, EXCLUSIVE)
        self.assert_taken(one, EXCLUSIVE)
        self.assert_refused(two, EXCLUSIVE)
        self.assert_refused(two, SHARED)
        self.assert_taken(two, NONE)
        self.assert_refused(two, SHARED)
        self.assert_taken(one, NONE)
        self.assert_taken(two, EXCLUSIVE)
        self.assert_refused(one, SHARED)

    @by(*ALL)
    def test_a_shared_lock_lets_the_shared_in(self):
        one, two, three = self.lockers(3)
        self.assert_taken(one, SHARED)
        self.assert_taken(two, SHARED)
        self.assert_refused(three, EXCLUSIVE)
        self.assert_taken(one, NONE)
        self.assert_refused(three, EXCLUSIVE)
        self.assert_taken(two, NONE)
        self.assert_taken(three, EXCLUSIVE)

    @by(*ALL)
    def test_a_lock_changes_its_kind(self):
        one, two = self.lockers(2)
        self.assert_taken(one, SHARED)
        self.assert_taken(one, EXCLUSIVE)
        self.assert_refused(two, SHARED)
        self.assert_taken(one, SHARED)
        self.assert_taken(two, SHARED)
        self.assert_refused(one, EXCLUSIVE)
        # Only flock(2) lets go of the old lock first.
        self.assertEqual(two.take(EXCLUSIVE), 0 if self.way == FLOCK else errno.EAGAIN)

    @by(RECORD)
    def test_what_a_descriptor_is_open_for(self):
        one, = self.lockers(1)
        reading, writing = one.open(flags=os.O_RDONLY), one.open(flags=os.O_WRONLY)
        self.assertEqual(one.take(EXCLUSIVE, fd=reading), errno.EBADF)
        self.assertEqual(one.take(SHARED, fd=writing), errno.EBADF)
        self.assert_taken(one, SHARED, fd=reading)
        self.assert_taken(one, EXCLUSIVE, fd=writing)

    @by(FLOCK)
    def test_of_a_directory_and_of_a_file_open_for_reading(self):
        open(self.path(), "w").close()
        for name in ("f", "."):
            one, two = self.locker(), self.locker()
            for locker in (one, two):
                locker.open(name, os.O_RDONLY)
            self.assert_taken(one, EXCLUSIVE)
            self.assert_refused(two, SHARED)

    @by(FLOCK)
    def test_what_knows_of_one_another(self):
        whole, = self.lockers(1)
        record, open_file = self.locker(RECORD), self.locker(OPEN_FILE)
        for locker in (record, open_file):
            locker.open()
        self.assert_taken(whole, EXCLUSIVE)
        self.assert_taken(record, EXCLUSIVE)
        self.assert_refused(open_file, SHARED)
        self.assert_taken(record, NONE)
        self.assert_taken(open_file, EXCLUSIVE)
        self.assert_refused(record, SHARED)

    @by(*ALL)
    def test_a_file_is_the_same_by_all_its_names(self):
        one, two, three = self.lockers(3)
        os.link(self.path(), self.path("link"))
        os.rename(self.path(), self.path("moved"))
        other = two.open("link"), three.open("moved")
        self.assert_taken(one, EXCLUSIVE)
        self.assert_refused(two, SHARED, fd=other[0])
        self.assert_refused(three, SHARED, fd=other[1])

    @by(*ALL)
    def test_an_unlinked_file_is_locked_as_before_and_its_name_is_not(self):
        one, two = self.lockers(2)
        self.assert_taken(one, EXCLUSIVE)
        os.unlink(self.path())
        self.assert_refused(two, SHARED)
        new = two.open()
        self.assert_taken(two, EXCLUSIVE, fd=new)
        self.assert_taken(one, NONE)
        self.assert_taken(two, EXCLUSIVE)

    @by(*ALL)
    def test_a_file_that_is_saved_over_is_another(self):
        one, two = self.lockers(2)
        self.assert_taken(one, EXCLUSIVE)
        open(self.path("new"), "w").close()
        os.rename(self.path("new"), self.path())
        new = two.open()
        self.assert_taken(two, EXCLUSIVE, fd=new)
        self.assert_refused(two, EXCLUSIVE)


class Ranges(LockTest):
    @by(*OF_RANGES)
    def test_only_what_overlaps_is_refused(self):
        one, two = self.lockers(2)
        self.assert_taken(one, EXCLUSIVE, 10, 10)
        for start, length in ((0, 10), (20, 1), (1 << 40, 0)):
            self.assert_taken(two, EXCLUSIVE, start, length)
        for start, length in ((0, 11), (19, 1), (12, 2), (0, 0), (5, 0)):
            self.assert_refused(two, SHARED, start, length)

    @by(*OF_RANGES)
    def test_a_range_splits_and_merges(self):
        one, two = self.lockers(2)
        for change, held in (((EXCLUSIVE, 0, 100), [(EXCLUSIVE, 0, 100)]),
                             ((NONE, 40, 20), [(EXCLUSIVE, 0, 40), (EXCLUSIVE, 60, 40)]),
                             ((SHARED, 50, 20), [(EXCLUSIVE, 0, 40), (SHARED, 50, 20), (EXCLUSIVE, 70, 30)]),
                             ((SHARED, 45, 5), [(EXCLUSIVE, 0, 40), (SHARED, 45, 25), (EXCLUSIVE, 70, 30)]),
                             ((EXCLUSIVE, 30, 40), [(EXCLUSIVE, 0, 100)]),
                             ((EXCLUSIVE, 90, 0), [(EXCLUSIVE, 0, 0)]),
                             ((NONE, 10, 0), [(EXCLUSIVE, 0, 10)]),
                             ((NONE, 0, 0), [])):
            self.assert_taken(one, *change)
            self.assertEqual(two.ranges_of_others(), held, change)

    @by(*OF_RANGES)
    def test_who_is_in_the_way(self):
        one, two = self.lockers(2)
        self.assert_taken(one, SHARED, 10, 10)
        self.assertIsNone(two.conflict(SHARED))
        self.assertIsNone(two.conflict(EXCLUSIVE, 0, 10))
        self.assertIsNone(one.conflict(EXCLUSIVE))
        holder = one.process.pid if self.way == RECORD else -1
        self.assertEqual(two.conflict(EXCLUSIVE, 15, 100), [SHARED, 10, 10, holder])

    @by(*OF_RANGES)
    def test_a_range_is_counted_from_the_end_that_there_is(self):
        one, two = self.lockers(2)
        two.write(100)
        self.assert_taken(one, EXCLUSIVE, -10, 10, whence=os.SEEK_END)
        two.write(100)
        self.assert_taken(one, EXCLUSIVE, 0, -20, whence=os.SEEK_END)
        os.truncate(self.path(), 50)
        self.assert_taken(one, EXCLUSIVE, 0, 5, whence=os.SEEK_END)
        self.assertEqual(two.ranges_of_others(), [(EXCLUSIVE, 50, 5), (EXCLUSIVE, 90, 10), (EXCLUSIVE, 180, 20)])
        self.assertEqual(one.take(EXCLUSIVE, -51, 1, whence=os.SEEK_END), errno.EINVAL)
        self.assertEqual(one.take(EXCLUSIVE, (1 << 63) - 1, 2), errno.EOVERFLOW)


class Ends(LockTest):
    """What ends a lock that nobody lets go of."""

    @by(RECORD)
    def test_a_record_lock_ends_with_any_descriptor_of_its_process(self):
        one, two = self.lockers(2)
        for other in (one.open(), one.dup(), one.open(flags=os.O_RDONLY)):
            self.assert_taken(one, EXCLUSIVE)
            self.assert_refused(two, SHARED)
            one.close(other)
            self.assert_taken(two, EXCLUSIVE)
            self.assert_taken(two, NONE)

    @by(*OF_OPEN_FILES)
    def test_an_open_files_lock_ends_with_its_last_descriptor(self):
        one, two = self.lockers(2)
        other, copy = one.open(), one.dup()
        self.assert_taken(one, EXCLUSIVE)
        self.assert_refused(one, SHARED, fd=other)
        self.assert_taken(one, EXCLUSIVE, fd=copy)
        for closed in (other, one.fd):
            one.close(closed)
            self.assert_refused(two, SHARED)
        one.close(copy)
        self.assert_taken(two, EXCLUSIVE)

    @by(*ALL)
    def test_a_killed_process_holds_nothing(self):
        one, two = self.lockers(2)
        self.assert_taken(one, EXCLUSIVE)
        self.assert_refused(two, SHARED)
        one.kill()
        self.assert_taken(two, EXCLUSIVE)

    @by(RECORD)
    def test_a_record_lock_is_not_inherited_by_a_fork(self):
        one, two = self.lockers(2)
        self.assert_taken(one, EXCLUSIVE)
        self.assertEqual(one.take_in_fork(SHARED), errno.EAGAIN)
        self.assertEqual(one.take_in_fork(NONE), 0)
        self.assert_refused(two, SHARED)

    @by(*OF_OPEN_FILES)
    def test_an_open_files_lock_is_shared_with_a_fork(self):
        one, two = self.lockers(2)
        self.assert_taken(one, EXCLUSIVE)
        self.assertEqual(one.take_in_fork(EXCLUSIVE), 0)
        self.assert_refused(two, SHARED)
        self.assertEqual(one.take_in_fork(NONE), 0)
        self.assert_taken(two, EXCLUSIVE)

    @by(*ALL)
    def test_another_program_in_the_same_process_keeps_it(self):
        one, two = self.lockers(2)
        self.assert_taken(one, EXCLUSIVE)
        self.assertEqual(one.become_anew(), 0)
        self.assert_refused(two, SHARED)
        one.close()
        self.assert_taken(two, EXCLUSIVE)
