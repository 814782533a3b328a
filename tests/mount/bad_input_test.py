# SPDX-License-Identifier: Apache-2.0
"""Bad input gives one clear line and a status that is not zero, and nothing is lost by it."""
import errno
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import time
import unittest

from ephfs_processes import BIN, EPHFS, EphfsTest, Volume, drop_caches, run, wait_for


class BadInput(EphfsTest):
    def refused(self, *command, **options):
        done = run(*command, check=False, timeout=40, **options)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        return lines[0]

    def mount_refused(self, options, directory=None, mountpoint=None):
        mountpoint = mountpoint or os.path.join(self.work, "mnt")
        if mountpoint == os.path.join(self.work, "mnt"):
            os.makedirs(mountpoint, exist_ok=True)
        directory = directory or os.path.join(self.work, "vol")
        return self.refused(EPHFS, "mount", directory, mountpoint, *(["-o", options] if options else []))

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

    def test_a_first_mount_that_is_refused_leaves_nothing(self):
        """Above all no decision that is made once for a volume."""
        passphrase = os.path.join(self.work, "passphrase")
        with open(passphrase, "w") as out:
            out.write("correct horse\n")
        there, fresh = os.path.join(self.work, "there"), os.path.join(self.work, "fresh")
        os.mkdir(there)
        for directory in (there, fresh):
            self.assertIn("allow_permanent", self.mount_refused("ttl=never", directory=directory))
            self.assertIn("4+2", self.mount_refused("profile=4+2", directory=directory))
        self.assertLessEqual(set(os.listdir(there)), {"volume.lock"})
        self.assertFalse(os.path.exists(fresh))
        for name, options in (("there", "ttl=never,allow_permanent"), ("fresh", f"passphrase_file={passphrase}")):
            self.volume(options, name=name).umount()
        self.assertIn("passphrase", self.mount_refused("", directory=fresh))

    def test_a_refused_mount_leaves_a_joined_node(self):
        pool = self.pool(1)
        directory = os.path.join(self.work, "joined")
        run(EPHFS, "join", pool.token, directory)
        key = self.content_of(os.path.join(directory, "node"))
        self.assertIn("4+2", self.mount_refused("profile=4+2", directory=directory))
        left = self.content_of(directory)
        self.assertEqual({path: left.get(path) for path in key}, key)
        self.assertFalse(os.path.exists(os.path.join(directory, "keys")))

    def test_too_long_a_path_for_the_control_socket(self):
        above = os.path.join(self.work, "long" * 20)
        self.assertIn("too long", self.mount_refused("", directory=os.path.join(above, "volume")))
        self.assertIn("too long", self.refused(EPHFS, "node", "--dir", os.path.join(above, "node"), "--listen", "127.0.0.1:0"))
        self.assertFalse(os.path.exists(above))

    def test_a_directory_of_other_files_is_no_volume(self):
        photos = os.path.join(self.work, "photos")
        os.mkdir(photos)
        open(os.path.join(photos, "cat.jpg"), "w").close()
        line = self.mount_refused("", directory=photos)
        self.assertIn(photos, line)
        self.assertIn("cat.jpg", line)
        self.assertEqual(os.listdir(photos), ["cat.jpg"])
        os.unlink(os.path.join(photos, "cat.jpg"))
        with open(os.path.join(photos, "config.yaml"), "w") as out:
            out.write("ttl: 1h\n")
        self.volume(name="photos")

    def test_configuration_file(self):
        path = os.path.join(self.work, "config.yaml")
        for text, expected in (("ttl: 1d\nnonsense: 1\n", ":2"), ("ttl: soon\n", ":1"), ("ttl: [1\n", "config.yaml"),
                               ("peers:\n  - {id: 12, address: 'x:1'}\n", ":2")):
            with open(path, "w") as out:
                out.write(text)
            line = self.mount_refused(f"config={path}")
            self.assertIn("config.yaml", line)
            self.assertIn(expected, line)
        self.assertIn("missing.yaml", self.mount_refused("config=/nowhere/missing.yaml"))

    def test_mountpoints(self):
        self.assertIn("/nowhere", self.mount_refused("", mountpoint="/nowhere/at/all"))
        path = os.path.join(self.work, "plain file")
        open(path, "w").close()
        self.assertIn("plain file", self.mount_refused("", mountpoint=path))
        volume = self.volume()
        line = self.mount_refused("", directory=volume.directory)
        self.assertIn("already mounted", line)
        self.assertIn(volume.mountpoint, line)
        self.assertIn(volume.mountpoint, self.mount_refused("", mountpoint=volume.mountpoint))

    def test_mountpoints_that_are_mounts(self):
        """However it is written, and whatever is mounted there."""
        volume, other = self.volume(), os.path.join(self.work, "other")
        link = os.path.join(self.work, "link")
        os.symlink(volume.mountpoint, link)
        for name in (volume.mountpoint + "/", volume.mountpoint + "/.", link, link + "/"):
            self.assertIn(volume.mountpoint + " has", self.mount_refused("", directory=other, mountpoint=name))
        tmpfs = os.path.join(self.work, "tmpfs")
        os.mkdir(tmpfs)
        run("mount", "-t", "tmpfs", "none", tmpfs)
        try:
            self.assertIn("tmpfs", self.mount_refused("", directory=other, mountpoint=tmpfs))
        finally:
            run("umount", tmpfs)
        self.assertFalse(os.path.exists(other))
        for name in (link, volume.mountpoint + "/", volume.mountpoint + "/."):
            self.assertIn('"live_bytes"', run(EPHFS, "status", name, "--json").stdout)
            run(EPHFS, "umount", name)
            self.assertFalse(volume.is_mounted(), name)
            volume.mount()

    def test_several_mounts_at_once(self):
        """Of those who mount on one directory at the same moment, one does."""
        mountpoint = os.path.join(self.work, "mnt")
        volumes = [Volume(os.path.join(self.work, f"vol{i}"), mountpoint) for i in range(3)]
        self.volumes.append(volumes[0])
        for volume in volumes:  # made before, so that all come to the mountpoint at the same time
            volume.mount()
            volume.umount()
        started = [subprocess.Popen([EPHFS, "mount", volume.directory, mountpoint], stderr=subprocess.PIPE, text=True)
                   for volume in volumes]
        told = [mounting.communicate(timeout=40)[1] for mounting in started]
        self.assertEqual(sorted(mounting.returncode for mounting in started), [0, 32, 32], told)
        for line in told:
            self.assertTrue(line == "" or mountpoint in line, told)
        run(EPHFS, "umount", mountpoint)
        self.assertFalse(volumes[0].is_mounted())

    def test_mountpoint_above_the_volume(self):
        """It would cover what it lives on."""
        inner, top = os.path.join(self.work, "top", "vol"), os.path.join(self.work, "top")
        os.makedirs(inner)
        link = os.path.join(self.work, "link")
        os.symlink(inner, link)
        for directory, mountpoint in ((inner, inner), (inner, top), (link, top), (inner, link)):
            line = self.mount_refused("", directory=directory, mountpoint=mountpoint)
            self.assertIn("cover", line)
            self.assertIn(inner, line)
        self.assertEqual(os.listdir(inner), [])

    def test_mount_of_a_killed_daemon(self):
        """It is named as what it is, and umount takes it away, also while somebody is in it."""
        volume = self.volume()
        with open(volume.path("f"), "w") as out:
            out.write("written")
        run("sync", "-f", volume.mountpoint)
        with open(volume.path("f")):
            volume.kill_daemon()
            for command in ("mount", volume.directory, volume.mountpoint), ("status", volume.mountpoint), \
                           ("status", volume.directory):
                line = self.refused(EPHFS, *command)
                self.assertIn("has died", line)
                self.assertIn(volume.directory, line)
                self.assertIn(f"ephfs umount {volume.mountpoint}", line)
            examined = run(EPHFS, "doctor", volume.directory, check=False)
            self.assertNotEqual(examined.returncode, 0)
            self.assertIn("BAD  mount", examined.stdout)
            run(EPHFS, "umount", volume.mountpoint)
            self.assertFalse(volume.is_mounted())
        volume.mount()
        self.assertIn("ok   mount", run(EPHFS, "doctor", volume.directory).stdout)
        with open(volume.path("f")) as source:
            self.assertEqual(source.read(), "written")

    def test_passphrase(self):
        right, wrong = os.path.join(self.work, "right"), os.path.join(self.work, "wrong")
        for path, text in ((right, "correct horse"), (wrong, "battery staple")):
            with open(path, "w") as out:
                out.write(text + "\n")
        volume = self.volume(f"passphrase_file={right}")
        with open(volume.path("f"), "w") as out:
            out.write("secret")
        volume.umount()
        self.assertIn("passphrase", self.mount_refused(f"passphrase_file={wrong}", directory=volume.directory))
        self.assertIn("passphrase", self.mount_refused("", directory=volume.directory))
        with open(right) as source:
            run(EPHFS, "mount", volume.directory, volume.mountpoint, "-o", f"passphrase_fd={source.fileno()}",
                pass_fds=[source.fileno()])
        with open(volume.path("f")) as source:
            self.assertEqual(source.read(), "secret")
        volume.umount()
        credentials = os.path.join(self.work, "credentials")
        os.mkdir(credentials)
        os.rename(right, os.path.join(credentials, "ephfs.passphrase"))
        run(EPHFS, "mount", volume.directory, volume.mountpoint, env={**os.environ, "CREDENTIALS_DIRECTORY": credentials})
        with open(volume.path("f")) as source:
            self.assertEqual(source.read(), "secret")

    def test_damaged_catalog(self):
        volume = self.volume()
        open(volume.path("f"), "w").close()
        volume.umount()
        with open(os.path.join(volume.directory, "catalog.db"), "r+b") as catalog:
            catalog.write(b"\0" * 4096)
        self.assertIn("catalog.db", self.mount_refused("", directory=volume.directory))

    def content_of(self, directory):
        """Every file below, by its content: what a refusal leaves as it was. Its lock says who came last."""
        found = {}
        for path, _, names in os.walk(directory):
            for name in names:
                if name not in ("volume.lock", "control.sock"):
                    with open(os.path.join(path, name), "rb") as source:
                        found[os.path.join(path, name)] = source.read()
        return found

    def test_what_a_volume_cannot_be_without_is_never_made_anew(self):
        volume = self.volume()
        with open(volume.path("f"), "wb") as out:
            out.write(b"precious" * 10_000)
        volume.umount()
        staged = os.listdir(os.path.join(volume.directory, "staging"))
        self.assertTrue([name for name in staged if name.endswith(".stripe")])
        no_schema = os.path.join(self.work, "no-schema.db")
        base = sqlite3.connect(no_schema)
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA user_version = 0")
        base.close()
        self.assertGreater(os.path.getsize(no_schema), 0)
        for name in ("catalog.db", "keys", "wheel"):
            path = os.path.join(volume.directory, name)
            os.rename(path, path + ".saved")
            for stand_in in (None, "/dev/null", no_schema) if name == "catalog.db" else (None,):
                if stand_in:
                    shutil.copyfile(stand_in, path)
                before = self.content_of(volume.directory)
                line = self.mount_refused("", directory=volume.directory)
                self.assertIn(path, line)
                self.assertIn("gone", line)
                self.assertEqual(self.content_of(volume.directory), before)
                examined = run(EPHFS, "doctor", volume.directory, check=False)
                self.assertNotEqual(examined.returncode, 0, examined.stdout)
                self.assertIn("gone", examined.stdout)
                self.assertEqual(self.content_of(volume.directory), before)
            os.rename(path + ".saved", path)
        volume.mount()
        with open(volume.path("f"), "rb") as source:
            self.assertEqual(source.read(), b"precious" * 10_000)

    def test_a_node_whose_key_is_gone_is_not_made_another(self):
        volume = self.volume("cache_size=0")
        with open(volume.path("f"), "wb") as out:
            out.write(os.urandom(1 << 20))
            os.fsync(out.fileno())
        volume.umount()
        node = os.path.join(volume.directory, "node")
        self.assertTrue([name for _, _, names in os.walk(os.path.join(node, "shards")) for name in names])
        os.rename(os.path.join(node, "node.key"), os.path.join(self.work, "saved"))
        before = self.content_of(node)
        self.assertIn("node/node.key", self.mount_refused("", directory=volume.directory))
        self.assertIn("node.key", self.refused(EPHFS, "node", "--dir", node, "--listen", "127.0.0.1:0"))
        self.assertEqual({path: held for path, held in self.content_of(node).items() if path in before}, before)
        self.assertFalse(os.path.exists(os.path.join(node, "node.key")))
        os.rename(os.path.join(self.work, "saved"), os.path.join(node, "node.key"))
        volume.mount()
        with open(volume.path("f"), "rb") as source:
            self.assertEqual(len(source.read()), 1 << 20)

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
                while stranger.recv(4096):
                    pass
            streams = [os.readlink(f"/proc/{node.pid}/fd/{fd}") for fd in range(3)]
            self.assertEqual(streams, ["/dev/null"] * 3)
        finally:
            node.terminate()
            node.wait(timeout=15)
        for path, content in self.content_of(directory).items():
            self.assertNotIn(b"127.0.0.1:" if path.endswith("clock") else b"ephfs: ", content, path)
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


class MountHelper(EphfsTest):
    def test_mount_and_fstab_form(self):
        """mount(8) calls mount.ephfs SOURCE TARGET -o OPTIONS, with options of its own among them."""
        helper = os.path.join(BIN, "mount.ephfs")
        volume = Volume(os.path.join(self.work, "volume"), os.path.join(self.work, "mnt"))
        self.volumes.append(volume)
        run(helper, volume.directory, volume.mountpoint, "-o", "rw,ttl=1d,_netdev")
        left = os.getxattr(volume.mountpoint, "user.ephfs.ttl")
        self.assertTrue(volume.is_mounted(), left)
        run("umount", volume.mountpoint)
        run(helper, "-v", "-n", volume.directory, volume.mountpoint, "-o", "ro")
        with self.assertRaises(OSError) as refused:
            open(volume.path("f"), "w").close()
        self.assertEqual(refused.exception.errno, errno.EROFS)


if __name__ == "__main__":
    unittest.main(verbosity=2)
