# SPDX-License-Identifier: Apache-2.0
"""What was signed about a file, printed and checked with the executables: living, removed, expired, and with a node that
was away when it died."""
import json
import os
import signal
import time

from ephfs_processes import EPHFS, EphfsTest, run, wait_for

OPTIONS = "profile=2+1,ttl=1d,durability=full"


class Proofs(EphfsTest):
    def setUp(self):
        super().setUp()
        self.nodes = self.pool(3)
        self.vol = self.volume(OPTIONS, token=self.nodes.token)

    def write(self, name, ttl=None):
        """A file on its nodes: its path and file id."""
        path = self.vol.path(name)
        with open(path, "wb") as out:
            if ttl:
                os.setxattr(path, "user.ephfs.ttl", ttl.encode())
            out.write(os.urandom(300_000))
            out.flush()
            os.fsync(out.fileno())
        wait_for("placed", lambda: os.getxattr(path, "user.ephfs.state") == b"placed")
        return path, json.loads(os.getxattr(path, "user.ephfs.proof"))["file"]

    def keep(self, text):
        path = os.path.join(self.work, "kept.proof")
        with open(path, "w") as out:
            out.write(text)
        return path

    def verify(self, text, *options):
        done = run(EPHFS, "verify", self.keep(text), "--json", *options, check=False)
        return json.loads(done.stdout), done.returncode

    def complete_proof(self, file_id, seconds=90):
        def proven():
            done = run(EPHFS, "proof", file_id, self.vol.directory, check=False)
            if done.returncode != 0:
                return None
            return done.stdout if self.verify(done.stdout, "--complete")[1] == 0 else None
        return wait_for("a complete proof", proven, seconds)

    def test_of_a_living_file_and_of_every_change_to_it(self):
        path, file_id = self.write("letter")
        text = run(EPHFS, "proof", path).stdout
        report, status = self.verify(text)
        self.assertEqual((status, report["faults"]), (0, []))
        self.assertEqual((report["file"], report["receipts"], report["shards"]), (file_id, 3, 3))
        self.assertTrue(report["manifest"])
        self.assertNotIn("letter", text)
        self.assertEqual(self.verify(text, "--owner", report["owner"])[1], 0)
        self.assertEqual(self.verify(text, "--owner", "0" * 64)[1], 1)
        for at in range(20, len(text) - 1, len(text) // 50):
            changed = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1:]
            self.assertEqual(run(EPHFS, "verify", self.keep(changed), check=False).returncode, 1, at)
        # One a line, and through a pipe.
        done = run(EPHFS, "verify", "-", check=False, input=text + text.replace('"made_ms":', '"made_ms":1', 1))
        self.assertEqual(done.returncode, 1)
        self.assertIn("standard input:1: good", done.stdout)
        self.assertIn("standard input:2: BAD", done.stdout)
        self.assertIn("1 proof did not hold", done.stderr)

    def test_of_a_file_that_was_removed_also_when_a_node_was_away(self):
        path, file_id = self.write("letter")
        self.nodes.nodes[1].stop(signal.SIGKILL)
        os.unlink(path)

        def two_are_proven():
            done = run(EPHFS, "proof", file_id, self.vol.directory, check=False)
            return done.returncode == 0 and self.verify(done.stdout)[0]["deletions"] == 2
        wait_for("receipts of the nodes that are there", two_are_proven, 60)
        self.nodes.nodes[1].start()
        report, _ = self.verify(self.complete_proof(file_id, 150))
        self.assertEqual((report["died"], report["deletions"]), ("removed", 3))

        self.vol.umount()
        text = run(EPHFS, "proof", file_id, self.vol.directory).stdout
        self.assertEqual(self.verify(text, "--complete")[1], 0, "the volume's directory is enough")
        missing = run(EPHFS, "proof", "0" * 32, self.vol.directory, check=False)
        self.assertEqual(missing.returncode, 1)
        self.assertIn("remembered among the dead", missing.stderr)

    def test_of_a_file_that_expired(self):
        # Its key goes when the minute of its deadline has ended: this one dies a second before that.
        minute_end = (int(time.time()) + 8) // 60 * 60 + 60
        _, file_id = self.write("letter", ttl=f"@{minute_end * 1000 - 1000}")
        report, _ = self.verify(self.complete_proof(file_id, 150))
        self.assertEqual((report["died"], report["deletions"], report["faults"]), ("expired", 3, []))
        self.assertTrue(report["key_destroyed"])
        for node in self.nodes.nodes:
            self.assertEqual(node.shards(), [])
        self.vol.umount()
        text = run(EPHFS, "proof", file_id, self.vol.directory).stdout
        report, status = self.verify(text, "--complete")
        self.assertEqual((status, report["key_destroyed"]), (0, True), "so says the wheel in the volume's directory")

    def audit(self, *options):
        done = run(EPHFS, "audit", self.vol.mountpoint, "--json", *options, check=False)
        return json.loads(done.stdout), done.returncode

    def test_audits_find_what_was_damaged_and_lost(self):
        path, _ = self.write("letter")
        wait_for("a clean volume", lambda: self.audit("--ttl") == ({"nodes": 3, "faults": []}, 0), 60)
        found, status = self.audit("--all")
        self.assertEqual((found["passed"] >= 3, found["failed"], status), (True, 0, 0))
        self.assertEqual(run(EPHFS, "verify", path, check=False).returncode, 0)

        for shard in self.nodes.nodes[0].shards():
            # All of it: a few leaves at random are proven.
            size = os.path.getsize(shard)
            with open(shard, "r+b") as file:
                file.write(os.urandom(size))
        for shard in self.nodes.nodes[1].shards():
            os.unlink(shard)
        found, status = self.audit("--all")
        self.assertEqual((found["failed"] >= 2, found["unreachable"], status), (True, 0, 1))
        done = run(EPHFS, "verify", path, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.count("failed: shard"), 2)
        found, status = self.audit("--ttl")
        self.assertEqual(status, 1)
        self.assertEqual({fault["kind"] for fault in found["faults"]}, {"lease_without_shard"})
        self.nodes.nodes[2].stop(signal.SIGKILL)
        self.assertIn("unreachable_node", {fault["kind"] for fault in self.audit("--ttl")[0]["faults"]})
