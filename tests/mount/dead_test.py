# SPDX-License-Identifier: Apache-2.0
"""Tries to read the dead with whole programs: while peers are silent, from caches and disks, through another mount.
System calls one by one are in dead_test.cpp."""
import contextlib
import errno
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time

from deadlines import EARLY, Watcher, deadline_of, look_over, set_deadline, sleep_until
from ephfs_processes import EPHFS, EphfsTest, run, wait_for


def stripes_in(volume, place):
    directory = os.path.join(volume.directory, place)
    return [name for name in os.listdir(directory) if ".stripe" in name or ".part" in name]


class SilentPeers(EphfsTest):
    options = "profile=4+2,cache_size=0,ttl=1d,peer_timeout=30s"

    def test_a_read_that_waits_ends_at_the_deadline_and_holds_nobody_up(self):
        six = self.pool(6)
        volume = self.volume(self.options, token=six.token)
        content = random.Random(1).randbytes(3_000_000)
        for name in ("waiting", "mapped"):
            with open(volume.path(name), "wb") as out:
                out.write(content)
                os.fsync(out.fileno())
        # Before the mount whose pages are watched: a shorter deadline has the kernel drop them, some moments later.
        deadline = round(time.time() + 7, 3)
        for name in ("waiting", "mapped"):
            set_deadline(volume.path(name), deadline)
        volume.remount_cold()
        held = os.open(volume.path("mapped"), os.O_RDONLY)
        pages = mmap.mmap(held, 0, prot=mmap.PROT_READ)
        self.assertEqual(pages[:], content)
        waiting = os.open(volume.path("waiting"), os.O_RDONLY)
        for node in six.nodes:
            node.freeze()
        reader = subprocess.Popen([sys.executable, "-c", f"""
import os, time
try:
    os.pread({waiting}, 1000, 0)
    code = 0
except OSError as refused:
    code = refused.errno
print(code, time.time())
"""], stdout=subprocess.PIPE, text=True, pass_fds=[waiting])
        cached = Watcher(lambda: os.pread(held, 10, 0), errno.ESTALE)
        look_over(deadline, [cached])
        cached.judge(self, deadline)
        code, ended = reader.communicate(timeout=20)[0].split()
        self.assertEqual(int(code), errno.ESTALE)
        self.assertGreaterEqual(float(ended), deadline - EARLY)
        self.assertLess(float(ended), deadline + 5, "it waited on, for the peers")
        for fd in (held, waiting):
            os.close(fd)

    def test_pages_that_are_to_be_read_anew_hold_no_death_up(self):
        """They are dropped while their file lives, which waits for its reads as long as those wait for the peers."""
        six = self.pool(6)
        volume = self.volume(self.options, token=six.token)
        slow = [volume.path(f"slow{i}") for i in range(3)]
        for path in (*slow, volume.path("mapped")):
            with open(path, "wb") as out:
                out.write(random.Random(path).randbytes(3_000_000))
                os.fsync(out.fileno())
        deadline = round(time.time() + 7, 3)
        set_deadline(volume.path("mapped"), deadline)
        volume.remount_cold()
        for path in slow:
            os.setxattr(path, "user.ephfs.ttl_mode", b"accessed")
            os.setxattr(path, "user.ephfs.ttl", b"20s")
        held = os.open(volume.path("mapped"), os.O_RDONLY)
        pages = mmap.mmap(held, 0, prot=mmap.PROT_READ)
        self.assertEqual(len(pages[:]), 3_000_000)
        for node in six.nodes:
            node.freeze()
        readers = [subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL) for path in slow]
        for reader in readers:
            self.addCleanup(reader.kill)
        cached = Watcher(lambda: os.pread(held, 10, 0), errno.ESTALE)
        look_over(deadline, [cached])
        cached.judge(self, deadline)
        self.assertEqual([reader.poll() for reader in readers], [None] * len(readers), "they wait for the peers")
        for node in six.nodes:
            node.thaw()
        self.assertEqual([reader.wait(timeout=30) for reader in readers], [0] * len(readers))
        pages.close()
        os.close(held)

    def test_a_daemon_killed_while_pages_are_waited_for_ends(self):
        six = self.pool(6)
        volume = self.volume(self.options, token=six.token)
        path = volume.path("waiting")
        with open(path, "wb") as out:
            out.write(random.Random(1).randbytes(3_000_000))
            os.fsync(out.fileno())
        volume.remount_cold()
        waiting = os.open(path, os.O_RDONLY)
        for node in six.nodes:
            node.freeze()
        reader = subprocess.Popen([sys.executable, "-c", f"""
import os
try:
    os.pread({waiting}, 1000, 0)
except OSError as refused:
    print(refused.errno)
"""], stdout=subprocess.PIPE, text=True, pass_fds=[waiting])
        self.addCleanup(reader.kill)

        def is_reading():
            with open(f"/proc/{reader.pid}/syscall") as call:
                return call.read().split()[:2] == ["17", hex(waiting)]  # pread64
        wait_for("a read that waits for the peers", is_reading)
        # A shorter deadline has the kernel told to drop the pages, which the read holds.
        set_deadline(path, time.time() + 60)
        volume.kill_daemon()
        self.assertNotEqual(reader.communicate(timeout=20)[0], "", "the read was answered by nobody")
        with contextlib.suppress(OSError):
            os.close(waiting)  # nobody is there to flush it
        volume.detach()
        for node in six.nodes:
            node.thaw()
        # The lock on the volume is let go of when all of the daemon has ended.
        wait_for("another mount", lambda: run(EPHFS, "mount", volume.directory, volume.mountpoint, "-o", volume.options,
                                              check=False).returncode == 0)


