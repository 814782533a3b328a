# SPDX-License-Identifier: Apache-2.0
"""The wall clock of a real daemon is set a year forward and a day back (libfaketime shifts CLOCK_REALTIME alone, and
reads by how much from a file at every look): nothing is destroyed, and nothing comes back to life."""
import errno
import glob
import json
import os
import subprocess
import time
import unittest

from ephfs_processes import EPHFS, EphfsTest, Volume, run, wait_for

LIBRARIES = sorted(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))
YEAR = 365 * 86400


@unittest.skipUnless(LIBRARIES, "faketime is not installed")
class SetClock(EphfsTest):
    def setUp(self):
        super().setUp()
        self.shift_file = os.path.join(self.work, "shift")
        self.shift(0)
        self.environment = dict(os.environ, LD_PRELOAD=LIBRARIES[0], FAKETIME_TIMESTAMP_FILE=self.shift_file,
                                FAKETIME_NO_CACHE="1", FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1",
                                FAKETIME_DISABLE_SHM="1", NO_FAKE_STAT="1")

    def shift(self, seconds):
        with open(self.shift_file + ".new", "w") as out:
            out.write("%+d\n" % seconds)
        os.rename(self.shift_file + ".new", self.shift_file)

    def mount(self, *options):
        volume = Volume(os.path.join(self.work, "volume"), os.path.join(self.work, "volume.mnt"))
        self.volumes.append(volume)
        run(EPHFS, "mount", volume.directory, volume.mountpoint, *options, env=self.environment, timeout=30)
        return volume

    def clock(self, volume):
        return json.loads(run(EPHFS, "status", volume.directory, "--json").stdout)["clock"]

    def write(self, path, ttl):
        with open(path, "wb") as out:
            out.write(b"x" * 100_000)
        os.setxattr(path, "user.ephfs.ttl", ttl)

    def gone(self, path):
        try:
            os.stat(path)
        except FileNotFoundError:
            return True
        return False

    def shards_and_staging(self, volume):
        found = []
        for folder in ("staging", "node/shards"):
            for path, _, names in os.walk(os.path.join(volume.directory, folder)):
                found += [name for name in names if not name.endswith(".tmp")]
        return found

    def test_a_year_forward_and_corrected(self):
        volume = self.mount()
        path = volume.path("f")
        self.write(path, b"1h")
        handle = os.open(path, os.O_RDONLY)
        self.assertEqual(os.pread(handle, 1, 0), b"x")
        os.stat(path)
        before = self.shards_and_staging(volume)
        self.assertTrue(before)

        self.shift(YEAR)
        # By path the kernel may believe what it was told until the daemon has noticed: a second or so.
        wait_for("the file to be refused", lambda: self.gone(path), 5)
        with self.assertRaises(OSError) as refused:
            os.pread(handle, 1, 0)
        self.assertEqual(refused.exception.errno, errno.ESTALE)
        self.assertEqual(os.listdir(volume.mountpoint), [])
        self.assertTrue(self.clock(volume)["held"])
        self.assertIn("WARNING: the clock is held", run(EPHFS, "status", volume.directory).stdout)
        doctor = run(EPHFS, "doctor", volume.directory, "--json", check=False)
        self.assertNotEqual(doctor.returncode, 0)
        checks = {check["check"]: check["ok"] for check in json.loads(doctor.stdout)["checks"]}
        self.assertFalse(checks["clock"])
        # Nor does a restart destroy anything.
        os.close(handle)
        volume.umount()
        run(EPHFS, "mount", volume.directory, volume.mountpoint, env=self.environment, timeout=30)
        self.assertTrue(self.gone(path))
        self.assertTrue(self.shards_and_staging(volume))

        self.shift(0)
        wait_for("the file to be back", lambda: not self.gone(path), 5)
        with open(path, "rb") as back:
            self.assertEqual(back.read(), b"x" * 100_000)
        self.assertFalse(self.clock(volume)["held"])

    def test_the_words_go_by_the_daemons_clock(self):
        volume = self.mount("-o", "listen=127.0.0.1:0")
        path = volume.path("f")
        self.write(path, b"1h")
        self.shift(-86400)

        def said(*command):
            return json.loads(run(EPHFS, *command, "--json", env=self.environment).stdout)
        for left in (said("ttl", path)["left_ms"], said("ls", volume.mountpoint)["left_ms"],
                     said("ls", "-R", "--expiring", "61m", volume.mountpoint)["left_ms"]):
            self.assertTrue(3_000_000 < left <= 3_600_000, left)
        tree = run(EPHFS, "ttl", "-R", volume.mountpoint, env=self.environment).stdout
        self.assertEqual(tree.count("dies in 59 min"), 2, tree)
        # An invitation ends by the daemon's clock, too.
        token = run(EPHFS, "invite", volume.directory, "--ttl", "1h", env=self.environment).stdout.strip()
        run(EPHFS, "join", token, "--dir", os.path.join(self.work, "joined"))

    def test_a_year_forward_and_accepted(self):
        volume = self.mount()
        path = volume.path("f")
        self.write(path, b"1h")
        self.shift(YEAR)
        wait_for("the file to be refused", lambda: self.gone(path), 5)
        wait_for("the hold to be noticed", lambda: self.clock(volume)["held"], 5)
        run(EPHFS, "doctor", volume.directory, "--accept-clock", check=False)
        self.assertFalse(self.clock(volume)["held"])
        wait_for("everything to be destroyed", lambda: not self.shards_and_staging(volume), 10)
        self.shift(0)
        time.sleep(2)
        self.assertTrue(self.gone(path), "what was confirmed is not taken back")

    def test_a_day_back(self):
        volume = self.mount()
        path, other = volume.path("f"), volume.path("other")
        self.write(path, b"2s")
        self.write(other, b"5s")
        wait_for("the file to die", lambda: self.gone(path), 5)
        self.shift(-86400)
        died = time.monotonic() + 6
        self.assertTrue(self.gone(path))
        # What lives dies on time although the clock is a day behind.
        wait_for("the other to die", lambda: self.gone(other), 8)
        self.assertLess(time.monotonic(), died)
        volume.umount()
        run(EPHFS, "mount", volume.directory, volume.mountpoint, env=self.environment, timeout=30)
        self.assertEqual(os.listdir(volume.mountpoint), [])


