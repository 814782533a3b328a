# SPDX-License-Identifier: Apache-2.0
"""The executables under test as objects: nodes, pools of them, and mounted volumes. Every wait here has a bound, and
everything that was started is ended by its own pid."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BIN = os.environ.get("EPHFS_BIN", "build/release/bin")
EPHFS = os.path.join(BIN, "ephfs")


def run(*command, check=True, timeout=300, **options):
    """Runs a command and returns it with its output; a failure shows what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, errors="replace", **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_for(what, condition, seconds=20.0):
    """Waits until the condition holds; the bound is there to fail, not to measure."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as control:
        control.write("3")


class Node:
    def __init__(self, directory, *options):
        self.directory = directory
        self.options = list(options)
        self.process = None
        self.listen = "127.0.0.1:0"

    def start(self, *more):
        address = os.path.join(self.directory, "address")
        if os.path.exists(address):
            os.unlink(address)
        self.log = open(self.directory + ".log", "a")
        self.process = subprocess.Popen(
            [EPHFS, "node", "--dir", self.directory, "--listen", self.listen, *self.options, *more], stderr=self.log)

        def ready():
            if self.process.poll() is not None:
                with open(self.directory + ".log") as log:
                    raise AssertionError(f"node ended: {log.read()}")
            if not os.path.exists(address):
                return None
            with open(address) as written:
                return written.read().strip()
        # A node that starts again is found where it was.
        self.listen = wait_for("node address", ready)
        return self

    def stop(self, how=signal.SIGTERM):
        if self.process is None:
            return
        self.process.send_signal(how)
        self.process.wait(timeout=15)
        self.process = None
        self.log.close()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def shards(self):
        """Names of the shards in its directory."""
        found = []
        for path, _, names in os.walk(os.path.join(self.directory, "shards")):
            found += [os.path.join(path, name) for name in names if name.endswith(".shard")]
        return found


class Pool:
    """Nodes that accept one another: the first makes the pool, the others and the volumes join by its token."""

    def __init__(self, directory, count, uses=8, *options):
        self.nodes = [Node(os.path.join(directory, f"node{i + 1}"), *options) for i in range(count)]
        self.nodes[0].start()
        self.token = run(EPHFS, "invite", "--dir", self.nodes[0].directory, "--uses", str(count + uses)).stdout.strip()
        for node in self.nodes[1:]:
            node.start("--join", self.token)

    def stop(self):
        for node in self.nodes:
            if node.process is not None:
                node.thaw()
            node.stop(signal.SIGKILL)


class Volume:
    def __init__(self, directory, mountpoint, options=""):
        self.directory = directory
        self.mountpoint = mountpoint
        self.options = options
        os.makedirs(mountpoint, exist_ok=True)

    def path(self, *parts):
        return os.path.join(self.mountpoint, *parts)

    def join(self, token):
        run(EPHFS, "join", token, self.directory)
        return self

    def mount(self, options=None):
        options = self.options if options is None else options
        run(EPHFS, "mount", self.directory, self.mountpoint, *(["-o", options] if options else []), timeout=30)
        return self

    def umount(self):
        run(EPHFS, "umount", self.mountpoint, timeout=30)

    def remount_cold(self):
        """The same volume with nothing of it in any cache: the kernel's pages go with the mount, and it has none of its own at
        cache_size=0."""
        self.umount()
        self.mount()

    def is_mounted(self):
        with open("/proc/self/mounts") as mounts:
            return any(line.split()[1] == self.mountpoint for line in mounts)

    def daemon(self):
        with open(os.path.join(self.directory, "volume.lock")) as lock:
            return int(lock.read())

    def kill_daemon(self):
        """Ends the daemon as a crash would. The dead mount stays, and fails whoever uses it."""
        pid = self.daemon()
        os.kill(pid, signal.SIGKILL)

        def ended():
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    return stat.read().rsplit(")", 1)[1].split()[0] in "ZX"
            except OSError:
                return True
        wait_for("daemon's end", ended)

    def detach(self):
        """Takes a dead mount away."""
        subprocess.run(["umount", "-l", self.mountpoint], check=False, stderr=subprocess.DEVNULL)


class EphfsTest(unittest.TestCase):
    """A directory of its own for each test, and an orderly end of what the test started."""

    def setUp(self):
        self.work = tempfile.mkdtemp(prefix="ephfs-test.")
        self.pools, self.volumes = [], []

    def tearDown(self):
        for volume in self.volumes:
            if volume.is_mounted():
                subprocess.run([EPHFS, "umount", volume.mountpoint], check=False, capture_output=True, timeout=30)
            if volume.is_mounted():
                subprocess.run(["umount", "-l", volume.mountpoint], check=False)
        for pool in self.pools:
            pool.stop()
        shutil.rmtree(self.work, ignore_errors=True)

    def pool(self, count, *options):
        pool = Pool(self.work, count, 8, *options)
        self.pools.append(pool)
        return pool

    def volume(self, options="", name="volume", token=None):
        volume = Volume(os.path.join(self.work, name), os.path.join(self.work, name + ".mnt"), options)
        self.volumes.append(volume)
        if token:
            volume.join(token)
        return volume.mount()

    def refused(self, *command, **options):
        """The one line that a command which fails says."""
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

    def content_of(self, directory):
        """Every file below a directory, by its content: what a refusal leaves as it was. A volume's lock says who came last."""
        found = {}
        for path, _, names in os.walk(directory):
            for name in names:
                if name not in ("volume.lock", "control.sock"):
                    with open(os.path.join(path, name), "rb") as source:
                        found[os.path.join(path, name)] = source.read()
        return found

    def assert_same_content(self, directory, before):
        """Every file that was in `before` is as it was."""
        now = self.content_of(directory)
        self.assertEqual([path for path in before if now.get(path) != before[path]], [])

    def assert_same_tree(self, one, other):
        """rsync's own comparison, by content: nothing of the two trees may differ, links, times and xattrs included."""
        done = run("rsync", "-aHAXn", "--checksum", "--delete", "--itemize-changes", one + "/", other + "/")
        self.assertEqual(done.stdout, "", "the trees differ")


if __name__ == "__main__":
    sys.exit("this module only helps the tests beside it")
