# SPDX-License-Identifier: Apache-2.0
"""kill -9 at seeded moments of a copy: the volume mounts again, and every file that was closed before is whole."""
import os
import random
import subprocess
import sys
import time
import unittest

from ephfs_processes import EphfsTest

CLOCK_REALTIME_COARSE = 5  # linux/time.h; the time of the last tick
MOMENTS = int(os.environ.get("EPHFS_CRASHES", "50"))

# Copies files until the mount fails under it, naming each one only after close() has returned.
WRITER = r"""
import os, random, sys
root, seed = sys.argv[1], int(sys.argv[2])
dice = random.Random(seed)
try:
    for i in range(100000):
        size = dice.choice([0, 100, 4096, 20_000, 300_000, 5_000_000])
        path = os.path.join(root, f"{seed}.{i}")
        content = random.Random(f"{seed}.{i}").randbytes(size)
        with open(path + ".part", "wb") as out:
            out.write(content)
        os.rename(path + ".part", path)
        print(f"{seed}.{i} {size}", flush=True)
        if dice.random() < 0.2:
            old = os.path.join(root, f"{seed}.{dice.randrange(i + 1)}")
            if os.path.exists(old):
                print(f"-{os.path.basename(old)}", flush=True)
                os.unlink(old)
except OSError:
    pass
"""


class KilledDaemon(EphfsTest):
    def test_closed_files_survive(self):
        seed = int(os.environ.get("EPHFS_SEED", "1"))
        print(f"seed {seed}")
        dice = random.Random(seed)
        volume = self.volume("ttl=1d")
        closed, doubtful = {}, set()
        for moment in range(MOMENTS):
            writer = subprocess.Popen([sys.executable, "-c", WRITER, volume.mountpoint, str(seed * 1000 + moment)],
                                      stdout=subprocess.PIPE, text=True)
            for _ in range(dice.randrange(1, 30)):
                self.note(writer.stdout.readline(), closed, doubtful)
            volume.kill_daemon()
            for line in writer.stdout:
                self.note(line, closed, doubtful)
            writer.stdout.close()
            writer.wait(timeout=30)
            volume.detach()
            volume.mount()
            found = set(os.listdir(volume.mountpoint))
            missing = set(closed) - found
            self.assertEqual(missing, set(), f"closed before kill {moment} and gone")
            # All of what this round closed, and a few of what earlier rounds did.
            latest = [name for name in closed if name.startswith(f"{seed * 1000 + moment}.")]
            for name in latest + dice.sample(sorted(closed), min(10, len(closed))):
                with open(volume.path(name), "rb") as source:
                    self.assertTrue(source.read() == random.Random(name).randbytes(closed[name]), f"{name}, kill {moment}")
            for name in found - set(closed):
                # Not closed when the daemon died, or about to be removed: it may be there, and may be removed.
                os.unlink(volume.path(name))

    def test_times_survive(self):
        volume = self.volume("ttl=1d")
        written, touched, renamed = (volume.path(name) for name in ("written", "touched", "renamed"))
        with open(written, "wb") as out:
            # In a later tick than the file was made in: the kernel has its times to tell when it is closed.
            made = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
            while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) == made:
                pass
            out.write(b"content")
        with open(touched, "wb"):
            pass
        subprocess.run(["touch", "-m", "-d", "2020-01-02 03:04:05.678901234", touched], check=True)
        with open(volume.path("before"), "wb") as out:
            out.write(b"content")
        os.rename(volume.path("before"), renamed)
        modified = {path: os.stat(path).st_mtime_ns for path in (written, touched, renamed)}
        volume.kill_daemon()
        volume.detach()
        volume.mount()
        self.assertEqual({path: os.stat(path).st_mtime_ns for path in modified}, modified)

    @staticmethod
    def note(line, closed, doubtful):
        line = line.strip()
        if line.startswith("-"):
            closed.pop(line[1:], None)
            doubtful.add(line[1:])
        elif line:
            name, size = line.split()
            closed[name] = int(size)


if __name__ == "__main__":
    unittest.main(verbosity=2)
