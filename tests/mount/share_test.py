# SPDX-License-Identifier: Apache-2.0
"""A file shared on one machine and fetched on another: whole or not at all, as often and as long as was said."""
import json
import os
import pty
import random
import re
import signal
import subprocess
import time
import unittest

from ephfs_processes import EPHFS, EphfsTest, run, wait_for


class Fetching(EphfsTest):
    def share(self, path, *options):
        return run(EPHFS, "share", path, *options).stdout.strip()

    def fetch(self, link, node, *options, **more):
        return run(EPHFS, "fetch", link, "--dir", node.directory, *options, **more)

    def refused(self, link, node, *options):
        """The one line that a fetch fails with; nothing is left of it."""
        before = sorted(os.listdir(self.out))
        done = self.fetch(link, node, *options, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertEqual(sorted(os.listdir(self.out)), before)
        return lines[0]

    def write(self, volume, name, content):
        path = volume.path(name)
        with open(path, "wb") as out:
            out.write(content)
        return path

    def target(self, name="got"):
        return os.path.join(self.out, name)

    def assert_content(self, path, content):
        with open(path, "rb") as source:
            self.assertTrue(source.read() == content, path)

    def setUp(self):
        super().setUp()
        self.out = os.path.join(self.work, "out")
        os.mkdir(self.out)


class Sharing(Fetching):
    def setUp(self):
        super().setUp()
        self.nodes = self.pool(4)
        self.mounted = self.volume("profile=2+1,ttl=1d,peer_timeout=5s", token=self.nodes.token)
        self.reader = self.nodes.nodes[3]

    def test_fetched_whole_with_times_and_mode(self):
        content = random.Random(1).randbytes(3_000_000)
        path = self.write(self.mounted, "report", content)
        os.chmod(path, 0o640)
        os.utime(path, ns=(1_600_000_000_123_456_789, 1_500_000_000_123_456_789))
        link = self.share(path)
        self.fetch(link, self.reader, "-o", self.target())
        self.assert_content(self.target(), content)
        status = os.stat(self.target())
        self.assertEqual(status.st_mtime_ns, 1_500_000_000_123_456_789)
        self.assertEqual(status.st_mode & 0o777, 0o640)
        # By its own name, from standard input, and never over what is there.
        done = self.fetch("-", self.reader, input=link + "\n", cwd=self.out)
        self.assertEqual(done.stdout.strip(), "report")
        self.assertEqual(self.fetch(link, self.reader, cwd=self.out).stdout.strip(), "report.1")
        self.assert_content(self.target("report.1"), content)
        self.assertIn("exists", self.refused(link, self.reader, "-o", self.target()))
        self.assertNotIn("\r", done.stderr)

    def test_to_standard_output(self):
        content = random.Random(7).randbytes(300_000) + bytes(100_000)
        link = self.share(self.write(self.mounted, "f", content))
        scratch = os.path.join(self.work, "scratch")
        os.mkdir(scratch)
        command = [EPHFS, "fetch", link, "--dir", self.reader.directory, "-o", "-"]
        environment = {**os.environ, "TMPDIR": scratch}
        done = subprocess.run(command, capture_output=True, timeout=60, cwd=self.out, env=environment)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(done.stdout == content)
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, cwd=self.out, env=environment)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"no space left", done.stderr)
        self.assertEqual(os.listdir(self.out) + os.listdir(scratch), [])

    def test_progress_on_a_terminal(self):
        link = self.share(self.write(self.mounted, "f", random.Random(8).randbytes(3 << 20)))
        terminal, its_end = pty.openpty()
        with subprocess.Popen([EPHFS, "fetch", link, "--dir", self.reader.directory, "-o", self.target()],
                              stdout=subprocess.PIPE, stderr=its_end) as fetching:
            os.close(its_end)
            shown = b""
            while True:
                try:
                    shown += os.read(terminal, 4096)
                except OSError:  # nobody has it open any more
                    break
            self.assertEqual(fetching.stdout.read(), b"")
        os.close(terminal)
        self.assertEqual(fetching.returncode, 0)
        looks = re.findall(rb"\r\[(#* *)\] (\d+\.\d) of 3\.0 MiB, \d+\.\d MiB/s \x1b\[K", shown)
        self.assertTrue(looks, shown)
        self.assertEqual({len(bar) for bar, _ in looks}, {30})
        self.assertTrue(shown.endswith(b"\r\x1b[K"), "it is wiped away")

    def test_force_replaces(self):
        link = self.share(self.write(self.mounted, "f", b"new"))
        with open(self.target(), "w") as out:
            out.write("old")
        self.refused(link, self.reader, "-o", self.target())
        self.assert_content(self.target(), b"old")
        self.fetch(link, self.reader, "-o", self.target(), "--force")
        self.assert_content(self.target(), b"new")

    def test_counted(self):
        said = json.loads(run(EPHFS, "share", self.write(self.mounted, "f", b"content"), "--max-fetches", "3", "--json").stdout)
        self.assertEqual((said["max_fetches"], len(said["nodes"])), (3, 1))
        for i in range(3):
            if i == 1:
                # A node that is killed and comes back has forgotten no fetch.
                holder = next(node for node in self.nodes.nodes if self.node_id(node) == said["nodes"][0])
                holder.stop(signal.SIGKILL)
                holder.start()
            self.fetch(said["link"], self.reader, "-o", self.target(f"got{i}"))
        self.assertIn("3 times", self.refused(said["link"], self.reader, "-o", self.target()))

    @staticmethod
    def node_id(node):
        return json.loads(run(EPHFS, "status", "--dir", node.directory, "--json").stdout)["node"]

    def test_ends_at_its_deadline(self):
        path = self.write(self.mounted, "f", b"content")
        # Its own; and that of a file that dies earlier than the link was to.
        short = self.share(path, "--ttl", "2s")
        long = self.share(path)
        dying = self.write(self.mounted, "dying", b"content")
        os.setxattr(dying, "user.ephfs.ttl", b"3s")
        done = run(EPHFS, "share", dying, "--ttl", "1h")
        self.assertIn("dies before that", done.stderr)
        self.fetch(short, self.reader, "-o", self.target("1"))
        wait_for("the file's death", lambda: not os.path.exists(dying), 10)
        for link in (short, done.stdout.strip()):
            self.assertIn("has ended", self.refused(link, self.reader, "-o", self.target()))
        self.fetch(long, self.reader, "-o", self.target("2"))

    def test_nodes_delete_what_has_ended(self):
        self.share(self.write(self.mounted, "f", b"content"), "--ttl", "1s", "--max-fetches", "2")

        def held():
            return [name for node in self.nodes.nodes for name in os.listdir(os.path.join(node.directory, "shares"))]
        self.assertEqual(len(held()), 2)
        wait_for("the share's end", lambda: not held(), 15)

    def test_ends_with_the_file(self):
        path = self.write(self.mounted, "f", b"content")
        link = self.share(path)
        os.unlink(path)

        def ended():
            done = self.fetch(link, self.reader, "-o", self.target(), "--force", check=False)
            return done.returncode != 0 and "has ended" in done.stderr
        wait_for("the share's withdrawal", ended, 10)

    def test_bad_links(self):
        link = self.share(self.write(self.mounted, "f", b"content"))
        changed = link[:20] + ("A" if link[20] != "A" else "B") + link[21:]
        self.assertIn("character changed", self.refused(changed, self.reader, "-o", self.target()))
        self.assertIn("begins with eph://", self.refused("http://example.org/", self.reader))
        self.assertIn("usage", run(EPHFS, "fetch", check=False).stderr)
        self.assertIn("not on an ephfs mount", run(EPHFS, "share", EPHFS, check=False).stderr)
        self.assertIn("regular", run(EPHFS, "share", self.mounted.mountpoint, check=False).stderr)
        self.assertIn("--max-fetches 0", run(EPHFS, "share", self.mounted.path("f"), "--max-fetches", "0", check=False).stderr)
        stranger = self.volume(name="stranger")
        self.assertIn("another pool", run(EPHFS, "fetch", link, "--dir", stranger.directory, "-o", self.target(), check=False).stderr)
        self.assertIn("no directory of a node", run(EPHFS, "fetch", link, "--dir", self.out, check=False).stderr)

    def test_tampered_share(self):
        """A node that changes what it holds gives nothing out."""
        link = self.share(self.write(self.mounted, "f", b"content"), "--max-fetches", "5")
        for node in self.nodes.nodes:
            for name in os.listdir(os.path.join(node.directory, "shares")):
                if name.endswith(".share"):
                    with open(os.path.join(node.directory, "shares", name), "r+b") as share:
                        share.seek(-100, os.SEEK_END)
                        byte = share.read(1)
                        share.seek(-100, os.SEEK_END)
                        share.write(bytes([byte[0] ^ 1]))
        self.refused(link, self.reader, "-o", self.target())

    def test_without_one_node(self):
        content = random.Random(2).randbytes(9 << 20)
        link = self.share(self.write(self.mounted, "f", content))
        self.mounted.umount()  # whoever shared it may be away
        for node in self.nodes.nodes[:3]:
            node.stop(signal.SIGKILL)
            try:
                self.fetch(link, self.reader, "-o", self.target(), "--force")
                self.assert_content(self.target(), content)
            finally:
                node.start()
        for node in self.nodes.nodes[:3]:
            node.stop(signal.SIGKILL)
        self.refused(link, self.reader, "-o", self.target("other"))

    def test_large_and_sparse(self):
        large = self.mounted.path("large")
        block = random.Random(3).randbytes(1 << 20)
        with open(large, "wb") as out:
            for i in range(200):
                out.write(block[i * 1000:] + block[:i * 1000])
        link = self.share(large)
        self.fetch(link, self.reader, "-o", self.target("large"))
        run("cmp", large, self.target("large"))
        sparse = self.mounted.path("sparse")
        with open(sparse, "wb") as out:
            out.truncate(3 << 30)
            for at in (0, 1 << 30, (3 << 30) - 5):
                out.seek(at)
                out.write(b"data!")
        self.fetch(self.share(sparse), self.reader, "-o", self.target("sparse"))
        status = os.stat(self.target("sparse"))
        self.assertEqual(status.st_size, 3 << 30)
        self.assertLess(status.st_blocks * 512, 1 << 20)
        with open(self.target("sparse"), "rb") as got:
            for at in (0, 1 << 30, (3 << 30) - 5):
                got.seek(at)
                self.assertEqual(got.read(5), b"data!")

    def test_interrupted(self):
        path = self.write(self.mounted, "f", random.Random(4).randbytes(64 << 20))
        link = self.share(path)
        for node in self.nodes.nodes[:3]:
            node.freeze()  # it waits for them until it is told to end
        for node in self.nodes.nodes[:1]:
            node.thaw()
        with subprocess.Popen([EPHFS, "fetch", link, "--dir", self.reader.directory, "-o", self.target()],
                              stderr=subprocess.PIPE, text=True) as fetching:
            wait_for("the fetch's beginning", lambda: os.listdir(self.out), 20)
            fetching.send_signal(signal.SIGINT)
            error = fetching.communicate(timeout=30)[1]
        self.assertNotEqual(fetching.returncode, 0)
        self.assertEqual(len(error.strip().splitlines()), 1, error)
        self.assertEqual(os.listdir(self.out), [])

    def test_dirty_data_without_the_pool(self):
        for node in self.nodes.nodes:
            node.freeze()
        path = self.write(self.mounted, "f", b"content")
        begun = time.monotonic()
        done = run(EPHFS, "share", path, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertLess(time.monotonic() - begun, 15)
        # A share under way keeps nobody from unmounting.
        with subprocess.Popen([EPHFS, "share", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sharing:
            time.sleep(0.3)
            begun = time.monotonic()
            self.mounted.umount()
            self.assertLess(time.monotonic() - begun, 6)
            sharing.wait(timeout=20)


class OneMachine(Fetching):
    def test_through_the_volumes_own_node(self):
        volume = self.volume("listen=127.0.0.1:0,ttl=1d")
        content = random.Random(5).randbytes(5_000_000)
        link = self.share(self.write(volume, "f", content), "--max-fetches", "1")
        run(EPHFS, "fetch", link, "-o", self.target(), "--dir", volume.directory)
        self.assert_content(self.target(), content)
        self.assertIn("1 times", run(EPHFS, "fetch", link, "-o", self.target("2"), "--dir", volume.directory, check=False).stderr)

    def test_nobody_could_fetch_it(self):
        volume = self.volume()
        done = run(EPHFS, "share", self.write(volume, "f", b"content"), check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("listen", done.stderr)


del Fetching  # it has no tests of its own


if __name__ == "__main__":
    unittest.main()
