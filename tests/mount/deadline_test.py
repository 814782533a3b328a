# SPDX-License-Identifier: Apache-2.0
"""Files die on time: by path, descriptor and map, and on every node, whoever else is down."""
import errno
import os
import random
import signal
import subprocess
import sys
import time
import unittest

from deadlines import EARLY, Watcher, deadline_of, look_over, sleep_until
from ephfs_processes import EphfsTest, wait_for


class OneVolume(EphfsTest):
    def make(self, volume, name="f", ttl="3s", content=b"x" * 10_000):
        path = volume.path(name)
        with open(path, "wb") as out:
            out.write(content)
        os.setxattr(path, "user.ephfs.ttl", ttl.encode())
        return path

    def test_gone_at_the_deadline_by_path_and_descriptor(self):
        volume = self.volume()
        path = self.make(volume)
        deadline = deadline_of(path)
        handle = os.open(path, os.O_RDONLY)
        self.assertEqual(os.pread(handle, 4, 0), b"xxxx")

        watchers = [Watcher(lambda: os.stat(path), errno.ENOENT),
                    Watcher(lambda: os.close(os.open(path, os.O_RDONLY)), errno.ENOENT),
                    Watcher(lambda: os.pread(handle, 10, 0), errno.ESTALE),
                    Watcher(lambda: os.fstat(handle), errno.ESTALE),
                    Watcher(lambda: os.getxattr(path, "user.ephfs.expires"), errno.ENOENT)]
        look_over(deadline, watchers)
        for number, watcher in enumerate(watchers):
            with self.subTest(watcher=number):
                watcher.judge(self, deadline)
        self.assertEqual(os.listdir(volume.mountpoint), [])
        os.close(handle)
        # Its name is free again.
        self.make(volume, ttl="1h")
        self.assertEqual(os.listdir(volume.mountpoint), ["f"])

    def test_a_map_gives_sigbus_at_the_deadline(self):
        volume = self.volume()
        path = self.make(volume)
        deadline = deadline_of(path)
        reader = f"""
import mmap, os, time
handle = os.open({path!r}, os.O_RDONLY)
pages = mmap.mmap(handle, 0, prot=mmap.PROT_READ)
last = 0
while time.time() < {deadline} + 0.5:
    began = time.time()
    pages[5000]
    last = began
    os.pwrite(1, b"%.6f\\n" % last, 0)
"""
        with open(os.path.join(self.work, "seen"), "w+") as seen:
            done = subprocess.run([sys.executable, "-c", reader], stdout=seen, timeout=30)
            ended = time.time()
            seen.seek(0)
            last = float(seen.readline())
        self.assertEqual(done.returncode, -signal.SIGBUS)
        self.assertLess(last, deadline)
        self.assertGreaterEqual(ended, deadline - EARLY)

    def test_expired_while_unmounted(self):
        volume = self.volume()
        path = self.make(volume, ttl="2s")
        self.make(volume, "other", ttl="1h")
        deadline = deadline_of(path)
        volume.umount()
        sleep_until(deadline)
        volume.mount()
        self.assertEqual(os.listdir(volume.mountpoint), ["other"])

    def test_ttl_xattrs(self):
        volume = self.volume("ttl=1d,min_ttl=1m,max_ttl=30d")
        path = self.make(volume, ttl="2h")
        left = deadline_of(path) - time.time()
        self.assertTrue(7100 < left <= 7200, left)
        self.assertIn("user.ephfs.expires", os.listxattr(path))
        plain = volume.path("plain")
        open(plain, "w").close()
        self.assertEqual(os.listxattr(plain), [])
        self.assertTrue(86000 < deadline_of(plain) - time.time() <= 86400)
        for bad in (b"10s", b"31d", b"-5m", b"soon", b"", b"never", b"99999999999999999999d", b"2001-01-01T00:00:00Z"):
            with self.assertRaises(OSError, msg=bad) as refused:
                os.setxattr(path, "user.ephfs.ttl", bad)
            self.assertEqual(refused.exception.errno, errno.EINVAL, bad)
        with self.assertRaises(OSError) as refused:
            os.setxattr(path, "user.ephfs.nonsense", b"1")
        self.assertEqual(refused.exception.errno, errno.EINVAL)
        os.mkdir(volume.path("d"))
        os.setxattr(volume.path("d"), "user.ephfs.ttl", b"6h")
        os.mkdir(volume.path("d", "e"))
        inner = volume.path("d", "e", "f")
        open(inner, "w").close()
        self.assertTrue(21500 < deadline_of(inner) - time.time() <= 21600)
        # An editor's save keeps the deadline that was set.
        with open(path + ".new", "w") as out:
            out.write("saved")
        before = deadline_of(path)
        os.rename(path + ".new", path)
        self.assertEqual(deadline_of(path), before)


class ShardsDie(EphfsTest):
    options = "profile=4+2,cache_size=0,ttl=1d"

    def setUp(self):
        super().setUp()
        self.six = self.pool(6)

    def shards(self):
        return [shard for node in self.six.nodes for shard in node.shards()]

    def write_short_lived(self, volume, seconds):
        path = volume.path("short")
        with open(path, "wb") as out:
            os.setxattr(path, "user.ephfs.ttl", b"%ds" % seconds)
            out.write(random.Random(1).randbytes(300_000))
            os.fsync(out.fileno())
        wait_for("six shards", lambda: len(self.shards()) >= 6)
        return deadline_of(path)

    def test_shards_are_deleted_at_the_deadline(self):
        volume = self.volume(self.options, token=self.six.token)
        deadline = self.write_short_lived(volume, 3)
        sleep_until(deadline)
        wait_for("all shards gone", lambda: not self.shards(), 3)

    def test_also_when_the_owner_was_killed(self):
        volume = self.volume(self.options, token=self.six.token)
        deadline = self.write_short_lived(volume, 3)
        volume.kill_daemon()
        volume.detach()
        self.assertTrue(self.shards())
        sleep_until(deadline)
        wait_for("all shards gone", lambda: not self.shards(), 3)

    def test_also_when_a_node_was_down_over_the_deadline(self):
        volume = self.volume(self.options, token=self.six.token)
        deadline = self.write_short_lived(volume, 3)
        down = self.six.nodes[4]
        down.stop(signal.SIGKILL)
        sleep_until(deadline + 0.2)
        self.assertEqual(len(down.shards()), 1)
        down.start()
        self.assertEqual(down.shards(), [])
        wait_for("all shards gone", lambda: not self.shards(), 3)

    def test_a_shortened_file_leaves_the_shared_stripe(self):
        volume = self.volume(self.options, token=self.six.token)
        for name in ("long", "short"):
            with open(volume.path(name), "wb") as out:
                out.write(random.Random(name).randbytes(200_000))
                os.fsync(out.fileno())
        wait_for("shards", lambda: len(self.shards()) >= 6)
        os.setxattr(volume.path("short"), "user.ephfs.ttl", b"4s")
        deadline = deadline_of(volume.path("short"))
        sleep_until(deadline)
        with open(volume.path("long"), "rb") as source:
            self.assertEqual(source.read(), random.Random("long").randbytes(200_000))
        self.assertFalse(os.path.exists(volume.path("short")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
