# SPDX-License-Identifier: Apache-2.0
"""Bytes go when they are to go: a shorter deadline, an unlink, a truncation are felt on every node's disk."""
import os
import random
import time

from deadlines import deadline_of, sleep_until
from ephfs_processes import EphfsTest, wait_for

FREED_WITHIN = 20.0  # how long nodes that can be reached may keep what was deleted


class OnSixNodes(EphfsTest):
    options = "profile=4+2,cache_size=0,ttl=1d"

    def setUp(self):
        super().setUp()
        self.six = self.pool(6)
        self.mounted = self.volume(self.options, token=self.six.token)

    def shards(self):
        return {os.path.basename(shard) for node in self.six.nodes for shard in node.shards()}

    def write(self, name, size):
        path = self.mounted.path(name)
        with open(path, "wb") as out:
            out.write(random.Random(name).randbytes(size))
            os.fsync(out.fileno())
        return path

    def wait_for_shards(self, count):
        """fsync returns when enough nodes have theirs; the others follow."""
        wait_for(f"{count} shards", lambda: len(self.shards()) == count)
        return self.shards()

    def assert_intact(self, name, size):
        with open(self.mounted.path(name), "rb") as source:
            self.assertEqual(source.read(), random.Random(name).randbytes(size))


class Shortening(OnSixNodes):
    def shorten(self, path, seconds):
        os.setxattr(path, "user.ephfs.ttl", b"%ds" % seconds)
        return deadline_of(path)

    def test_small_files_leave_a_shared_stripe(self):
        size = 100_000
        for name in ("long", "short"):  # one stripe holds both: neither is synced before the other is written
            with open(self.mounted.path(name), "wb") as out:
                out.write(random.Random(name).randbytes(size))
        for name in ("long", "short"):
            with open(self.mounted.path(name), "rb") as held:
                os.fsync(held.fileno())
        shared = self.wait_for_shards(6)
        deadline = self.shorten(self.mounted.path("short"), 8)
        # What holds the short file now is in shards of its own, and they are gone at its deadline.
        wait_for("a stripe that dies with it", lambda: self.shards() - shared)
        dying = self.shards() - shared
        sleep_until(deadline)
        wait_for("its shards' end", lambda: not dying & self.shards(), 2)
        self.mounted.remount_cold()
        self.assert_intact("long", size)
        self.assertEqual(os.listdir(self.mounted.mountpoint), ["long"])

    def test_a_big_file_takes_its_stripes_along(self):
        size = 12_000_000
        self.write("long", size)
        before = self.wait_for_shards(18)  # of three stripes
        path = self.write("short", size)
        own = self.wait_for_shards(36) - before
        deadline = self.shorten(path, 6)
        self.assert_intact("short", size)
        sleep_until(deadline)
        wait_for("its shards' end", lambda: not own & self.shards(), 2)
        self.mounted.remount_cold()
        self.assert_intact("long", size)

    def test_also_when_the_owner_goes_away(self):
        path = self.write("short", 9_000_000)
        deadline = self.shorten(path, 6)
        time.sleep(2)  # the shorter leases are agreed with all nodes
        self.mounted.umount()
        self.assertTrue(self.shards())
        sleep_until(deadline)
        wait_for("all shards' end", lambda: not self.shards(), 2)


class EarlyDeath(OnSixNodes):
    def test_unlinked(self):
        self.write("stays", 5_000_000)
        before = self.wait_for_shards(12)
        path = self.write("goes", 9_000_000)
        self.wait_for_shards(30)
        os.unlink(path)
        wait_for("its shards' end", lambda: self.shards() == before, FREED_WITHIN)
        self.assert_intact("stays", 5_000_000)

    def test_truncated(self):
        path = self.write("cut", 9_000_000)
        self.wait_for_shards(18)
        os.truncate(path, 0)
        wait_for("its shards' end", lambda: not self.shards(), FREED_WITHIN)


del OnSixNodes
