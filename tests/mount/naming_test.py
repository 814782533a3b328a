# SPDX-License-Identifier: Apache-2.0
"""Which volume a command means: by the file it is given, wherever that is mounted, or by the word it is given."""
import http.client
import json
import os
import socket
import subprocess
import unittest

from ephfs_processes import EPHFS, EphfsTest, Volume, run, wait_for


class Control(http.client.HTTPConnection):
    """A volume's control socket."""

    def __init__(self, volume):
        super().__init__("localhost", timeout=20)
        self.path = os.path.join(volume.directory, "control.sock")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def ask(self, method, target, body=None):
        self.request(method, target, body)
        response = self.getresponse()
        said = response.read().decode()
        self.close()
        return response.status, said


class MountedInside(EphfsTest):
    """One volume is mounted on a directory of another, and each has a file with the same inode number."""

    def setUp(self):
        super().setUp()
        self.outer = self.volume("ttl=1d,listen=127.0.0.1:0", name="outer")
        os.mkdir(self.outer.path("nest"))
        with open(self.outer.path("secret"), "w") as out:
            out.write("of the outer volume")
        os.setxattr(self.outer.path("secret"), "user.ephfs.ttl", b"20m")
        self.inner = Volume(os.path.join(self.work, "inner"), self.outer.path("nest"), "ttl=1d,listen=127.0.0.1:0")
        self.volumes.insert(0, self.inner)
        self.inner.mount()
        os.mkdir(self.inner.path("d"))
        self.file = self.inner.path("d", "file")
        with open(self.file, "w") as out:
            out.write("of the inner volume")
        os.setxattr(self.file, "user.ephfs.ttl", b"30m")
        self.assertEqual(os.stat(self.file).st_ino, os.stat(self.outer.path("secret")).st_ino)
        for path in (self.file, self.outer.path("secret")):
            descriptor = os.open(path, os.O_RDWR)
            os.fsync(descriptor)
            os.close(descriptor)

    def assert_is_asked_for(self, path):
        """Whatever is asked for by this path is the inner volume's."""
        link = run(EPHFS, "share", path).stdout.strip()
        got = os.path.join(self.work, "got")
        run(EPHFS, "fetch", link, "-o", got, "--force", "--dir", self.inner.directory)
        with open(got) as source:
            self.assertEqual(source.read(), "of the inner volume")
        proof = json.loads(run(EPHFS, "proof", path).stdout)
        self.assertEqual(proof, {**json.loads(os.getxattr(self.file, "user.ephfs.proof")), **{
            key: proof[key] for key in ("made_ms", "signature") if key in proof}})
        os.rename(os.path.join(self.outer.directory, "control.sock"), os.path.join(self.work, "hidden"))
        try:
            self.assertEqual(json.loads(run(EPHFS, "verify", "--json", path).stdout)["passed"], 1)
        finally:
            os.rename(os.path.join(self.work, "hidden"), os.path.join(self.outer.directory, "control.sock"))

    def expiring(self, path):
        done = run(EPHFS, "ls", "-R", "--expiring", "1h", "--json", path)
        return [json.loads(line)["path"] for line in done.stdout.splitlines()]

    def test_a_volume_mounted_inside_another(self):
        self.assert_is_asked_for(self.file)
        self.assertEqual(self.expiring(self.inner.mountpoint), [self.file])
        self.assertEqual(self.expiring(self.inner.path("d")), [self.file])
        self.assertEqual(self.expiring(self.outer.mountpoint), [self.outer.path("secret")])

    def test_a_directory_bound_elsewhere(self):
        elsewhere = os.path.join(self.work, "bound to \\another place")
        os.mkdir(elsewhere)
        run("mount", "--bind", self.inner.path("d"), elsewhere)
        try:
            path = os.path.join(elsewhere, "file")
            self.assert_is_asked_for(path)
            self.assertEqual(self.expiring(elsewhere), [path])
            status = json.loads(run(EPHFS, "status", "--json", elsewhere).stdout)
            self.assertEqual(status["directory"], self.inner.directory)
        finally:
            run("umount", elsewhere)

    def test_another_file_system_inside(self):
        disk = self.inner.path("d")
        run("mount", "-t", "tmpfs", "tmpfs", disk)
        try:
            open(self.file, "w").close()
            for command in ("share", "proof"):
                self.assertIn("is not on an ephfs mount", run(EPHFS, command, self.file, check=False).stderr)
            self.assertIn("not on an ephfs mount", run(EPHFS, "ls", "-R", "--expiring", "1h", disk, check=False).stderr)
        finally:
            run("umount", disk)

    def test_the_daemon_refuses_a_file_of_another_device(self):
        control, inode = Control(self.outer), os.stat(self.file).st_ino
        own, other = os.stat(self.outer.path("secret")).st_dev, os.stat(self.file).st_dev
        for device, expected in ((own, 200), (other, 400), (None, 400)):
            query = f"inode={inode}" + (f"&device={device}" if device else "")
            question = {"inode": inode, "name": "n", "fetches_max": 0, **({"device": device} if device else {})}
            for method, target, body in (("GET", "/proof?" + query, None), ("GET", f"/verify?{query}&after=0", None),
                                         ("POST", "/share", json.dumps(question))):
                status, said = control.ask(method, target, body)
                self.assertEqual(status, expected, (target, said))
                self.assertTrue(expected == 200 or "device" in said, said)


