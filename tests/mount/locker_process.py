# SPDX-License-Identifier: Apache-2.0
"""A process that locks files as it is told: a line of JSON asks for a call, and a line answers with what it gave or its
errno. It needs nothing but Python, so that many start quickly. lockers.py is the other end."""
import errno
import fcntl
import json
import os
import signal
import struct
import sys

RECORD, OPEN_FILE, FLOCK = "record", "open file", "flock"  # fcntl(2) for the process, fcntl(2) for the open file, flock(2)
GET = {RECORD: fcntl.F_GETLK, OPEN_FILE: fcntl.F_OFD_GETLK}
SET = {RECORD: fcntl.F_SETLK, OPEN_FILE: fcntl.F_OFD_SETLK}
SET_WAITING = {RECORD: fcntl.F_SETLKW, OPEN_FILE: fcntl.F_OFD_SETLKW}
RANGE = "hhqqi4x"  # struct flock: kind, whence, start, length, process

EXCLUSIVE, SHARED, NONE = fcntl.F_WRLCK, fcntl.F_RDLCK, fcntl.F_UNLCK
OPERATION = {EXCLUSIVE: fcntl.LOCK_EX, SHARED: fcntl.LOCK_SH, NONE: fcntl.LOCK_UN}


def take(way, waits, fd, kind, whence, start, length):
    if way == FLOCK:
        fcntl.flock(fd, OPERATION[kind] | (0 if waits else fcntl.LOCK_NB))
    else:
        fcntl.fcntl(fd, (SET_WAITING if waits else SET)[way], struct.pack(RANGE, kind, whence, start, length, 0))
    return 0


def conflict(way, fd, kind, start, length):
    kind, _, *place = struct.unpack(RANGE, fcntl.fcntl(fd, GET[way], struct.pack(RANGE, kind, 0, start, length, 0)))
    return None if kind == NONE else [kind, *place]


def in_fork(*call):
    child = os.fork()
    if child == 0:
        os._exit(outcome(*call))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def become_anew(fd):
    """The same process, with the same descriptor, begins another program."""
    os.set_inheritable(fd, True)
    os.execv(sys.executable, [sys.executable, "-IS", __file__])


def close(fd):
    os.close(fd)
    return 0


CALLS = {"take": take, "conflict": conflict, "in_fork": in_fork, "become_anew": become_anew, "close": close,
         "open": lambda name, flags: [os.open(name, flags, 0o600)], "dup": lambda fd: [os.dup(fd)],
         "write": lambda fd, count: [os.write(fd, b"x" * count)]}


def outcome(name, *arguments):
    try:
        return CALLS[name](*arguments)
    except OSError as refused:
        return refused.errno


def interrupted(*_):
    raise InterruptedError(errno.EINTR, "")  # or Python would make the same call again


def serve():
    signal.signal(signal.SIGUSR1, interrupted)
    print(0, flush=True)
    for line in sys.stdin:
        print(json.dumps(outcome(*json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
