# SPDX-License-Identifier: Apache-2.0
"""What user.ephfs.* says of a file on a mount, and to whom."""
import errno
import json
import os

from ephfs_processes import EPHFS, EphfsTest, run, wait_for


def as_user(uid, groups, ask):
    """What `ask` gives to another user: 0, or the errno."""
    child = os.fork()
    if child == 0:
        os.setgroups(groups)
        os.setgid(65534)
        os.setuid(uid)
        try:
            ask()
        except OSError as refused:
            os._exit(refused.errno)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Values(EphfsTest):
    """Each attribute, as README's table explains it."""

    def get(self, path, name):
        return os.getxattr(path, "user.ephfs." + name).decode()

    def test_each(self):
        nodes = self.pool(3)
        volume = self.volume("profile=2+1,ttl=1d,warn=2h,durability=full", token=nodes.token)
        path = volume.path("f")
        with open(path, "wb") as out:
            out.write(os.urandom(300_000))
            out.flush()
            os.fsync(out.fileno())
        wait_for("placing", lambda: self.get(path, "state") == "placed")
        self.assertEqual((self.get(path, "ttl_mode"), self.get(path, "profile")), ("fixed", "2+1"))
        ids = {json.loads(run(EPHFS, "status", "--dir", node.directory, "--json").stdout)["node"] for node in nodes.nodes}
        health = json.loads(self.get(path, "health"))
        self.assertIn(health.pop("local"), (0, 1))
        self.assertEqual(health, {"stripes": 1, "placed": 1, "degraded": 0, "unreadable": 0, "dirty": False, "spare_nodes": 1})
        placement = json.loads(self.get(path, "placement"))
        self.assertEqual((placement["stripes"], placement["nodes"]), (1, {node: 1 for node in ids}))
        self.assertEqual({(shard["index"], shard["stored"]) for shard in placement["shards"]}, {(0, True), (1, True), (2, True)})
        self.assertEqual({shard["node"] for shard in placement["shards"]}, ids)
        self.assertEqual(os.getxattr(path, "user.ephfs.manifest")[:8], b"EPHFSMAN")
        proof = json.loads(self.get(path, "proof"))
        self.assertEqual((proof["format"], len(proof["stripes"][0]["shards"])), ("ephfs-proof", 3))
        with self.assertRaises(OSError) as missing:
            self.get(path, "warning")
        self.assertEqual(missing.exception.errno, errno.ENODATA)
        os.setxattr(path, "user.ephfs.ttl", b"1h")
        self.assertRegex(self.get(path, "warning"), "^dies in (59 min|1 h)")
        self.assertRegex(self.get(path, "ttl"), "^(59m[0-9]*s?|1h)$")
        self.assertRegex(self.get(path, "expires"), r"^\d{4}-\d\d-\d\dT[0-9:.]{12}Z$")

    def test_documented(self):
        """README's table has each that there is."""
        with open(os.path.join(os.path.dirname(__file__), "..", "..", "README.md")) as text:
            section = text.read().split("## Attributes")[1].split("\n## ")[0]
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        named = {name.strip("` ") for row in rows for name in row.split()}
        self.assertEqual(named, {"ttl", "expires", "ttl_mode", "profile", "warning", "state", "health", "placement",
                                 "manifest", "proof"})


class OtherUsers(EphfsTest):
    def test_system_attributes_need_read_permission(self):
        volume = self.volume("ttl=1d,allow_other,warn=2d")
        os.chmod(self.work, 0o755)
        os.chmod(volume.mountpoint, 0o755)
        path = volume.path("f")
        with open(path, "w") as out:
            out.write("content")
        wait_for("placing", lambda: os.getxattr(path, "user.ephfs.state") == b"placed")

        def asked(name, uid=65534, groups=()):
            return as_user(uid, groups, lambda: os.getxattr(path, "system.ephfs." + name))
        guarded = ("profile", "warning", "state", "health", "placement", "manifest", "proof")
        os.chown(path, 0, 4711)
        for mode, may in ((0o600, False), (0o640, False), (0o604, True)):
            os.chmod(path, mode)
            for name in guarded:
                self.assertEqual(asked(name), 0 if may else errno.EACCES, (oct(mode), name))
            for name in ("ttl", "expires", "ttl_mode"):
                self.assertEqual(asked(name), 0, (oct(mode), name))
        os.chmod(path, 0o640)
        self.assertEqual(asked("proof", groups=[4712, 4711]), 0, "a supplementary group")
        self.assertEqual(asked("proof", groups=[*range(5000, 5100), 4711]), 0, "one of many")
        os.chmod(path, 0o604)
        self.assertEqual(asked("proof", groups=[4711]), errno.EACCES, "the group's bits come before everybody's")
        os.chown(path, 65534, 4711)
        os.chmod(path, 0o044)
        self.assertEqual(asked("proof"), errno.EACCES, "the owner's bits come first")
        os.chmod(path, 0o400)
        self.assertEqual(asked("proof"), 0)
        self.assertEqual(as_user(0, (), lambda: os.getxattr(path, "system.ephfs.proof")), 0)