class Words(EphfsTest):
    """A volume's name means that volume, wherever the command is called."""

    def setUp(self):
        super().setUp()
        self.state = os.path.join(self.work, "state")
        self.a, self.b = (Volume(os.path.join(self.state, name), os.path.join(self.work, name + ".mnt"), "ttl=1d")
                          for name in ("a", "b"))
        for volume in (self.a, self.b):
            self.volumes.append(volume)
            volume.mount()

    def ephfs(self, *command, cwd=None, **options):
        return run(EPHFS, *command, cwd=cwd or self.a.mountpoint, env={**os.environ, "EPHFS_STATE_DIR": self.state}, **options)

    def directory_of(self, *word, cwd=None):
        return json.loads(self.ephfs("status", "--json", *word, cwd=cwd).stdout)["directory"]

    def test_a_name_is_a_volumes_inside_another_mount(self):
        self.assertEqual(self.directory_of("b"), self.b.directory)
        self.assertEqual(self.directory_of("."), self.a.directory)
        nodes = {volume: json.loads(run(EPHFS, "status", "--json", volume.mountpoint).stdout)["embedded_node"]["node"]
                 for volume in (self.a, self.b)}
        self.assertEqual(json.loads(self.ephfs("peers", "--json", "b").stdout)[0]["node"], nodes[self.b])
        top = json.loads(self.ephfs("top", "--json", "--count", "1", "b").stdout)
        self.assertEqual(top["directory"], self.b.directory)
        for options in ([], ["--accept-clock"]):
            checks = json.loads(self.ephfs("doctor", "--json", *options, "b", check=False).stdout)["checks"]
            self.assertIn(self.b.directory, next(one["detail"] for one in checks if one["check"] == "directory"))
        with open(self.b.path("f"), "w") as out:
            out.write("content")
        wait_for("placing", lambda: os.getxattr(self.b.path("f"), "user.ephfs.state") == b"placed")
        found = json.loads(self.ephfs("audit", "--json", "b").stdout)
        self.assertEqual(list(found["nodes"]), [nodes[self.b]])
        file = json.loads(os.getxattr(self.b.path("f"), "user.ephfs.proof"))["file"]
        os.unlink(self.b.path("f"))
        self.assertEqual(json.loads(self.ephfs("proof", file, "b").stdout)["file"], file)

    def test_a_word_that_names_no_volume_is_a_mountpoint_or_nothing(self):
        open(self.a.path("file"), "w").close()
        self.assertIn("not mounted", self.ephfs("status", "file", check=False).stderr)
        self.assertEqual(self.directory_of("./file"), self.a.directory)
        self.assertEqual(self.directory_of("b.mnt", cwd=self.work), self.b.directory)
        os.symlink(self.b.mountpoint, os.path.join(self.work, "link"))
        self.assertEqual(self.directory_of("link", cwd=self.work), self.b.directory)
        # A directory with a slash is the volume that it is, or on.
        self.assertEqual(self.directory_of("./b", cwd=self.state), self.b.directory)
        self.assertEqual(self.directory_of(self.b.path("")), self.b.directory)

    def test_a_dead_mount_is_known_by_its_name(self):
        self.b.kill_daemon()
        try:
            for word in ("b.mnt", "./b.mnt", self.b.mountpoint):
                said = self.ephfs("status", word, cwd=self.work, check=False).stderr
                self.assertIn(f"{self.b.directory} has died and left its mount", said)
        finally:
            self.b.detach()

    def test_the_only_volume_may_be_bound_elsewhere(self):
        self.b.umount()
        run("mount", "--bind", self.a.mountpoint, self.b.mountpoint)
        try:
            # In a namespace without other tests' volumes, into which none comes.
            alone = """
                while read -r directory mountpoint type rest; do
                    case $type in fuse.ephfs*) test "$directory" = "$A" || umount --lazy "$mountpoint" ;; esac
                done < /proc/self/mounts
                exec "$@" """
            status = run("unshare", "--mount", "--propagation", "private", "sh", "-c", alone, "sh", EPHFS, "status",
                         "--json", cwd="/", env={**os.environ, "A": self.a.directory})
            self.assertEqual(json.loads(status.stdout)["directory"], self.a.directory)
            run(EPHFS, "umount", self.b.mountpoint, timeout=9)
        finally:
            subprocess.run(["umount", self.b.mountpoint], check=False, capture_output=True)
        self.assertTrue(self.a.is_mounted())


if __name__ == "__main__":
    unittest.main()
