# SPDX-License-Identifier: Apache-2.0
"""Six node processes at 4+2: what was written is read back whatever two of them are lost, and a third loss is an error,
never a hang."""
import errno
import itertools
import mmap
import os
import random
import time
import unittest

from ephfs_processes import EphfsTest, drop_caches, run, wait_for

LARGE_FILE_BYTES = (1 << 30) + (1 << 20) + 12345
PEER_TIMEOUT = 5


def make_tree(root, seed, files=2500):
    """A few thousand files of every kind that a tree has: empty, small, large, sparse, linked both ways, with xattrs."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    directories = [root]
    os.makedirs(root)
    for i in range(120):
        directories.append(os.path.join(dice.choice(directories), f"directory {i}"))
        os.makedirs(directories[-1], exist_ok=True)
    made = []
    for i in range(files):
        path = os.path.join(dice.choice(directories), f"file{i}")
        size = dice.choice([0, 1, dice.randrange(200), dice.randrange(5000), dice.randrange(5000), dice.randrange(100_000)])
        with open(path, "wb") as out:
            out.write(dice.randbytes(size))
        os.chmod(path, dice.choice([0o644, 0o600, 0o755, 0o4755]))
        os.utime(path, ns=(dice.randrange(10 ** 18), dice.randrange(10 ** 18)))
        made.append(path)
    for i in range(150):
        os.symlink(os.path.relpath(dice.choice(made), root), os.path.join(dice.choice(directories), f"symlink{i}"))
        os.link(dice.choice(made), os.path.join(dice.choice(directories), f"link{i}"))
    for i in range(60):
        os.setxattr(dice.choice(made), f"user.note{i}", dice.randbytes(dice.randrange(1, 300)))
    for i in range(4):
        with open(os.path.join(root, f"sparse{i}"), "wb") as out:
            for _ in range(5):
                out.seek(dice.randrange(50 << 20))
                out.write(dice.randbytes(dice.randrange(70_000)))
    os.mkfifo(os.path.join(root, "fifo"))
    return made


class SixNodes(EphfsTest):
    options = f"profile=4+2,ttl=1d,cache_size=0,peer_timeout={PEER_TIMEOUT}s"

    def test_every_pair_of_nodes_may_be_lost(self):
        tree, large = os.path.join(self.work, "tree"), os.path.join(self.work, "large")
        make_tree(tree, seed=42)
        block = random.Random(7).randbytes(1 << 20)
        with open(large, "wb") as out:
            for at in range(0, LARGE_FILE_BYTES, len(block)):
                out.write(self.turned(block, at))
            out.truncate(LARGE_FILE_BYTES)
        pool = self.pool(6)
        volume = self.volume(self.options, token=pool.token)
        run("rsync", "-aHAX", "--sparse", tree + "/", volume.path("tree") + "/")
        run("rsync", "-a", large, volume.mountpoint)
        run("sync", "-f", volume.mountpoint)
        self.wait_until_placed(volume)
        volume.remount_cold()
        run("cmp", large, volume.path("large"))
        for pair in itertools.combinations(pool.nodes, 2):
            with self.subTest(stopped=[pool.nodes.index(node) + 1 for node in pair]):
                for node in pair:
                    node.stop()
                try:
                    volume.remount_cold()
                    self.assert_same_tree(tree, volume.path("tree"))
                    run("cmp", large, volume.path("large"))
                finally:
                    for node in pair:
                        node.start()

    @staticmethod
    def turned(block, at):
        """The large file's content at a whole MiB: the block, beginning elsewhere each time."""
        shift = at >> 20 & 1023
        return block[shift:] + block[:shift]

    def wait_until_placed(self, volume):
        import json
        from ephfs_processes import EPHFS

        def placed():
            status = json.loads(run(EPHFS, "status", volume.directory, "--json").stdout)
            return status["stripes"]["staged_bytes"] == 0 and status["stripes"]["shards_owed"] == 0
        wait_for("every stripe placed", placed, 60)

    def test_a_third_lost_node_is_an_error_and_recovers(self):
        pool = self.pool(6)
        volume = self.volume(self.options, token=pool.token)
        content = random.Random(3).randbytes(20 << 20)
        with open(volume.path("file"), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        self.wait_until_placed(volume)
        volume.remount_cold()
        for how, undo in (("stop", "start"), ("freeze", "thaw")):
            with self.subTest(how=how):
                drop_caches()
                for node in pool.nodes[:3]:
                    getattr(node, how)()
                try:
                    self.assert_unreadable_in_time(volume.path("file"))
                    self.assertEqual(os.stat(volume.path("file")).st_size, len(content))
                finally:
                    for node in pool.nodes[:3]:
                        getattr(node, undo)()

                def back():
                    try:
                        with open(volume.path("file"), "rb") as source:
                            return source.read() == content
                    except OSError:
                        return False
                wait_for("the pool's recovery", back, 30)

    def assert_unreadable_in_time(self, path):
        """Half of the shards are gone, so one data shard at least of every stripe, and what lies in the others may be read.
        Eight MiB hold a whole stripe. Each read by itself ends in time, and the page cache hides none."""
        buffer = mmap.mmap(-1, 1 << 20)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            for at in range(0, 8 << 20, len(buffer)):
                began = time.monotonic()
                try:
                    os.preadv(descriptor, [buffer], at)
                except OSError as error:
                    self.assertEqual(error.errno, errno.EIO)
                    return
                finally:
                    self.assertLess(time.monotonic() - began, PEER_TIMEOUT + 2)
        finally:
            os.close(descriptor)
        self.fail("every byte was read")

    def test_a_dead_pool_keeps_nobody_from_unmounting(self):
        pool = self.pool(6)
        volume = self.volume(self.options, token=pool.token)
        for node in pool.nodes:
            node.freeze()
        content = random.Random(9).randbytes(9 << 20)
        try:
            with open(volume.path("file"), "wb") as out:
                out.write(content)
            with open(volume.path("file"), "rb") as source:
                self.assertTrue(source.read() == content, "what is staged is read without the pool")
            began = time.monotonic()
            volume.umount()
            self.assertLess(time.monotonic() - began, 5)
        finally:
            for node in pool.nodes:
                node.thaw()
        volume.mount()
        self.wait_until_placed(volume)
        volume.remount_cold()
        with open(volume.path("file"), "rb") as source:
            self.assertTrue(source.read() == content)

    def test_a_damaged_shard_is_read_around(self):
        pool = self.pool(6)
        volume = self.volume(self.options, token=pool.token)
        content = random.Random(5).randbytes(9 << 20)
        with open(volume.path("file"), "wb") as out:
            out.write(content)
            os.fsync(out.fileno())
        self.wait_until_placed(volume)
        for node in pool.nodes[:2]:
            for shard in node.shards():
                with open(shard, "r+b") as damaged:
                    damaged.seek(os.path.getsize(shard) // 2)
                    byte = damaged.read(1)
                    damaged.seek(-1, 1)
                    damaged.write(bytes([byte[0] ^ 1]))
        volume.remount_cold()
        with open(volume.path("file"), "rb") as source:
            self.assertTrue(source.read() == content)


if __name__ == "__main__":
    unittest.main(verbosity=2)
