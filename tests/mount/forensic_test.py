# SPDX-License-Identifier: Apache-2.0
"""Reading the dead from the disk and from memory: after death, neither the keys nor the bytes of a file are in any file of
the volume or of a node, nor in the daemons' memory. Takes up to 80 s, because an epoch's key lives to the end of its minute;
nearly all of it is waiting."""
import datetime
import json
import os
import re
import secrets
import time
import unittest

from ephfs_processes import BIN, EphfsTest, run, wait_for

SOON = 8.0  # seconds within which an early death is final; the daemon takes some two of them


def files_below(*directories):
    for directory in directories:
        for path, _, names in os.walk(directory):
            for name in names:
                try:
                    with open(os.path.join(path, name), "rb") as source:
                        yield os.path.join(path, name), source.read()
                except OSError:
                    pass  # gone meanwhile, or a socket


def memory_of(pid, with_undumped):
    """The readable mappings of a process. Those that are marked as not to be dumped (locked key memory, buffers of files'
    bytes) would be in no core dump, whatever its filter."""
    mappings, current = [], None
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", line):
                current = [int(found[1], 16), int(found[2], 16), found[3], found[4], set()]
                mappings.append(current)
            elif line.startswith("VmFlags:"):
                current[4] = set(line.split()[1:])
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for begin, end, rights, name, flags in mappings:
            if "r" not in rights or name in ("[vvar]", "[vsyscall]") or ("dd" in flags and not with_undumped):
                continue
            try:
                memory.seek(begin)
                yield f"{pid}:{name or hex(begin)}", memory.read(end - begin)
            except OSError:
                pass  # unmapped meanwhile


def found(needles, haystacks):
    """What is found, and where."""
    return sorted((what, place) for place, content in haystacks for what, needle in needles.items() if needle in content)


