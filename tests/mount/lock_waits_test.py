# SPDX-License-Identifier: Apache-2.0
"""Waiting for a file lock: who waits gets it, is interrupted or refused, whatever happens to the holder, file and daemon."""
import errno
import os
import time

from deadlines import set_deadline, sleep_until
from ephfs_processes import wait_for
from locker_process import EXCLUSIVE, NONE, RECORD, SHARED
from lockers import ALL, OF_RANGES, LockTest, by


class Waiting(LockTest):
    def holder_and_waiters(self, count, kind=EXCLUSIVE):
        holder, *waiting = self.lockers(1 + count)
        self.assert_taken(holder, EXCLUSIVE)
        for waiter in waiting:
            waiter.begin(kind)
        self.wait_for_waiters(count)
        return holder, waiting

    @by(*ALL)
    def test_gets_what_is_unlocked(self):
        holder, (waiter,) = self.holder_and_waiters(1)
        self.assert_taken(holder, NONE)
        self.assertEqual(waiter.answer(), 0)
        self.assert_refused(holder, SHARED)

    @by(*ALL)
    def test_gets_what_is_closed(self):
        holder, (waiter,) = self.holder_and_waiters(1)
        holder.close()
        self.assertEqual(waiter.answer(), 0)

    @by(*ALL)
    def test_gets_what_a_killed_process_held(self):
        holder, (waiter,) = self.holder_and_waiters(1)
        holder.kill()
        self.assertEqual(waiter.answer(), 0)

    @by(*ALL)
    def test_each_of_several_gets_it_in_turn(self):
        holder, waiting = self.holder_and_waiters(4)
        while waiting:
            self.assert_taken(holder, NONE)
            wait_for("the next", lambda: any(waiter.has_answered() for waiter in waiting))
            self.wait_for_waiters(len(waiting) - 1)
            holder, = [waiter for waiter in waiting if waiter.has_answered()]
            self.assertEqual(holder.answer(), 0)
            waiting.remove(holder)

    @by(*ALL)
    def test_all_who_share_get_it_together(self):
        holder, waiting = self.holder_and_waiters(3, SHARED)
        self.assert_taken(holder, NONE)
        self.assertEqual([waiter.answer() for waiter in waiting], [0, 0, 0])
        self.assert_refused(holder, EXCLUSIVE)

    @by(*OF_RANGES)
    def test_gets_the_range_that_is_unlocked(self):
        holder, low, high = self.lockers(3)
        self.assert_taken(holder, EXCLUSIVE, 0, 100)
        low.begin(EXCLUSIVE, 0, 10)
        high.begin(EXCLUSIVE, 50, 10)
        self.wait_for_waiters(2)
        self.assert_taken(holder, NONE, 45, 20)
        self.assertEqual(high.answer(), 0)
        self.wait_for_waiters(1)
        self.assertFalse(low.has_answered())
        holder.kill()
        self.assertEqual(low.answer(), 0)

    @by(*ALL)
    def test_interrupted_it_holds_nothing(self):
        holder, (waiter,) = self.holder_and_waiters(1)
        waiter.interrupt()
        self.assertEqual(waiter.answer(), errno.EINTR)
        self.wait_for_waiters(0)
        self.assert_taken(holder, NONE)
        self.assert_taken(holder, EXCLUSIVE)

    @by(*ALL)
    def test_killed_it_is_in_nobodys_way(self):
        holder, (first, second) = self.holder_and_waiters(2)
        first.kill()
        self.wait_for_waiters(1)
        self.assert_taken(holder, NONE)
        self.assertEqual(second.answer(), 0)

    @by(RECORD)
    def test_a_deadlock_is_refused(self):
        for count in (2, 3):
            ring = self.lockers(count, f"ring{count}")
            for place, locker in enumerate(ring):
                self.assert_taken(locker, EXCLUSIVE, place, 1)
            for place, locker in enumerate(ring[:-1]):
                locker.begin(EXCLUSIVE, place + 1, 1)
            self.wait_for_waiters(count - 1, f"ring{count}")
            ring[-1].begin(EXCLUSIVE, 0, 1)
            self.assertEqual(ring[-1].answer(), errno.EDEADLK)
            # It has kept what it held, and when that ends, each gets what he waits for.
            for locker, behind in zip(ring[:0:-1], ring[-2::-1]):
                self.assertFalse(behind.has_answered())
                self.assert_taken(locker, NONE)
                self.assertEqual(behind.answer(), 0)

    @by(*ALL)
    def test_of_a_file_that_is_unlinked_meanwhile(self):
        holder, (waiter,) = self.holder_and_waiters(1)
        os.unlink(self.path())
        self.lockers(1)
        holder.kill()
        self.assertEqual(waiter.answer(), 0)


class Dying(LockTest):
    """What no local file system has: a deadline, and a daemon that may be killed."""

    def held_and_awaited(self):
        """For each way to lock, a file of that name and who holds and who awaits it."""
        self.directory = self.mounted.mountpoint
        pairs = {}
        for way in ALL:
            self.way = way
            holder, waiter = pairs[way] = self.lockers(2, way)
            self.assert_taken(holder, EXCLUSIVE)
            waiter.begin(EXCLUSIVE)
            self.wait_for_waiters(1, way)
        return pairs

    def dead(self):
        pairs = self.held_and_awaited()
        deadline = round(time.time() + 3, 3)
        for way in pairs:
            set_deadline(self.path(way), deadline)
        sleep_until(deadline)
        self.assertEqual(os.listdir(self.directory), [])
        return pairs

    def test_the_lock_of_a_dead_file_is_got_when_it_is_closed(self):
        for way, (holder, waiter) in self.dead().items():
            with self.subTest(way):
                self.assertFalse(waiter.has_answered())
                holder.close()
                self.assertEqual(waiter.answer(), 0)

    def test_the_lock_of_a_dead_file_is_got_when_its_holder_is_killed(self):
        for way, (holder, waiter) in self.dead().items():
            with self.subTest(way):
                holder.kill()
                self.assertEqual(waiter.answer(), 0)

    def test_the_lock_of_a_dead_file_is_not_its_names(self):
        for way in self.dead():
            with self.subTest(way):
                self.way = way
                new, = self.lockers(1, way)
                self.assert_taken(new, EXCLUSIVE)

    def test_a_killed_daemon_keeps_no_waiter(self):
        pairs = self.held_and_awaited()
        self.mounted.kill_daemon()
        for way, (holder, waiter) in pairs.items():
            with self.subTest(way):
                holder.kill()
                self.assertEqual(waiter.answer(), 0)
        self.end_lockers()
        self.mounted.detach()
