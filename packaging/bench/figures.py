# SPDX-License-Identifier: Apache-2.0
"""What is measured on a mount: one dictionary of figures for a directory. Streams and random requests by fio, small files
and trees from here; every figure is taken from outside, as a program on the mount would see it."""
import json
import os
import shutil
import subprocess
import time

SMALL_FILES = 2000
BLOCK = os.urandom(4096)

# Key: what it is, its unit, and whether more is better. In the order of the tables.
FIGURES = {
    "write": ("write", "MB/s", True),
    "cold_read": ("read, caches cold", "MB/s", True),
    "reread": ("read again", "MB/s", True),
    "random_read": ("random 4k read", "IOPS", True),
    "random_write": ("random 4k write, then fsync", "IOPS", True),
    "create": ("create 4 KiB files", "/s", True),
    "stat": ("stat", "/s", True),
    "read_small": ("read 4 KiB files", "/s", True),
    "rename": ("rename", "/s", True),
    "unlink": ("unlink", "/s", True),
    "tree_in": ("rsync a tree in", "s", False),
    "tree_out": ("tar it out, caches cold", "s", False),
    "tree_rm": ("rm it", "s", False),
}


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as control:
        control.write("3")


def sync_fs(directory):
    subprocess.run(["sync", "-f", directory], check=True)


def fio(directory, direction, key, *options):
    """One fio job on one file; the figure `key` of its `direction`."""
    done = subprocess.run(["fio", "--output-format=json", "--name=bench", f"--directory={directory}", "--filename=big",
                           *options], check=True, capture_output=True, text=True)
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    return job[direction][key]


def measure_streams(work, mib):
    figures = {}
    size = f"--size={mib}M"
    drop_caches()
    figures["write"] = fio(work, "write", "bw_bytes", "--rw=write", "--bs=1M", size, "--end_fsync=1") / 1e6
    drop_caches()
    figures["cold_read"] = fio(work, "read", "bw_bytes", "--rw=read", "--bs=1M", size) / 1e6
    # By itself fio drops a file's pages before it reads it.
    figures["reread"] = fio(work, "read", "bw_bytes", "--rw=read", "--bs=1M", size, "--invalidate=0") / 1e6
    drop_caches()
    figures["random_read"] = fio(work, "read", "iops", "--rw=randread", "--bs=4k", size, "--io_size=16M", "--norandommap")
    figures["random_write"] = fio(work, "write", "iops", "--rw=randwrite", "--bs=4k", size, "--io_size=8M",
                                  "--norandommap", "--end_fsync=1")
    return figures


def rate(count, act):
    began = time.monotonic()
    act()
    return count / (time.monotonic() - began)


def measure_small_files(work):
    directory = os.path.join(work, "small")
    os.mkdir(directory)
    old = [os.path.join(directory, f"f{i:05}") for i in range(SMALL_FILES)]
    new = [os.path.join(directory, f"g{i:05}") for i in range(SMALL_FILES)]

    def create():
        for path in old:
            with open(path, "wb") as out:
                out.write(BLOCK)
        sync_fs(directory)

    def stat():
        for entry in os.scandir(directory):
            entry.stat()

    def read():
        for path in old:
            with open(path, "rb") as source:
                if source.read() != BLOCK:
                    raise AssertionError(f"{path} is not what was written")

    def rename():
        for before, after in zip(old, new):
            os.rename(before, after)

    def unlink():
        for path in new:
            os.unlink(path)

    figures = {"create": rate(SMALL_FILES, create)}
    drop_caches()
    figures["stat"] = rate(SMALL_FILES, stat)
    figures["read_small"] = rate(SMALL_FILES, read)
    figures["rename"] = rate(SMALL_FILES, rename)
    figures["unlink"] = rate(SMALL_FILES, unlink)
    return figures


def seconds(*commands):
    began = time.monotonic()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def measure_tree(work, tree):
    copy = os.path.join(work, "tree")
    figures = {"tree_in": seconds(["rsync", "-a", tree + "/", copy + "/"], ["sync", "-f", work])}
    drop_caches()
    figures["tree_out"] = seconds(["sh", "-c", 'tar cf - -C "$1" . | cat >/dev/null', "sh", copy])
    figures["tree_rm"] = seconds(["rm", "-rf", copy])
    return figures


def measure(directory, mib, tree):
    """All figures of one mount. What it makes there it takes away."""
    work = os.path.join(directory, f"bench.{os.getpid()}")
    os.mkdir(work)
    try:
        return {**measure_streams(work, mib), **measure_small_files(work), **measure_tree(work, tree)}
    finally:
        shutil.rmtree(work, ignore_errors=True)
