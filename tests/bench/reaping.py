#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What many deaths cost: makes FILES files that die at one instant, and prints how much memory the daemon takes for them,
how long it takes to destroy them, and what a foreground reader feels meanwhile. Needs root and /dev/fuse.

    EPHFS_BIN=build/release/bin tests/bench/reaping.py [FILES]        # 100000; 1000000 for the memory of pending deadlines"""
import mmap
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

EPHFS = os.path.join(os.environ.get("EPHFS_BIN", "build/release/bin"), "ephfs")
PER_DIRECTORY = 1000
READ_BYTES = 64 << 20
SAMPLE = 2000             # files made to see how long all will take
CALM = 10.0               # seconds of reading before the deadline


def mount(volume, mountpoint):
    subprocess.run([EPHFS, "mount", volume, mountpoint, "-o", "ttl=1d"], check=True)


def resident_kib(volume):
    """Of the volume's daemon."""
    with open(os.path.join(volume, "volume.lock")) as lock:
        pid = int(lock.read())
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def inodes(mountpoint):
    found = os.statvfs(mountpoint)
    return found.f_files - found.f_ffree


def read_until(fd, end_when, latencies):
    """Random 4 KiB reads past the page cache; how long each took, in seconds."""
    room = mmap.mmap(-1, 4096)
    dice = random.Random(1)
    while not end_when():
        began = time.perf_counter()
        os.preadv(fd, [room], dice.randrange(READ_BYTES // 4096) * 4096)
        latencies.append(time.perf_counter() - began)


def make(directory, count):
    """How long it took."""
    began = time.time()
    os.makedirs(directory, exist_ok=True)
    for i in range(count):
        shelf = os.path.join(directory, str(i // PER_DIRECTORY))
        if i % PER_DIRECTORY == 0:
            os.mkdir(shelf)
        os.close(os.open(os.path.join(shelf, str(i)), os.O_WRONLY | os.O_CREAT, 0o644))
    return time.time() - began


def p99_us(latencies):
    return sorted(latencies)[len(latencies) * 99 // 100] * 1e6


def median_us(latencies):
    return sorted(latencies)[len(latencies) // 2] * 1e6


def measure(work, files):
    volume, mountpoint = os.path.join(work, "volume"), os.path.join(work, "mnt")
    os.mkdir(mountpoint)
    mount(volume, mountpoint)
    try:
        empty = resident_kib(volume)
        with open(os.path.join(mountpoint, "read"), "wb") as out:
            out.write(os.urandom(READ_BYTES))
        each = make(os.path.join(mountpoint, "sample"), SAMPLE) / SAMPLE
        shutil.rmtree(os.path.join(mountpoint, "sample"))
        deadline = time.time() + 1.3 * each * files + CALM + 6
        dying = os.path.join(mountpoint, "dying")
        os.mkdir(dying)
        os.setxattr(dying, "user.ephfs.expires", b"@%d" % round(deadline * 1000))
        print(f"{files} files made in {make(dying, files):.1f} s")
        # A fresh daemon, so that what making them took is not counted.
        subprocess.run([EPHFS, "umount", mountpoint], check=True)
        mount(volume, mountpoint)
        pending = resident_kib(volume)
        print(f"daemon: {empty} KiB resident when empty, {pending} KiB with them pending, "
              f"{(pending - empty) * 1024 / files:.0f} bytes a file")
        if time.time() > deadline - CALM:
            sys.exit("making them took longer than the first of them promised")
        fd = os.open(os.path.join(mountpoint, "read"), os.O_RDONLY | os.O_DIRECT)
        calm, busy = [], []
        time.sleep(max(0.0, deadline - CALM - time.time()))
        read_until(fd, lambda: time.time() >= deadline, calm)
        directories = -(-files // PER_DIRECTORY) + 3  # the root, dying and the file that is read
        looked = [0.0]

        def all_reaped():
            if time.time() - looked[0] < 0.05:
                return False
            looked[0] = time.time()
            return inodes(mountpoint) <= directories
        read_until(fd, all_reaped, busy)
        os.close(fd)
        took = time.time() - deadline
        print(f"destroyed in {took:.2f} s; p99 of a 4 KiB read {p99_us(calm):.0f} us before, {p99_us(busy):.0f} us "
              f"meanwhile, {100 * (p99_us(busy) / p99_us(calm) - 1):+.0f} % ({len(calm)} and {len(busy)} reads, "
              f"median {median_us(calm):.0f} and {median_us(busy):.0f} us); load {os.getloadavg()[0]:.1f}")
    finally:
        subprocess.run([EPHFS, "umount", mountpoint], check=False)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ephfs-reaping.") as directory:
        measure(directory, int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
