# SPDX-License-Identifier: Apache-2.0
"""Deadlines as people see them: ephfs ls, ttl, status and top, and the warning before a death."""
import json
import os
import subprocess
import unittest

from ephfs_processes import EPHFS, EphfsTest, run, wait_for


def lines(*command, **options):
    return [json.loads(line) for line in run(EPHFS, *command, **options).stdout.splitlines()]


class Seeing(EphfsTest):
    def make(self, name, ttl=None, content=b"content"):
        path = self.mounted.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(content)
        if ttl:
            os.setxattr(path, "user.ephfs.ttl", ttl.encode())
        return path

    def setUp(self):
        super().setUp()
        self.mounted = self.volume("ttl=1d,warn=1h")

    def test_a_capacity_that_only_the_disk_bounds(self):
        [status] = lines("status", self.mounted.mountpoint, "--json")
        self.assertIsNone(status["embedded_node"]["capacity"])
        self.assertRegex(run(EPHFS, "status", self.mounted.mountpoint).stdout, r"\n  capacity +unlimited\n")
        bounded = self.volume("capacity=32M", name="bounded")
        [status] = lines("status", bounded.mountpoint, "--json")
        self.assertEqual(status["embedded_node"]["capacity"], 36 << 20)

    def test_ls_sorts_by_deadline_and_filters(self):
        self.make("c", "3h")
        self.make("a/b/deep", "20m")
        self.make("b", "40m")
        odd = self.make(os.fsdecode(b"odd\xff\n\\name"), "30m")
        os.symlink("b", self.mounted.path("link"))
        # A whole tree comes from the daemon, one below a directory is cut out of it; a plain list is read through the mount.
        root = self.mounted.mountpoint
        paths = [os.path.relpath(bytes.fromhex(one["path_hex"]).decode(errors="surrogateescape") if "path_hex" in one
                                 else one["path"], root) for one in lines("ls", "-R", "--expiring", "1h", "--json", root)]
        self.assertEqual(paths, ["a/b/deep", os.path.basename(odd), "b"])
        below = lines("ls", "-R", "--expiring", "1h", "--json", os.path.join(root, "a"))
        self.assertEqual([one["path"] for one in below], [os.path.join(root, "a/b/deep")])
        flat = lines("ls", "--expiring", "1h", "--json", root)
        self.assertEqual([one["kind"] for one in flat], ["file", "file"])
        text = run(EPHFS, "ls", cwd=root).stdout
        self.assertIn("odd\\xff\\n\\\\name", text)
        self.assertIn("dies in 39 min", text)
        self.assertIn("files made here live 1 d", text)
        self.assertIn("not on an ephfs mount", run(EPHFS, "ls", "/", check=False).stderr)

    def test_ls_without_the_daemons_word(self):
        """Who may not ask the daemon walks the tree and sees the same."""
        for i in range(20):
            self.make(f"d{i % 3}/f{i}", f"{10 + i}m")
        root = self.mounted.mountpoint
        asked = [one["path"] for one in lines("ls", "-R", "--expiring", "25m", "--json", root)]
        os.rename(os.path.join(self.mounted.directory, "control.sock"), os.path.join(self.work, "elsewhere"))
        walked = [one["path"] for one in lines("ls", "-R", "--expiring", "25m", "--json", root)]
        self.assertEqual(asked, walked)
        self.assertEqual(len(asked), 16)

    def test_ttl_in_words(self):
        path, directory = self.make("d/f", "2h"), self.mounted.path("d")
        other = self.make("g")
        self.assertRegex(run(EPHFS, "ttl", path).stdout, r"f: dies in 1 h 59 min, at 20\d\d-")
        self.assertIn("files made here live 1 d", run(EPHFS, "ttl", directory).stdout)
        self.assertEqual(len(run(EPHFS, "ttl", path, other, directory).stdout.splitlines()), 3)
        run(EPHFS, "ttl", path, other, "3h")
        self.assertRegex(run(EPHFS, "ttl", other).stdout, "dies in 2 h 59 min")
        os.setxattr(other, "user.ephfs.ttl_mode", b"accessed")
        self.assertIn("each time it is written or read", run(EPHFS, "ttl", other).stdout)
        said = lines("ttl", "--json", path)[0]
        self.assertEqual((said["kind"], said["ttl_mode"]), ("file", "fixed"))
        self.assertIn("not found", run(EPHFS, "ttl", path, "gone1", "gone2", check=False).stderr)

    def test_ttl_of_a_tree(self):
        for name in ("t/a", "t/u/b", "t/u/c"):
            self.make(name)
        os.symlink("a", self.mounted.path("t/link"))
        done = run(EPHFS, "ttl", "-R", self.mounted.path("t"), "5h")
        self.assertEqual(done.stdout.strip(), "4 files, 2 directories")
        shown = run(EPHFS, "ttl", "-R", self.mounted.path("t")).stdout
        self.assertIn("4 files, 2 directories; the first dies in 4 h 59 min", shown)

    def test_status_counts_deaths(self):
        self.make("a", "30s", b"x" * 100)
        self.make("b", "30m", b"x" * 1000)
        expiring = json.loads(run(EPHFS, "status", "--json", self.mounted.mountpoint).stdout)["expiring"]
        self.assertEqual({span: (expiring[span]["files"], expiring[span]["bytes"]) for span in ("1m", "1h", "1d")},
                         {"1m": (1, 100), "1h": (2, 1100), "1d": (2, 1100)})

    def test_top_brings_each_warning_once(self):
        with subprocess.Popen([EPHFS, "top", self.mounted.mountpoint, "--json", "--interval", "100ms"],
                              stdout=subprocess.PIPE, text=True) as top:
            self.assertIn("volume", json.loads(top.stdout.readline()))
            early, soon = self.make("early", "2h"), self.make("soon", "30m")
            self.assertRaises(OSError, os.getxattr, early, "user.ephfs.warning")
            self.assertRegex(os.getxattr(soon, "user.ephfs.warning").decode(), "^dies in (29|30) min")
            events = []
            looks = 0
            while looks < 10:
                line = json.loads(top.stdout.readline())
                if "event" in line:
                    events.append((line["event"], line["path"]))
                elif events:
                    looks += 1
            self.assertEqual(events, [("warning", "/soon")])
            top.terminate()
        self.assertEqual(len(run(EPHFS, "top", self.mounted.mountpoint, "--count", "2", "--interval", "100ms").stdout.splitlines()), 2)


if __name__ == "__main__":
    unittest.main()
