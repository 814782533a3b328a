# SPDX-License-Identifier: Apache-2.0
"""What docs/ttl.md says of real programs, open files and the command line."""
import errno
import json
import os
import pty
import select
import socket
import subprocess
import time

from deadlines import deadline_of, expires, seconds_of, sleep_until
from ephfs_processes import EPHFS, EphfsTest, run, wait_for


class TtlTest(EphfsTest):
    def setUp(self):
        super().setUp()
        self.mounted = self.volume("ttl=1d")

    def path(self, *parts):
        return self.mounted.path(*parts)

    def write(self, name, content="first\n", ttl=None):
        path = self.path(name)
        with open(path, "w") as out:
            out.write(content)
        if ttl:
            os.setxattr(path, "user.ephfs.ttl", ttl.encode())
        return path

    def read(self, path):
        with open(path) as source:
            return source.read()

    def assert_refused(self, code, call, *arguments, **options):
        with self.assertRaises(OSError) as refused:
            call(*arguments, **options)
        self.assertEqual(refused.exception.errno, code)


class Saving(TtlTest):
    """Saving keeps an explicit deadline, however the program saves."""

    def setUp(self):
        super().setUp()
        self.file = self.write("text", ttl="5h")
        self.before = expires(self.file)

    def assert_saved(self, content):
        self.assertEqual(self.read(self.file), content)
        self.assertEqual(expires(self.file), self.before)
        self.assertIn("user.ephfs.expires", os.listxattr(self.file))

    def test_written_in_place(self):
        run("sh", "-c", f"echo second > {self.file}")
        self.assert_saved("second\n")

    def test_sed(self):
        run("sed", "-i", "s/first/second/", self.file)
        self.assert_saved("second\n")

    def vim(self, program, *settings):
        run(program, "-u", "NONE", "-i", "NONE", "-es", *settings, "-c", "s/first/second/", "-c", "wq", self.file,
            stdin=subprocess.DEVNULL, env={**os.environ, "TERM": "dumb"})
        self.assert_saved("second\n")
        self.assertEqual(os.listdir(self.mounted.mountpoint), ["text"])

    def test_vim(self):
        self.vim("vim.tiny")

    def test_vim_that_takes_the_old_file_away(self):
        inode = os.stat(self.file).st_ino
        self.vim("vim.tiny", "-c", "set writebackup backupskip= backupcopy=no")
        self.assertNotEqual(os.stat(self.file).st_ino, inode, "it made a new file")

    def test_vim_that_copies(self):
        self.vim("vim.tiny", "-c", "set writebackup backupskip= backupcopy=yes")

    def test_nano(self):
        process, terminal = pty.fork()
        if process == 0:
            os.environ["TERM"] = "vt100"
            os.execvp("nano", ["nano", "--ignorercfiles", self.file])
        shown = bytearray()

        def reads_until(text):
            def shows():
                if select.select([terminal], [], [], 0.05)[0]:
                    try:
                        shown.extend(os.read(terminal, 65536))
                    except OSError:
                        return True
                return text in shown
            wait_for(f"nano to show {text}", shows)
            shown.clear()
        reads_until(b"first")
        os.write(terminal, b"new ")
        reads_until(b"new")
        os.write(terminal, b"\x0f")  # ^O: write out
        reads_until(b"File Name")
        os.write(terminal, b"\r")
        reads_until(b"Wrote")
        os.write(terminal, b"\x18")  # ^X: exit
        self.assertEqual(os.waitpid(process, 0)[1], 0)
        os.close(terminal)
        self.assert_saved("new first\n")

    def test_git_checkout(self):
        git = ["git", "-C", self.mounted.mountpoint, "-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
        run(*git, "init", "-q")
        run(*git, "add", "text")
        run(*git, "commit", "-qm", "one")
        self.write("text", "second\n")
        run(*git, "commit", "-qam", "two")
        inode = os.stat(self.file).st_ino
        run(*git, "checkout", "-q", "HEAD~1")
        self.assertNotEqual(os.stat(self.file).st_ino, inode, "it made a new file")
        self.assert_saved("first\n")

    def test_rsync_over_it(self):
        source = os.path.join(self.work, "text")
        with open(source, "w") as out:
            out.write("second, from rsync\n")
        run("rsync", "-a", source, self.file)
        self.assert_saved("second, from rsync\n")

    def test_tar_over_it(self):
        source = os.path.join(self.work, "text")
        with open(source, "w") as out:
            out.write("second\n")
        run("sh", "-c", f"tar -cf - -C {self.work} text | tar -xf - -C {self.mounted.mountpoint}")
        self.assert_saved("second\n")

    def test_a_new_file_much_later_is_another_file(self):
        os.unlink(self.file)
        time.sleep(2.2)
        self.write("text", "second\n")
        self.assertNotEqual(expires(self.file), self.before)
        self.assertEqual(os.listxattr(self.file), [])

    def test_what_was_only_inherited_is_not_kept(self):
        plain = self.write("plain")
        before = expires(plain)
        time.sleep(0.01)
        os.unlink(plain)
        self.write("plain")
        self.assertGreater(expires(plain), before)


class Copying(TtlTest):
    """Copies carry an explicit deadline with the attributes, and inherit without them."""

    def setUp(self):
        super().setUp()
        self.file = self.write("text", ttl="5h")
        self.before = expires(self.file)
        self.copy = self.path("copy")

    def assert_carried(self):
        self.assertEqual(expires(self.copy), self.before)

    def assert_inherited(self):
        self.assertAlmostEqual(deadline_of(self.copy) - time.time(), 86400, delta=60)
        self.assertEqual(os.listxattr(self.copy), [])

    def test_cp_a(self):
        run("cp", "-a", self.file, self.copy)
        self.assert_carried()

    def test_cp(self):
        run("cp", self.file, self.copy)
        self.assert_inherited()

    def test_rsync_with_xattrs(self):
        run("rsync", "-aX", self.file, self.copy)
        self.assert_carried()

    def test_rsync_without(self):
        run("rsync", "-a", self.file, self.copy)
        self.assert_inherited()

    def tar(self, *options):
        os.mkdir(self.path("d"))
        archive = os.path.join(self.work, "all.tar")
        run("tar", *options, "-cf", archive, "-C", self.mounted.mountpoint, "text")
        run("tar", *options, "-xf", archive, "-C", self.path("d"))
        self.copy = self.path("d", "text")

    def test_tar_with_xattrs(self):
        self.tar("--xattrs")
        self.assert_carried()

    def test_tar_without(self):
        self.tar()
        self.assert_inherited()

    def test_through_another_file_system(self):
        elsewhere = os.path.join(self.work, "elsewhere")
        run("cp", "-a", self.file, elsewhere)
        if b"user.ephfs.expires" not in map(str.encode, os.listxattr(elsewhere)):
            self.skipTest("the temporary directory keeps no user attributes")
        run("cp", "-a", elsewhere, self.copy)
        self.assert_carried()

    def test_a_tree_with_a_dated_symbolic_link(self):
        tree = self.path("tree")
        os.mkdir(tree)
        os.symlink("nowhere", self.path("tree", "link"))
        run(EPHFS, "ttl", "-h", self.path("tree", "link"), "3h")
        before = expires(self.path("tree", "link"), "system.ephfs.")
        run("cp", "-a", tree, self.path("copied"))
        self.assertEqual(expires(self.path("copied", "link"), "system.ephfs."), before)
        run("rsync", "-aX", tree + "/", self.path("synced") + "/")

    def test_moved_within_and_out_of_a_directory(self):
        os.mkdir(self.path("d"))
        os.setxattr(self.path("d"), "user.ephfs.ttl", b"2h")
        os.rename(self.file, self.path("d", "text"))
        self.assertEqual(expires(self.path("d", "text")), self.before)
        inner = self.write(os.path.join("d", "inner"))
        deadline = expires(inner)
        os.rename(inner, self.path("outer"))
        self.assertEqual(expires(self.path("outer")), deadline)


class OpenFiles(TtlTest):
    def test_extended_while_open(self):
        path = self.write("text", ttl="2s")
        first = deadline_of(path)
        with open(path, "rb") as held:
            held.read(1)
            os.setxattr(path, "user.ephfs.ttl", b"+1h")
            sleep_until(first + 0.1)
            self.assertEqual(os.pread(held.fileno(), 5, 0), b"first")
            self.assertEqual(os.stat(path).st_size, 6)

    def test_shortened_while_open(self):
        path = self.write("text")
        with open(path, "rb") as held:
            held.read(1)
            os.stat(path)
            os.setxattr(path, "user.ephfs.ttl", b"1s")
            sleep_until(deadline_of(path))
            self.assert_refused(errno.ESTALE, os.pread, held.fileno(), 5, 0)
            self.assert_refused(errno.ESTALE, os.fstat, held.fileno())
            self.assert_refused(errno.ENOENT, os.stat, path)

    def test_unlinked_and_open(self):
        path = self.write("text", ttl="2s")
        deadline = deadline_of(path)
        with open(path, "r+b") as held:
            os.unlink(path)
            self.assertEqual(os.pread(held.fileno(), 5, 0), b"first")
            os.pwrite(held.fileno(), b"F", 0)
            sleep_until(deadline)
            self.assert_refused(errno.ESTALE, os.pread, held.fileno(), 5, 0)

    def test_written_pages_die_with_their_file(self):
        path = self.write("text", ttl="2s")
        deadline = deadline_of(path)
        held = os.open(path, os.O_RDWR)
        os.pwrite(held, b"F" * 10_000, 0)
        sleep_until(deadline)
        self.assert_refused(errno.ESTALE, os.fsync, held)
        os.close(held)  # fails for nothing
        os.sync()

    def test_set_through_a_descriptor(self):
        path = self.write("text")
        with open(path, "rb") as held:
            os.setxattr(held.fileno(), "user.ephfs.ttl", b"2h")
        self.assertAlmostEqual(deadline_of(path) - time.time(), 7200, delta=60)

    def test_truncated(self):
        path = self.write("text", ttl="5h")
        before = expires(path)
        os.truncate(path, 0)
        os.truncate(path, 100_000)
        open(path, "w").close()
        self.assertEqual(expires(path), before)

    def test_hard_links(self):
        path = self.write("text", ttl="5h")
        os.mkdir(self.path("d"))
        other = self.path("d", "other")
        os.link(path, other)
        self.assertEqual(expires(other), expires(path))
        os.setxattr(other, "user.ephfs.ttl", b"1h")
        self.assertEqual(expires(path), expires(other))
        self.assertAlmostEqual(deadline_of(path) - time.time(), 3600, delta=60)


class CommandLine(TtlTest):
    def ttl(self, *words, check=True):
        return run(EPHFS, "ttl", *words, check=check)

    def test_show(self):
        path = self.write("text", ttl="2h")
        self.assertRegex(self.ttl(path).stdout, r"dies in (2 h|1 h 59 min), at 2\d{3}-")
        self.assertIn("1 d", self.ttl(self.mounted.mountpoint).stdout)

    def test_set_and_refuse(self):
        path = self.write("text")
        self.ttl(path, "90s")
        self.assertAlmostEqual(deadline_of(path) - time.time(), 90, delta=5)
        self.ttl(path, "+30s")
        self.assertAlmostEqual(deadline_of(path) - time.time(), 120, delta=5)
        before = expires(path)
        for bad in ("0", "-1h", "2001-01-01T00:00:00Z", "never", "366d", "soon", "1h1h", "99999999999999999999"):
            done = self.ttl(path, bad, check=False)
            self.assertNotEqual(done.returncode, 0, bad)
            self.assertIn("ephfs", done.stderr)
        self.assertEqual(expires(path), before)
        self.assertNotEqual(self.ttl("/proc/self/status", "1h", check=False).returncode, 0)

    def test_a_refusal_names_what_the_volume_allows(self):
        path = self.write("text")
        self.assertRegex(self.ttl(path, "366d", check=False).stderr, r"allows, which is 1s to 365d \(")
        self.mounted.umount()
        eternal = self.volume("min_ttl=1m,max_ttl=30d,allow_permanent", name="eternal")
        self.assertIn("which is 1m to 30d, or never", self.ttl(eternal.mountpoint, "1s", check=False).stderr)

    def test_a_wildcard_sets_nothing(self):
        for name in ("1", "2", "10", "100"):
            self.write(name)
        before = [expires(self.path(name)) for name in os.listdir(self.mounted.mountpoint)]
        done = run("sh", "-c", f"{EPHFS} ttl *", cwd=self.mounted.mountpoint, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("write ./2 for the file, -- 2 for the time", done.stderr)
        self.assertEqual([expires(self.path(name)) for name in os.listdir(self.mounted.mountpoint)], before)
        done = run(EPHFS, "ttl", "1", "10", "./2", cwd=self.mounted.mountpoint)
        self.assertEqual(len(done.stdout.splitlines()), 3)
        run(EPHFS, "ttl", "1", "10", "--", "100", cwd=self.mounted.mountpoint)
        for name, left in (("1", 100), ("10", 100), ("2", 86400), ("100", 86400)):
            self.assertAlmostEqual(deadline_of(self.path(name)) - time.time(), left, delta=60, msg=name)

    def test_a_directory_whose_default_is_an_instant(self):
        directory, moment = self.path("d"), time.time() + 33 * 86400 - 60
        os.mkdir(directory)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
        self.ttl(directory, at + "+00:00")
        said = f"files made here die at {at}.000Z, in 32 d 23 h"
        self.assertIn(said, self.ttl(directory).stdout)
        self.assertIn(said, run(EPHFS, "ls", self.mounted.mountpoint).stdout)
        for command in (("ttl", directory), ("ls", self.mounted.mountpoint)):
            line = json.loads(run(EPHFS, *command, "--json").stdout)
            self.assertEqual((line["default_ttl"], line["default_expires"]), (None, f"{at}.000Z"))
        self.ttl(directory, "1d")
        self.assertIn("files made here live 1 d", run(EPHFS, "ls", self.mounted.mountpoint).stdout)
        line = json.loads(self.ttl(directory, "--json").stdout)
        self.assertEqual((line["default_ttl"], line["default_expires"]), ("1d", None))

    def test_a_directory_and_its_tree(self):
        os.makedirs(self.path("d", "e"))
        old = self.write(os.path.join("d", "e", "old"))
        os.symlink("old", self.path("d", "e", "link"))
        os.mkfifo(self.path("d", "e", "pipe"))
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(self.path("d", "e", "socket"))
        self.ttl(self.path("d"), "3h")
        self.assertAlmostEqual(deadline_of(old) - time.time(), 86400, delta=60)
        new = self.write(os.path.join("d", "new"))
        self.assertAlmostEqual(deadline_of(new) - time.time(), 3 * 3600, delta=60)
        self.ttl("-R", self.path("d"), "2h")
        self.assertAlmostEqual(deadline_of(old) - time.time(), 7200, delta=60)
        for name in ("link", "pipe", "socket"):
            self.assertAlmostEqual(self.left_of_link(self.path("d", "e", name)), 7200, delta=60, msg=name)
        self.assertEqual(os.getxattr(self.path("d", "e"), "user.ephfs.ttl"), b"2h")

    def test_a_symbolic_link(self):
        path = self.write("text")
        link = self.path("link")
        os.symlink("text", link)
        self.ttl(link, "2h")
        self.assertAlmostEqual(deadline_of(path) - time.time(), 7200, delta=60)
        self.assertAlmostEqual(self.left_of_link(link), 86400, delta=60)
        self.ttl("-h", link, "3h")
        self.assertAlmostEqual(deadline_of(path) - time.time(), 7200, delta=60)
        self.assertAlmostEqual(self.left_of_link(link), 3 * 3600, delta=60)
        self.assert_refused(errno.EPERM, os.setxattr, link, "user.ephfs.ttl", b"1h", follow_symlinks=False)

    def left_of_link(self, link):
        return seconds_of(expires(link, "system.ephfs.")) - time.time()

    def test_only_the_owner_sets_a_links_deadline(self):
        link = self.path("link")
        os.symlink("text", link)
        # Another user needs to see the mount at all.
        self.mounted.umount()
        self.mounted.mount("ttl=1d,allow_other")
        os.chmod(self.work, 0o755)
        os.chmod(self.mounted.mountpoint, 0o777)
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                os.setxattr(link, "system.ephfs.ttl", b"1h", follow_symlinks=False)
            except OSError as refused:
                os._exit(refused.errno)
            os._exit(0)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), errno.EPERM)
        self.assertAlmostEqual(self.left_of_link(link), 86400, delta=60)

    def test_mount_options(self):
        for bad in ("ttl=0", "ttl=-1h", "ttl=soon", "ttl=99999999999999999999d", "min_ttl=2h,max_ttl=1h", "min_ttl=99ms",
                    "ttl=1h,min_ttl=2h", "ttl=2d,max_ttl=1d", "ttl=never", "ttl_mode=often"):
            self.mounted.umount()
            done = run(EPHFS, "mount", self.mounted.directory, self.mounted.mountpoint, "-o", bad, check=False)
            self.assertNotEqual(done.returncode, 0, bad)
            self.assertFalse(self.mounted.is_mounted(), bad)
            self.mounted.mount()

    def test_what_is_listed(self):
        path = self.write("text")
        self.assertEqual(os.listxattr(path), [])
        os.setxattr(path, "user.note", b"mine")
        os.setxattr(path, "user.ephfs.ttl", b"2h")
        self.assertEqual(sorted(os.listxattr(path)), ["user.ephfs.expires", "user.note"])
        os.removexattr(path, "user.ephfs.expires")
        self.assertEqual(os.listxattr(path), ["user.note"])
        self.assertAlmostEqual(deadline_of(path) - time.time(), 86400, delta=60)
        link = self.path("link")
        os.symlink("text", link)
        self.assertEqual(os.listxattr(link, follow_symlinks=False), [])
        run(EPHFS, "ttl", "-h", link, "3h")
        self.assertEqual(os.listxattr(link, follow_symlinks=False), ["system.ephfs.expires"])


del TtlTest
