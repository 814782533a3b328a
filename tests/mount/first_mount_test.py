# SPDX-License-Identifier: Apache-2.0
"""What makes a volume is made once: by a first mount that succeeds, never by one that fails, and never anew."""
import os
import pty
import shutil
import sqlite3
import unittest

from ephfs_processes import EPHFS, EphfsTest, Volume, run, wait_for


class FirstMount(EphfsTest):
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
        self.assert_same_content(directory, key)
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


class LostParts(EphfsTest):
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
                self.assert_same_content(volume.directory, before)
                examined = run(EPHFS, "doctor", volume.directory, check=False)
                self.assertNotEqual(examined.returncode, 0, examined.stdout)
                self.assertIn("gone", examined.stdout)
                before.pop(os.path.join(volume.directory, "clock"))  # which doctor looks at by reading it on
                self.assert_same_content(volume.directory, before)
            os.rename(path + ".saved", path)
        volume.mount()
        with open(volume.path("f"), "rb") as source:
            self.assertEqual(source.read(), b"precious" * 10_000)

    def test_a_node_whose_key_is_gone_is_not_made_another(self):
        volume = self.volume("cache_size=0")
        with open(volume.path("f"), "wb") as out:
            out.write(os.urandom(1 << 20))
            os.fsync(out.fileno())
        node = os.path.join(volume.directory, "node")
        wait_for("a shard", lambda: [name for _, _, names in os.walk(os.path.join(node, "shards")) for name in names])
        volume.umount()
        os.rename(os.path.join(node, "node.key"), os.path.join(self.work, "saved"))
        before = self.content_of(node)
        self.assertIn("node/node.key", self.mount_refused("", directory=volume.directory))
        self.assertIn("node.key", self.refused(EPHFS, "node", "--dir", node, "--listen", "127.0.0.1:0"))
        self.assert_same_content(node, before)
        self.assertFalse(os.path.exists(os.path.join(node, "node.key")))
        os.rename(os.path.join(self.work, "saved"), os.path.join(node, "node.key"))
        volume.mount()
        with open(volume.path("f"), "rb") as source:
            self.assertEqual(len(source.read()), 1 << 20)


class Passphrase(EphfsTest):
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

    def mount_by_prompt(self, volume, *answers):
        """Mounts on a terminal of its own, answering each question; gives the exit status and what the terminal showed."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(EPHFS, [EPHFS, "mount", volume.directory, volume.mountpoint, "-o", "passphrase_prompt"])
        shown = b""
        try:
            for answer in answers:
                asked = len(shown)
                while not shown[asked:].endswith(b": "):
                    shown += os.read(terminal, 1000)
                os.write(terminal, answer.encode() + b"\n")
            while True:
                try:
                    shown += os.read(terminal, 1000)
                except OSError:  # EIO: nobody has the other end any more
                    break
        finally:
            os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()

    def test_by_prompt(self):
        volume = Volume(os.path.join(self.work, "volume"), os.path.join(self.work, "mnt"))
        self.volumes.append(volume)
        status, shown = self.mount_by_prompt(volume, "correct horse", "correct house")
        self.assertEqual(status, 32)
        self.assertIn("differ", shown)
        self.assertFalse(os.path.exists(volume.directory), "no volume by a passphrase that nobody may know")
        status, shown = self.mount_by_prompt(volume, "correct horse", "correct horse")
        self.assertEqual(status, 0, shown)
        self.assertNotIn("horse", shown, "a passphrase is not echoed")
        with open(volume.path("f"), "w") as out:
            out.write("secret")
        volume.umount()
        status, shown = self.mount_by_prompt(volume, "battery staple")
        self.assertEqual(status, 32)
        self.assertIn("wrong passphrase", shown)
        self.assertFalse(volume.is_mounted())
        status, shown = self.mount_by_prompt(volume, "correct horse")
        self.assertEqual(status, 0, shown)
        with open(volume.path("f")) as source:
            self.assertEqual(source.read(), "secret")


if __name__ == "__main__":
    unittest.main(verbosity=2)