class Dead(EphfsTest):
    NAMES = ("dies", "unlinked", "emptied", "replaced", "lives")

    def setUp(self):
        super().setUp()
        # What each file is full of: as long as a key, and nowhere else.
        self.content = {}

    def make_files(self, volume, moment):
        text = datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).isoformat(timespec="milliseconds")
        for name in self.NAMES:
            mark = secrets.token_bytes(32)
            self.content[volume, name] = mark
            with open(volume.path(name), "wb") as out:
                if name == "dies":
                    os.setxattr(volume.path(name), "user.ephfs.expires", text.replace("+00:00", "Z").encode())
                out.write(mark * 10_000)
                os.fsync(out.fileno())

    def secrets_of(self, volume, *names):
        return json.loads(run(os.path.join(BIN, "volume_secrets"), volume.directory, *names).stdout)

    def needles(self, volume, known, name):
        """Keys of a file, and what only its stored form and its bytes are found by."""
        of_file = known["files"][name]
        keys = {f"{name}: file key": of_file["file_key"], f"{name}: epoch key": of_file["epoch_key"]}
        keys |= {f"{name}: extent key {i}": key for i, key in enumerate(of_file["extent_keys"])}
        keys |= {f"{name}: seed {i}": seed for i, seed in enumerate(of_file["path"])}
        stored = {f"{name}: wrapped key": of_file["wrapped_key"]}
        unhex = {what: bytes.fromhex(text) for what, text in (keys | stored).items()}
        return ({what: unhex[what] for what in keys}, {what: unhex[what] for what in stored},
                {f"{name}: content": self.content[volume, name]})

    @staticmethod
    def early(needles):
        """An epoch's key outlives a file that dies before its deadline."""
        return {what: needle for what, needle in needles.items() if "epoch" not in what and "seed" not in what}

    def remains(self, places, pids, keys, stored, content):
        on_disk = list(files_below(*places))
        left = found(keys | stored | content, on_disk)
        for pid in pids:
            # A released key is wiped where it was, in memory that is not dumped as well.
            left += found(keys, memory_of(pid, True))
            left += found(content, memory_of(pid, False))
        return left

    def expect_gone(self, what, seconds, *search):
        left = [("", "not looked yet")]
        end = time.monotonic() + seconds
        while left and time.monotonic() < end:
            left = self.remains(*search)
            if left:
                time.sleep(0.5)
        self.assertEqual(left, [], what)

    def test_nothing_is_left(self):
        pool = self.pool(1)
        volumes = [self.volume("ttl=1d", "alone"), self.volume("ttl=1d", "placed", pool.token)]
        # Death a second before a minute's end, so that its epoch ends soon.
        moment = (time.time() + 12) // 60 * 60 + 59
        scenes = []
        for volume in volumes:
            self.make_files(volume, moment)
            known = wait_for("all files in the catalog", lambda: (lambda seen: len(seen["files"]) == len(self.NAMES) and
                              all(one["extent_keys"] for one in seen["files"].values()) and seen)
                             (self.secrets_of(volume, *self.NAMES)))
            open_files = [os.open(volume.path(name), os.O_RDONLY) for name in ("dies", "lives")]
            for handle in open_files:
                self.assertEqual(os.pread(handle, 32, 32 * 9_000), os.pread(handle, 32, 0))
            places = [volume.directory] + [node.directory for node in pool.nodes]
            pids = [volume.daemon()] + [node.process.pid for node in pool.nodes]
            scenes.append((volume, known, open_files, places, pids))

        # The search finds what is there, and looks into the catalog's journal as well.
        for volume, known, _, places, pids in scenes:
            self.assertIn(os.path.join(places[0], "catalog.journal"), [path for path, _ in files_below(places[0])])
            for name in self.NAMES:
                keys, stored, content = self.needles(volume, known, name)
                self.assertTrue(found(stored, files_below(places[0])), f"{name}: its wrapped key is in the volume")
                self.assertTrue(set(known["files"][name]["path"]) & set(known["seeds"]), "its epoch's seed is in the wheel")
                self.assertTrue(found(content, memory_of(os.getpid(), False)), "its content is in this very process")
            for name in ("dies", "lives"):
                keys, _, _ = self.needles(volume, known, name)
                in_memory = {what for what, _ in found(keys, memory_of(pids[0], True))}
                self.assertIn(f"{name}: file key", in_memory, "the key of an open file is in locked memory")
                self.assertEqual(found(keys, memory_of(pids[0], False)), [], "and in no other")
            with open(f"/proc/{pids[0]}/coredump_filter") as dumped:
                self.assertEqual(int(dumped.read(), 16), 0)

        with self.subTest("early death"):
            for volume, *_ in scenes:
                os.unlink(volume.path("unlinked"))
                os.close(os.open(volume.path("emptied"), os.O_WRONLY | os.O_TRUNC))
                with open(volume.path("new"), "wb") as out:
                    out.write(b"something else")
                os.rename(volume.path("new"), volume.path("replaced"))
            for volume, known, _, places, pids in scenes:
                for name in ("unlinked", "emptied", "replaced"):
                    keys, stored, content = self.needles(volume, known, name)
                    self.expect_gone(f"{name} in {volume.directory}", SOON, places, pids, self.early(keys), stored, content)

        with self.subTest("the deadline"):
            minute_end = (moment + 1) // 60 * 60
            time.sleep(max(0, minute_end - time.time()))
            for volume, known, _, places, pids in scenes:
                keys, stored, content = self.needles(volume, known, "dies")
                self.expect_gone(f"dies in {volume.directory}", SOON, places, pids, keys, stored, content)
                now = self.secrets_of(volume, "lives")
                self.assertEqual(now["first"], known["files"]["dies"]["epoch"] + 1)
                self.assertFalse(set(known["files"]["dies"]["path"]) & set(now["seeds"]), "the wheel has forgotten")
                self.assertTrue(now["files"]["lives"]["file_key"] == known["files"]["lives"]["file_key"])

        with self.subTest("after unmounting"):
            for volume, known, open_files, places, _ in scenes:
                for handle in open_files:
                    os.close(handle)
                volume.umount()
                for name in ("dies", "unlinked", "emptied", "replaced"):
                    keys, stored, content = self.needles(volume, known, name)
                    self.assertEqual(found(self.early(keys) | stored | content, files_below(*places)), [])
                volume.mount()
                with open(volume.path("lives"), "rb") as source:
                    self.assertTrue(source.read() == self.content[volume, "lives"] * 10_000)


class LostWheel(EphfsTest):
    def test_a_wheel_that_is_gone_is_never_made_anew(self):
        volume = self.volume()
        with open(volume.path("file"), "w") as out:
            out.write("content")
        volume.umount()
        wheel = os.path.join(volume.directory, "wheel")
        os.rename(wheel, wheel + ".saved")
        refused = run(os.path.join(BIN, "ephfs"), "mount", volume.directory, volume.mountpoint, check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn(wheel, refused.stderr)
        self.assertFalse(os.path.exists(wheel))
        os.rename(wheel + ".saved", wheel)
        volume.mount()
        with open(volume.path("file")) as source:
            self.assertEqual(source.read(), "content")


if __name__ == "__main__":
    unittest.main(verbosity=2)
