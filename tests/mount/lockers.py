# SPDX-License-Identifier: Apache-2.0
"""What tests of file locks have in common: processes that lock, who waits, and the two places where a lock must be the same."""
import errno
import functools
import json
import os
import select
import signal
import subprocess
import sys

import locker_process
from ephfs_processes import EphfsTest, run, wait_for
from locker_process import EXCLUSIVE, FLOCK, OPEN_FILE, RECORD

ALL = (RECORD, OPEN_FILE, FLOCK)
OF_RANGES = (RECORD, OPEN_FILE)
OF_OPEN_FILES = (OPEN_FILE, FLOCK)

ANSWERS_WITHIN = 30.0  # what a call that can return may take


class Locker:
    """A process in `directory` that makes one call at a time. A call gives what it gave there, or its errno; 0 is success."""

    def __init__(self, directory, way):
        self.way = way
        self.fd = None
        self.process = subprocess.Popen([sys.executable, "-IS", locker_process.__file__], cwd=directory,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def begin_call(self, *call):
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()

    def has_answered(self, seconds=0.0):
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def answer(self):
        if not self.has_answered(ANSWERS_WITHIN):
            raise AssertionError("a call does not return")
        return json.loads(self.process.stdout.readline())

    def call(self, *call):
        self.begin_call(*call)
        return self.answer()

    def descriptor(self, *call):
        made = self.call(*call)
        if not isinstance(made, list):
            raise OSError(made, os.strerror(made))
        return made[0]

    def open(self, name="f", flags=os.O_RDWR | os.O_CREAT):
        """The first descriptor is what is locked where none is given."""
        fd = self.descriptor("open", name, flags)
        self.fd = fd if self.fd is None else self.fd
        return fd

    def dup(self):
        return self.descriptor("dup", self.fd)

    def close(self, fd=None):
        self.call("close", self.fd if fd is None else fd)

    def write(self, count):
        self.call("write", self.fd, count)

    def become_anew(self):
        """Goes on as another program in the same process, with the same descriptor."""
        return self.call("become_anew", self.fd)

    def take(self, kind, start=0, length=0, fd=None, whence=os.SEEK_SET):
        """Locks, or is refused at once."""
        return self.call("take", self.way, False, self.fd if fd is None else fd, kind, whence, start, length)

    def begin(self, kind, start=0, length=0):
        """Locks as soon as it can; answer() tells."""
        self.begin_call("take", self.way, True, self.fd, kind, os.SEEK_SET, start, length)

    def take_in_fork(self, kind):
        """The same call in a process forked from this one, which then ends."""
        return self.call("in_fork", "take", self.way, False, self.fd, kind, os.SEEK_SET, 0, 0)

    def conflict(self, kind, start=0, length=0):
        """What would refuse such a lock: kind, start, length and process, or None."""
        return self.call("conflict", self.way, self.fd, kind, start, length)

    def ranges_of_others(self):
        """Kind, start and length of each; in order when one process has them all."""
        found = [self.conflict(EXCLUSIVE)]
        while found[-1] and found[-1][2]:
            found.append(self.conflict(EXCLUSIVE, found[-1][1] + found[-1][2]))
        return [tuple(one[:3]) for one in found if one]

    def interrupt(self):
        self.process.send_signal(signal.SIGUSR1)

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=ANSWERS_WITHIN)
        self.process.stdin.close()
        self.process.stdout.close()


def waiters(file):
    """How many wait for a lock of the file with this os.stat_result."""
    name = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    with open("/proc/locks") as locks:
        return sum("->" in words and name in words for words in map(str.split, locks))


def by(*ways):
    """Runs a test with each way to lock, on a local file system, which shows that what it expects is right, and on a mount."""
    def decorate(test):
        @functools.wraps(test)
        def in_both_places(self):
            for place, root in self.places.items():
                for way in ways:
                    with self.subTest(place, way=way):
                        self.way, self.directory = way, os.path.join(root, way)
                        os.mkdir(self.directory)
                        test(self)
                    self.end_lockers()
        return in_both_places
    return decorate


class LockTest(EphfsTest):
    def setUp(self):
        super().setUp()
        self.started = []
        self.mounted = self.volume("ttl=1d")
        self.local = os.path.join(self.work, "local")
        os.mkdir(self.local)
        run("mount", "-t", "tmpfs", "tmpfs", self.local)
        self.places = {"local": self.local, "mount": self.mounted.mountpoint}

    def tearDown(self):
        self.end_lockers()
        run("umount", self.local)
        super().tearDown()

    def end_lockers(self):
        while self.started:
            self.started.pop().kill()

    def locker(self, way=None):
        locker = Locker(self.directory, way or self.way)
        self.started.append(locker)
        return locker

    def lockers(self, count, name="f"):
        """Processes that have opened the same file, each by itself."""
        made = [self.locker() for _ in range(count)]
        for locker in made:
            locker.open(name)
        return made

    def path(self, name="f"):
        return os.path.join(self.directory, name)

    def wait_for_waiters(self, count, name="f"):
        file = os.stat(self.path(name))
        wait_for(f"{count} that wait", lambda: waiters(file) == count)

    def assert_taken(self, locker, kind, *place, **options):
        self.assertEqual(locker.take(kind, *place, **options), 0)

    def assert_refused(self, locker, kind, *place, **options):
        self.assertEqual(locker.take(kind, *place, **options), errno.EAGAIN)
