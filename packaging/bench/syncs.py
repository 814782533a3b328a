# SPDX-License-Identifier: Apache-2.0
"""What an fsync costs on a disk: ephfs beside the file system that its volume lies on, in alternation."""
import os
import statistics
import subprocess
import tempfile
import time

import mounts

CALLS = 300
BLOCKS = 64  # that are written over in turn
SIZES = (4 << 10, 16 << 10, 64 << 10)


class OnDisk(mounts.Embedded):
    """The embedded node, `durability=local`, with its volume in a directory that is there."""

    def __enter__(self):
        os.mkdir(self.path)
        self.up()
        return self

    def up(self):
        mounts.run(self.ephfs, "mount", self.store, self.path, "-o", "durability=local")

    def __exit__(self, *_):
        self.down()


def microseconds(path, size):
    """The median of an fsync after `size` bytes of a file were written over."""
    taken = []
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    for i in range(CALLS):
        os.pwrite(file, os.urandom(size), i % BLOCKS * size)
        began = time.perf_counter()
        os.fsync(file)
        taken.append((time.perf_counter() - began) * 1e6)
    os.close(file)
    os.unlink(path)
    return statistics.median(taken)


def kind_of(directory):
    """The type of the file system."""
    return mounts.run("findmnt", "-n", "-o", "FSTYPE", "-T", directory).strip()


def measure(disk, binaries, rounds):
    """Size -> pairs of microseconds, ephfs's and its disk's."""
    taken = {size: [] for size in SIZES}
    with tempfile.TemporaryDirectory(prefix="ephfs-bench.", dir=disk) as base:
        with OnDisk(base, binaries) as volume:
            for _ in range(rounds):
                for size in SIZES:
                    theirs = microseconds(os.path.join(base, "f"), size)
                    taken[size].append((microseconds(os.path.join(volume.path, "f"), size), theirs))
        subprocess.run(["sync", "-f", base], check=False)
    return taken


def table(taken, kind):
    lines = [f"| written and synced | ephfs | {kind} | to {kind} (above 1: slower) |", "|---|---|---|---|"]
    for size, pairs in taken.items():
        ours, theirs = (statistics.median(column) for column in zip(*pairs))
        each = [a / b for a, b in pairs]
        lines.append(f"| {size >> 10} KiB | {ours:,.0f} us | {theirs:,.0f} us | {statistics.median(each):.2f} "
                     f"({min(each):.2f}-{max(each):.2f}) |")
    return "\n".join(lines)
