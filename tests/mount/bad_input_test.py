# SPDX-License-Identifier: Apache-2.0
"""Bad input gives one clear line and a status that is not zero, and nothing is lost by it."""
import errno
import os
import random
import socket
import sqlite3
import subprocess
import time
import unittest

from ephfs_processes import EPHFS, EphfsTest, Volume, drop_caches, run, wait_for


class BadInput(EphfsTest):
    def test_options(self):
        self.assertIn("nonsense", self.mount_refused("nonsense=1"))
        self.assertIn("ttl=soon", self.mount_refused("ttl=soon"))
        self.assertIn("min_ttl", self.mount_refused("ttl=1m,min_ttl=1h"))
        self.assertIn("profile=17+2", self.mount_refused("profile=17+2"))
        self.assertIn("durability=much", self.mount_refused("durability=much"))
        self.assertIn("usage", self.refused(EPHFS, "mount"))
        self.assertIn("--wrong", self.refused(EPHFS, "mount", "--wrong"))
        self.assertIn("wrong", self.refused(EPHFS, "wrong"))

    def test_options_for_others_are_accepted(self):
        volume = self.volume("_netdev,nofail,noauto,x-systemd.automount,x-systemd.mount-timeout=5,rw,noatime,nosuid,nodev")
        with open("/proc/self/mounts") as mounts:
            flags = next(line.split()[3] for line in mounts if line.split()[1] == volume.mountpoint)
        self.assertIn("nosuid", flags)
        self.assertIn("nodev", flags)

    def test_profile_wider_than_the_pool(self):
        line = self.mount_refused("profile=4+2")
        self.assertIn("4+2", line)

    def test_configuration_file(self):
        path = os.path.join(self.work, "config.yaml")
        for text, expected in (("ttl: 1d\nnonsense: 1\n", ":2"), ("ttl: soon\n", ":1"), ("ttl: [1\n", "config.yaml"),
                               ("peers:\n  - {id: 12, address: 'x:1'}\n", ":2"),
                               ("# whose?\npool: 6f0c1a9b\n", ":2"),
                               (f"# whose?\npeers:\n  - {{id: {'7a' * 32}, address: 'x:1'}}\n", ":2")):
            with open(path, "w") as out:
                out.write(text)
            line = self.mount_refused(f"config={path}")
            self.assertIn("config.yaml", line)
            self.assertIn(expected, line)
            if "ttl" not in text:
                node = os.path.join(self.work, "node")
                line = self.refused(EPHFS, "node", "--dir", node, "--listen", "127.0.0.1:0", "--config", path)
                self.assertIn(f"{path}{expected}", line)
        self.assertIn("missing.yaml", self.mount_refused("config=/nowhere/missing.yaml"))

    def test_damaged_catalog(self):
        volume = self.volume()
        open(volume.path("f"), "w").close()
        volume.umount()
        with open(os.path.join(volume.directory, "catalog.db"), "r+b") as catalog:
            catalog.write(b"\0" * 4096)
        self.assertIn("catalog.db", self.mount_refused("", directory=volume.directory))

    def test_closed_standard_streams(self):
        """A state file never gets the number of a stream that is printed to, and lives on when the daemon lets go of them."""
        directory = os.path.join(self.work, "node")
        node = subprocess.Popen(["sh", "-c", 'exec "$0" "$@" 0<&- 1>&- 2>&-', EPHFS, "node", "--dir", directory, "--listen",
                                 "127.0.0.1:0"])
        try:
            address = os.path.join(directory, "address")
            wait_for("node address", lambda: os.path.exists(address))
            with open(address) as written:
                host, port = written.read().strip().rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=10) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                try:
                    while stranger.recv(4096):
                        pass
                except ConnectionError:
                    pass
            streams = [os.readlink(f"/proc/{node.pid}/fd/{fd}") for fd in range(3)]
            self.assertEqual(streams, ["/dev/null"] * 3)
        finally:
            node.terminate()
            node.wait(timeout=15)
        for path, content in self.content_of(directory).items():
            self.assertNotIn(b"does not speak", content, path)
        for closed in ("0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"):
            volume = Volume(os.path.join(self.work, "vol" + closed), os.path.join(self.work, "mnt"))
            self.volumes.append(volume)
            run("sh", "-c", f'exec "$0" "$@" {closed}', EPHFS, "mount", volume.directory, volume.mountpoint)
            with open(volume.path("f"), "w") as out:
                out.write("written")
            with open(volume.path("f")) as source:
                self.assertEqual(source.read(), "written")
            volume.umount()

    def test_newer_catalog(self):
        volume = self.volume()
        volume.umount()
        base = sqlite3.connect(os.path.join(volume.directory, "catalog.db"))
        base.execute("PRAGMA user_version = 999")
        base.commit()
        base.close()
        line = self.mount_refused("", directory=volume.directory)
        self.assertIn("version", line)

    def test_damaged_shard_of_a_single_node(self):
        volume = self.volume()
        good, bad = os.urandom(100_000), random.Random(1).randbytes(9 << 20)
        with open(volume.path("bad"), "wb") as out:
            out.write(bad)
            os.fsync(out.fileno())
        with open(volume.path("good"), "wb") as out:
            out.write(good)
            os.fsync(out.fileno())
        volume.umount()
        largest = max((os.path.join(path, name) for path, _, names in os.walk(volume.directory) for name in names
                       if "catalog" not in name), key=os.path.getsize)
        with open(largest, "r+b") as shard:
            shard.seek(70_000)
            byte = shard.read(1)
            shard.seek(70_000)
            shard.write(bytes([byte[0] ^ 0x40]))
        drop_caches()
        volume.mount()
        with self.assertRaises(OSError) as failed:
            with open(volume.path("bad"), "rb") as source:
                source.read()
        self.assertEqual(failed.exception.errno, errno.EIO)
        with open(volume.path("good"), "rb") as source:
            self.assertEqual(source.read(), good)

    def test_full_disk(self):
        disk = os.path.join(self.work, "disk")
        os.mkdir(disk)
        run("mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", disk)
        try:
            volume = Volume(os.path.join(disk, "volume"), os.path.join(self.work, "mnt"))
            self.volumes.append(volume)
            volume.mount()
            with open(volume.path("kept"), "wb") as out:
                out.write(b"k" * 1_000_000)
                os.fsync(out.fileno())
            with self.assertRaises(OSError) as full:
                with open(volume.path("big"), "wb") as out:
                    for _ in range(100):
                        out.write(os.urandom(1 << 20))
                        out.flush()
                        os.fsync(out.fileno())
            self.assertEqual(full.exception.errno, errno.ENOSPC)
            with open(volume.path("kept"), "rb") as source:
                self.assertEqual(source.read(), b"k" * 1_000_000)
            os.unlink(volume.path("big"))

            def writable():
                try:
                    with open(volume.path("after"), "wb") as out:
                        out.write(b"a" * 5_000_000)
                        os.fsync(out.fileno())
                    return True
                except OSError as error:
                    self.assertEqual(error.errno, errno.ENOSPC)
                    return False
            wait_for("space after a removal", writable)
            volume.umount()
            volume.mount()
            with open(volume.path("after"), "rb") as source:
                self.assertEqual(source.read(), b"a" * 5_000_000)
            volume.umount()
        finally:
            run("umount", "-l", disk, check=False)

    def test_capacity_is_enforced(self):
        volume = self.volume("capacity=32M")
        with self.assertRaises(OSError) as full:
            with open(volume.path("big"), "wb") as out:
                for _ in range(64):
                    out.write(os.urandom(1 << 20))
                    os.fsync(out.fileno())
        self.assertEqual(full.exception.errno, errno.ENOSPC)

    def test_strangers_on_the_port(self):
        pool = self.pool(2)
        volume = self.volume("profile=1+1,cache_size=0", token=pool.token)
        content = os.urandom(1 << 20)
        with open(volume.path("f"), "wb") as out:
            out.write(content)
            os.fsync(out.fileno())
        host, port = pool.nodes[0].listen.rsplit(":", 1)
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000, os.urandom(5000), b"\xff" * 16, b""):
            with socket.create_connection((host, int(port)), timeout=10) as stranger:
                stranger.settimeout(15)
                try:
                    stranger.sendall(garbage)
                    stranger.shutdown(socket.SHUT_WR)
                    while stranger.recv(4096):
                        pass
                except (ConnectionError, socket.timeout):
                    pass
        drop_caches()
        with open(volume.path("f"), "rb") as source:
            self.assertEqual(source.read(), content)
        with open(pool.nodes[0].directory + ".log") as log:
            self.assertLessEqual(len(log.read().splitlines()), 3)

    def test_tokens(self):
        pool = self.pool(1)
        target = os.path.join(self.work, "joiner")
        self.assertIn("eph-invite-", self.refused(EPHFS, "join", "nonsense", target))
        damaged = pool.token[:-5] + ("x" if pool.token[-5] != "x" else "y") + pool.token[-4:]
        self.refused(EPHFS, "join", damaged, target)
        once = run(EPHFS, "invite", "--dir", pool.nodes[0].directory).stdout.strip()
        run(EPHFS, "join", once, target)
        self.refused(EPHFS, "join", once, target + "2")

    def test_node_arguments(self):
        self.assertIn("listen", self.refused(EPHFS, "node", "--dir", os.path.join(self.work, "n"), "--listen", "nowhere"))
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        self.assertIn(address, self.refused(EPHFS, "node", "--dir", os.path.join(self.work, "n"), "--listen", address))
        taken.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
