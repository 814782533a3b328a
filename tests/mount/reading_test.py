# SPDX-License-Identifier: Apache-2.0
"""What reading a file changes of it: its deadline where its mode says so, and its access time where the mount does."""
import errno
import os
import signal
import subprocess
import sys
import time
import unittest

from deadlines import Watcher, deadline_of, look_over, sleep_until
from ephfs_processes import EphfsTest

TTL = 3.0
PAUSE = 0.05
SIZE = 100_000


class ReadingTest(EphfsTest):
    def write(self, volume, name="f", ttl=None):
        path = volume.path(name)
        with open(path, "wb") as out:
            out.write(b"x" * SIZE)
            os.fsync(out.fileno())
        if ttl:
            os.setxattr(path, "user.ephfs.ttl", b"%dms" % round(ttl * 1000))
        return path

    def read(self, path):
        with open(path, "rb") as source:
            self.assertEqual(len(source.read()), SIZE)


class Sliding(ReadingTest):
    """In mode `accessed` a file lives while it is read, also from the kernel's cache."""

    def setUp(self):
        super().setUp()
        self.mounted = self.volume("ttl=1d,ttl_mode=accessed")

    def read_while_alive(self, path, read):
        """Reads for more than two ttls, then not: the deadline follows the last read by the ttl, and is kept."""
        end = time.time() + 2 * TTL + 1
        while time.time() < end:
            began = time.time()
            read()
            time.sleep(PAUSE)
        deadline = deadline_of(path)
        self.assertLessEqual(deadline, time.time() + TTL)
        # 2/64 of the ttl behind at most; what is more is for a busy machine.
        self.assertGreater(deadline, began + TTL * (1 - 2 / 64) - 1)
        self.assert_dies(path, deadline)

    def assert_dies(self, path, deadline):
        sleep_until(deadline)
        with self.assertRaises(FileNotFoundError):
            os.open(path, os.O_RDONLY)

    def test_opened_for_each_read(self):
        path = self.write(self.mounted, ttl=TTL)
        self.read_while_alive(path, lambda: self.read(path))

    def test_by_a_descriptor_that_is_kept(self):
        path = self.write(self.mounted, ttl=TTL)
        held = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, held)
        self.read_while_alive(path, lambda: self.assertEqual(len(os.pread(held, SIZE, 0)), SIZE))
        with self.assertRaises(OSError) as refused:
            os.pread(held, SIZE, 0)
        self.assertEqual(refused.exception.errno, errno.ESTALE)

    def test_by_the_descriptor_it_was_written_through(self):
        path = self.write(self.mounted, ttl=TTL)
        held = os.open(path, os.O_RDWR)
        self.addCleanup(os.close, held)
        os.pwrite(held, b"y" * SIZE, 0)
        self.read_while_alive(path, lambda: self.assertEqual(len(os.pread(held, SIZE, 0)), SIZE))

    def test_by_a_shared_map(self):
        path = self.write(self.mounted, ttl=TTL)
        # A process of its own, because the file's death ends it.
        reader = subprocess.Popen([sys.executable, "-c", f"""
import mmap, os, sys
held = os.open({path!r}, os.O_RDONLY)
pages = mmap.mmap(held, 0, prot=mmap.PROT_READ)
os.close(held)
for _ in sys.stdin:
    pages[::4096]
    print("read", flush=True)
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(reader.communicate)
        self.addCleanup(reader.kill)

        def read():
            reader.stdin.write("\n")
            reader.stdin.flush()
            self.assertEqual(reader.stdout.readline(), "read\n")
        self.read_while_alive(path, read)
        reader.stdin.write("\n")
        reader.stdin.flush()
        self.assertEqual(reader.wait(timeout=20), -signal.SIGBUS)

    def test_in_mode_fixed_reading_moves_nothing(self):
        path = self.write(self.mounted)
        os.setxattr(path, "user.ephfs.ttl_mode", b"fixed")
        os.setxattr(path, "user.ephfs.ttl", b"%ds" % TTL)
        deadline = deadline_of(path)
        held = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, held)
        # By the path it may die between opening and reading.
        ways = [Watcher(lambda: os.pread(held, SIZE, 0), errno.ESTALE),
                Watcher(lambda: self.read(path), errno.ENOENT, errno.ESTALE)]
        while time.time() < deadline - 0.2:
            for way in ways:
                way.look()
            time.sleep(PAUSE)
        look_over(deadline, ways)
        for way in ways:
            way.judge(self, deadline)


class AccessTimes(ReadingTest):
    def remounted(self, volume, options):
        """With nothing of it in the kernel's cache."""
        volume.umount()
        return volume.mount(options)

    def read_anew(self, volume, path, options):
        """Reads under these options; how far that moved access time and deadline."""
        before = os.stat(path).st_atime_ns, deadline_of(path)
        self.remounted(volume, options)
        self.read(path)
        self.remounted(volume, "ttl=1d")
        return os.stat(path).st_atime_ns - before[0], deadline_of(path) - before[1]

    def test_noatime(self):
        volume = self.volume("ttl=1d")
        path = self.write(volume)
        self.assertEqual(self.read_anew(volume, path, "ttl=1d,noatime")[0], 0)
        self.assertGreater(self.read_anew(volume, path, "ttl=1d,noatime,relatime")[0], 0, "the last one holds")

    def test_noatime_does_not_keep_a_deadline_from_sliding(self):
        volume = self.volume("ttl=1d")
        path = self.write(volume)
        os.setxattr(path, "user.ephfs.ttl_mode", b"accessed")
        os.setxattr(path, "user.ephfs.ttl", b"10s")
        time.sleep(0.5)
        accessed, slid = self.read_anew(volume, path, "ttl=1d,noatime")
        self.assertEqual(accessed, 0)
        self.assertGreater(slid, 0)

    def test_on_a_read_only_mount_reading_changes_nothing(self):
        volume = self.volume("ttl=1d")
        path = self.write(volume)
        os.setxattr(path, "user.ephfs.ttl_mode", b"accessed")
        os.setxattr(path, "user.ephfs.ttl", b"20s")
        time.sleep(0.5)
        self.assertEqual(self.read_anew(volume, path, "ttl=1d,ro"), (0, 0))


del ReadingTest

if __name__ == "__main__":
    unittest.main(verbosity=2)
