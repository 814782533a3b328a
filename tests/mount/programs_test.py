# SPDX-License-Identifier: Apache-2.0
"""Real programs do their work on the mount."""
import os
import shutil
import sqlite3
import unittest

from ephfs_processes import EphfsTest, run

PROGRAM = """
#include <stdio.h>
int part_%d(void) { return %d; }
"""
MAIN = """
#include <stdio.h>
%s
int main(void) { int sum = 0; %s printf("%%d\\n", sum); return 0; }
"""


class Programs(EphfsTest):
    def setUp(self):
        super().setUp()
        self.mounted = self.volume("ttl=1d")

    def path(self, *parts):
        return self.mounted.path(*parts)

    def write_sources(self, directory, parts=12):
        os.makedirs(directory)
        for i in range(parts):
            with open(os.path.join(directory, f"part{i}.c"), "w") as out:
                out.write(PROGRAM % (i, i))
        declarations = "".join(f"int part_{i}(void);\n" for i in range(parts))
        calls = "".join(f"sum += part_{i}();" for i in range(parts))
        with open(os.path.join(directory, "main.c"), "w") as out:
            out.write(MAIN % (declarations, calls))
        objects = " ".join(["main.o"] + [f"part{i}.o" for i in range(parts)])
        with open(os.path.join(directory, "Makefile"), "w") as out:
            out.write(f"program: {objects}\n\t$(CC) -o $@ $^\n")
        return sum(range(parts))

    def test_git(self):
        git = ["git", "-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
        origin = os.path.join(self.work, "origin")
        self.write_sources(origin)
        run("git", "init", "-q", origin)
        run("git", "-C", origin, "add", ".")
        run(*git, "-C", origin, "commit", "-qm", "one")
        clone = self.path("clone")
        run("git", "clone", "-q", origin, clone)
        with open(os.path.join(clone, "part0.c"), "a") as out:
            out.write("/* changed */\n")
        run(*git, "-C", clone, "commit", "-qam", "two")
        run("git", "-C", clone, "checkout", "-qb", "branch", "HEAD~1")
        run("git", "-C", clone, "gc", "-q")
        run("git", "-C", clone, "fsck", "--strict")
        self.assertEqual(run("git", "-C", clone, "status", "--porcelain").stdout, "")
        self.mounted.remount_cold()
        run("git", "-C", clone, "fsck", "--strict")
        self.assertEqual(run("git", "-C", clone, "log", "--oneline", "--all").stdout.count("\n"), 2)

    def test_sqlite_with_a_write_ahead_log(self):
        path = self.path("database")
        base = sqlite3.connect(path)
        self.assertEqual(base.execute("PRAGMA journal_mode=WAL").fetchone()[0], "wal")
        base.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, value BLOB)")
        for i in range(300):
            base.execute("INSERT INTO t(value) VALUES(?)", (os.urandom(i * 13),))
            base.commit()
        other = sqlite3.connect(path)
        self.assertEqual(other.execute("SELECT count(*) FROM t").fetchone()[0], 300)
        base.execute("UPDATE t SET value = NULL WHERE id % 2")
        base.commit()
        self.assertEqual(other.execute("SELECT count(value) FROM t").fetchone()[0], 150)
        other.close()
        base.close()
        self.mounted.remount_cold()
        self.assertEqual(run("sqlite3", path, "PRAGMA integrity_check; SELECT count(value) FROM t").stdout, "ok\n150\n")

    def test_tar(self):
        source = os.path.join(self.work, "source")
        self.write_sources(os.path.join(source, "sub"))
        os.symlink("sub/main.c", os.path.join(source, "link"))
        os.link(os.path.join(source, "sub", "main.c"), os.path.join(source, "hard"))
        with open(os.path.join(source, "sparse"), "wb") as out:
            out.seek(5 << 20)
            out.write(b"end")
        os.makedirs(self.path("out"))
        run("sh", "-c", f"tar -cSf {self.path('all.tar')} -C {source} . && tar -xSf {self.path('all.tar')} -C {self.path('out')}")
        run("diff", "-r", "--no-dereference", source, self.path("out"))
        run("tar", "-dSf", self.path("all.tar"), "-C", self.path("out"))
        self.assertEqual(os.stat(self.path("out", "hard")).st_nlink, 2)

    def test_a_compile(self):
        total = self.write_sources(self.path("build"))
        run("make", "-s", "-j2", "-C", self.path("build"))
        self.assertEqual(run(self.path("build", "program")).stdout, f"{total}\n")
        self.assertIn("up to date", run("make", "-C", self.path("build")).stdout)

    def test_an_editors_save(self):
        path = self.path("text")
        with open(path, "w") as out:
            out.write("first\n")
        os.chmod(path, 0o640)
        os.setxattr(path, "user.ephfs.ttl", b"5h")
        before = os.getxattr(path, "user.ephfs.expires")
        # As vim does with backupcopy=no: the old file aside, a new one in its place, synced, the old one removed.
        os.rename(path, path + "~")
        with open(path, "w") as out:
            out.write("second\n")
            out.flush()
            os.fsync(out.fileno())
        os.chmod(path, 0o640)
        os.unlink(path + "~")
        with open(path) as saved:
            self.assertEqual(saved.read(), "second\n")
        # As most others do: a new file beside it, renamed over it.
        os.setxattr(path, "user.ephfs.expires", before)
        with open(path + ".tmp", "w") as out:
            out.write("third\n")
            os.fsync(out.fileno())
        os.rename(path + ".tmp", path)
        self.assertEqual(os.getxattr(path, "user.ephfs.expires"), before)
        run("sed", "-i", "s/third/fourth/", path)
        self.assertEqual(os.getxattr(path, "user.ephfs.expires"), before)
        with open(path) as saved:
            self.assertEqual(saved.read(), "fourth\n")

    def test_rsync_twice_copies_nothing(self):
        source = os.path.join(self.work, "source")
        self.write_sources(source, 40)
        first = run("rsync", "-aHAX", "--itemize-changes", source + "/", self.path("copy") + "/").stdout
        self.assertIn("main.c", first)
        self.assertEqual(run("rsync", "-aHAX", "--itemize-changes", source + "/", self.path("copy") + "/").stdout, "")
        self.mounted.remount_cold()
        self.assertEqual(run("rsync", "-aHAX", "--itemize-changes", source + "/", self.path("copy") + "/").stdout, "")

    def test_copy_keeps_an_explicit_deadline(self):
        path = self.path("f")
        with open(path, "w") as out:
            out.write("x")
        os.setxattr(path, "user.ephfs.ttl", b"5h")
        before = os.getxattr(path, "user.ephfs.expires")
        run("cp", "-a", path, self.path("copied"))
        self.assertEqual(os.getxattr(self.path("copied"), "user.ephfs.expires"), before)
        run("rsync", "-aX", path, self.path("synced"))
        self.assertEqual(os.getxattr(self.path("synced"), "user.ephfs.expires"), before)
        shutil.copyfile(path, self.path("plain"))
        self.assertNotEqual(os.getxattr(self.path("plain"), "user.ephfs.expires"), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
