# SPDX-License-Identifier: Apache-2.0
"""Deadlines as tests see them, and the verdict on one way to reach a file over its deadline."""
import os
import time
from datetime import datetime

EARLY = 0.020  # the most a file may be refused before its deadline


def expires(path, prefix="user.ephfs."):
    """The deadline of the file itself, links not followed, as its attribute says it."""
    return os.getxattr(path, prefix + "expires", follow_symlinks=False).decode()


def seconds_of(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def deadline_of(path):
    return seconds_of(expires(path))


def set_deadline(path, moment):
    os.setxattr(path, "user.ephfs.expires", b"@%d" % round(moment * 1000))


def sleep_until(moment):
    while (left := moment - time.time()) > 0:
        time.sleep(left)


class Watcher:
    """Asks again and again until the deadline has passed, and keeps when the last answer began and the first refusal
    ended: whatever the machine's load, the first is before the deadline and the second is not more than EARLY before."""

    def __init__(self, ask, *refusals):
        self.ask, self.refusals = ask, refusals
        self.last_answer = self.first_refusal = None

    def look(self):
        began = time.time()
        try:
            self.ask()
        except OSError as refused:
            if refused.errno not in self.refusals:
                raise
            if self.first_refusal is None:
                self.first_refusal = time.time()
            return
        self.last_answer = began
        if self.first_refusal is not None:
            raise AssertionError("it came back to life")

    def judge(self, test, deadline):
        test.assertLess(self.last_answer, deadline)
        test.assertGreaterEqual(self.first_refusal, deadline - EARLY)


def look_over(deadline, watchers, before=0.1, after=0.1):
    """Asks at once, so that on a machine that comes late to the deadline there was an answer; then over the deadline."""
    for watcher in watchers:
        watcher.look()
    sleep_until(deadline - before)
    while time.time() < deadline + after:
        for watcher in watchers:
            watcher.look()