class Doctor(EphfsTest):
    def test_a_healthy_volume_mounted_and_not(self):
        volume = self.volume()
        for _ in range(2):
            done = run(EPHFS, "doctor", volume.directory, "--json")
            self.assertTrue(json.loads(done.stdout)["ok"])
            self.assertIn("ok   clock", run(EPHFS, "doctor", volume.directory).stdout)
            if volume.is_mounted():
                volume.umount()

    def test_what_is_wrong_is_said(self):
        volume = self.volume()
        volume.umount()
        os.chmod(volume.directory, 0o755)
        with open(os.path.join(volume.directory, "clock"), "wb") as clock:
            clock.write(b"nonsense")
        done = run(EPHFS, "doctor", volume.directory, "--json", check=False)
        self.assertNotEqual(done.returncode, 0)
        bad = {check["check"] for check in json.loads(done.stdout)["checks"] if not check["ok"]}
        self.assertEqual(bad, {"directory", "clock"})
        refused = subprocess.run([EPHFS, "mount", volume.directory, volume.mountpoint], capture_output=True, text=True,
                                 timeout=30)
        self.assertEqual(refused.returncode, 32)
        self.assertIn("clock", refused.stderr)
        os.chmod(volume.directory, 0o700)
        run(EPHFS, "doctor", volume.directory, "--accept-clock")
        volume.mount()


if __name__ == "__main__":
    unittest.main()