class AfterDeath(EphfsTest):
    def make(self, volume, name, seconds, size=100_000):
        path = volume.path(name)
        with open(path, "wb") as out:
            out.write(random.Random(name).randbytes(size))
            os.setxattr(path, "user.ephfs.ttl", b"%ds" % seconds)
            os.fsync(out.fileno())
        return deadline_of(path)

    def test_the_ciphertext_cache_and_staging_are_emptied(self):
        six = self.pool(6)
        volume = self.volume("profile=4+2,ttl=1d", token=six.token)
        deadline = self.make(volume, "cached", 4)
        self.assertTrue(stripes_in(volume, "cache"))
        for node in six.nodes:
            node.freeze()
        with open(volume.path("staged"), "wb") as out:
            out.write(b"x" * 100_000)
        set_deadline(volume.path("staged"), deadline)
        self.assertTrue(stripes_in(volume, "staging"))
        sleep_until(deadline)
        wait_for("no ciphertext on this machine", lambda: not stripes_in(volume, "cache") + stripes_in(volume, "staging"))
        for node in six.nodes:
            node.thaw()

    def test_alone_nothing_is_left_on_the_disk(self):
        volume = self.volume("ttl=1d")
        deadline = self.make(volume, "f", 3)

        def files():
            kept = stripes_in(volume, "cache") + stripes_in(volume, "staging")
            for _, _, names in os.walk(os.path.join(volume.directory, "node", "shards")):
                kept += names
            return kept
        self.assertTrue(files())
        sleep_until(deadline)
        wait_for("an empty disk", lambda: not files())

    def test_a_copied_volume_gives_nothing_back(self):
        volume = self.volume("ttl=1d")
        deadline = self.make(volume, "f", 4)
        volume.umount()
        copy = os.path.join(self.work, "copied")
        shutil.copytree(volume.directory, copy)
        volume.mount()
        sleep_until(deadline)
        second = self.volume(name="copied")
        self.assertEqual(os.listdir(second.mountpoint), [])
        with self.assertRaises(OSError) as refused:
            os.stat(second.path("f"))
        self.assertEqual(refused.exception.errno, errno.ENOENT)

    def test_a_volume_is_mounted_once(self):
        volume = self.volume("ttl=1d")
        elsewhere = os.path.join(self.work, "elsewhere")
        os.mkdir(elsewhere)
        self.assertNotEqual(run(EPHFS, "mount", volume.directory, elsewhere, check=False).returncode, 0)

    def test_dead_over_a_crash(self):
        volume = self.volume("ttl=1d")
        deadline = self.make(volume, "f", 2)
        volume.kill_daemon()
        volume.detach()
        sleep_until(deadline)
        volume.mount()
        self.assertEqual(os.listdir(volume.mountpoint), [])

    def test_a_running_program_ends(self):
        volume = self.volume("ttl=1d")
        source = os.path.join(self.work, "spin.c")
        with open(source, "w") as out:
            out.write("int main(void) { volatile long n = 0; for (;;) ++n; }\n")
        program = volume.path("spin")
        run("gcc", "-O0", "-o", program, source)
        deadline = round(time.time() + 2, 3)
        set_deadline(program, deadline)
        running = subprocess.Popen([program])
        self.addCleanup(running.kill)
        self.assertEqual(running.wait(timeout=30), -signal.SIGBUS)
        self.assertGreaterEqual(time.time(), deadline - EARLY)
        self.assertLess(time.time(), deadline + 5)
