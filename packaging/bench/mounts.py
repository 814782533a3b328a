# SPDX-License-Identifier: Apache-2.0
"""The file systems that are compared. Each keeps its storage on a tmpfs, is brought up by `with`, and leaves nothing
behind. A peer whose programs are not installed is left out."""
import os
import shutil
import subprocess
import time

NAMESPACE = "ephfs-bench"
ADDRESS = "10.98.0.1"


def processor_seconds(process):
    """Of a process, by its number, in user mode and in the kernel."""
    with open(f"/proc/{process}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


class Mount:
    """A directory with a mount in it. `path` is where it can be used."""
    programs = ()

    def __init__(self, directory, binaries):
        self.directory = directory
        self.store = os.path.join(directory, "store")
        self.path = os.path.join(directory, "mnt")
        self.ephfs = os.path.join(binaries, "ephfs")

    @classmethod
    def is_possible(cls):
        return all(shutil.which(program) for program in cls.programs)

    def __enter__(self):
        os.makedirs(self.directory, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "size=6g", "tmpfs", self.directory)
        os.makedirs(self.store, exist_ok=True)
        os.mkdir(self.path)
        try:
            self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.down()
        subprocess.run(["umount", "-l", self.directory], check=False)

    def down(self):
        if os.path.ismount(self.path):
            subprocess.run(["umount", self.path], check=False)


class Embedded(Mount):
    """ephfs on one machine: the embedded node, 1+0."""
    title = "ephfs, one machine"

    def up(self):
        run(self.ephfs, "mount", self.store, self.path)

    def down(self):
        subprocess.run([self.ephfs, "umount", self.path], check=False, capture_output=True)

    def process(self):
        """The daemon's number."""
        with open(os.path.join(self.store, "volume.lock"), encoding="ascii") as lock:
            return int(lock.read())


class SixNodes(Mount):
    """ephfs over six node processes, 4+2, TLS on loopback, as it is mounted unless told otherwise."""
    title = "ephfs, six nodes 4+2"
    options = "profile=4+2"

    def up(self):
        self.nodes = []
        token = None
        for number in range(1, 7):
            node = os.path.join(self.directory, f"node{number}")
            join = ["--join", token] if token else []
            with open(node + ".log", "w", encoding="utf-8") as log:
                self.nodes.append(subprocess.Popen(
                    [self.ephfs, "node", "--dir", node, "--listen", "127.0.0.1:0", *join], stderr=log))
            self.wait_for_file(os.path.join(node, "address"))
            if token is None:
                token = run(self.ephfs, "invite", "--dir", node, "--uses", "6").strip()
        run(self.ephfs, "join", token, self.store)
        run(self.ephfs, "mount", self.store, self.path, "-o", self.options)

    @staticmethod
    def wait_for_file(path):
        end = time.monotonic() + 20
        while not (os.path.exists(path) and os.path.getsize(path) > 0):
            if time.monotonic() > end:
                raise RuntimeError(f"{path} does not come")
            time.sleep(0.02)

    def down(self):
        subprocess.run([self.ephfs, "umount", self.path], check=False, capture_output=True)
        for node in self.nodes:
            node.terminate()
        for node in self.nodes:
            node.wait(timeout=20)


class SixNodesUncached(SixNodes):
    """The same without its cache of ciphertext, so that everything read comes from the nodes."""
    title = "ephfs, six nodes 4+2, no cache"
    options = "profile=4+2,cache_size=0"


class Passthrough(Mount):
    """libfuse's example that only passes on: what a daemon on its API can reach without doing anything."""
    title = "passthrough"
    programs = ("gcc", "pkg-config")
    source = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"

    @classmethod
    def is_possible(cls):
        return super().is_possible() and os.path.exists(cls.source)

    def up(self):
        program = os.path.join(self.directory, "passthrough_ll")
        flags = run("pkg-config", "--cflags", "--libs", "fuse3").split()
        run("gcc", "-O2", "-w", "-D_GNU_SOURCE", "-DFUSE_USE_VERSION=34", self.source, "-o", program, *flags)
        run(program, "-o", f"source={self.store},cache=always,writeback,default_permissions", self.path)


class Gocryptfs(Mount):
    title = "gocryptfs"
    programs = ("gocryptfs",)

    def up(self):
        password = os.path.join(self.directory, "password")
        with open(password, "w", encoding="ascii") as out:
            out.write("bench\n")
        run("gocryptfs", "-init", "-q", "-passfile", password, self.store)
        run("gocryptfs", "-q", "-passfile", password, self.store, self.path)


class Cryfs(Mount):
    title = "cryfs"
    programs = ("cryfs",)

    def up(self):
        environment = {**os.environ, "CRYFS_FRONTEND": "noninteractive", "CRYFS_NO_UPDATE_CHECK": "true"}
        run("cryfs", self.store, self.path, input="bench\n", env=environment)


class Gluster(Mount):
    """A dispersed volume, 4+2, six bricks on one host, in a network namespace of its own."""
    title = "gluster 4+2"
    programs = ("glusterd", "gluster", "ip", "nsenter")

    def inside(self, *command):
        return run("ip", "netns", "exec", NAMESPACE, *command)

    def up(self):
        run("ip", "netns", "add", NAMESPACE)
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("ip", "addr", "add", ADDRESS + "/24", "dev", "lo")
        self.inside("glusterd", "-p", os.path.join(self.directory, "glusterd.pid"))
        time.sleep(3)
        bricks = [f"{ADDRESS}:{self.store}/brick{number}" for number in range(1, 7)]
        self.inside("gluster", "--mode=script", "volume", "create", "bench", "disperse-data", "4", "redundancy", "2",
                    "transport", "tcp", *bricks, "force")
        self.inside("gluster", "--mode=script", "volume", "start", "bench")
        run("nsenter", f"--net=/var/run/netns/{NAMESPACE}", "mount", "-t", "glusterfs", f"{ADDRESS}:/bench", self.path)

    def down(self):
        super().down()
        for step in ("stop", "delete"):
            subprocess.run(["ip", "netns", "exec", NAMESPACE, "gluster", "--mode=script", "volume", step, "bench"] +
                           (["force"] if step == "stop" else []), check=False, capture_output=True)
        pid_file = os.path.join(self.directory, "glusterd.pid")
        if os.path.exists(pid_file):
            with open(pid_file, encoding="ascii") as text:
                os.kill(int(text.read()), 15)
            time.sleep(1)
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False, capture_output=True)
