# SPDX-License-Identifier: Apache-2.0
"""Where a volume can be mounted, and mounting it as mount(8) does."""
import errno
import fcntl
import os
import subprocess
import unittest

from ephfs_processes import BIN, EPHFS, EphfsTest, Volume, run


class Mountpoints(EphfsTest):
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
        inside = os.open(volume.mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        try:
            volume.kill_daemon()
            with open(os.path.join(volume.directory, "volume.lock")) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # had once the last thread of the daemon has ended
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
        finally:
            os.close(inside)
        volume.mount()
        self.assertIn("ok   mount", run(EPHFS, "doctor", volume.directory).stdout)
        with open(volume.path("f")) as source:
            self.assertEqual(source.read(), "written")


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

    def test_options_of_mount(self):
        helper = os.path.join(BIN, "mount.ephfs")
        volume = Volume(os.path.join(self.work, "volume"), os.path.join(self.work, "mnt"))
        self.volumes.append(volume)
        for option, answer in (("nonsense", "nonsense"), ("remount,rw", "umount"), ("suid", "nosuid"), ("dev", "nodev")):
            self.assertIn(answer, self.refused(helper, volume.directory, volume.mountpoint, "-o", option))
        self.assertFalse(os.path.exists(volume.directory))
        self.assertIn("ttl=soon", self.refused(helper, "-s", volume.directory, volume.mountpoint, "-o", "ttl=soon"))
        run(helper, "-s", volume.directory, volume.mountpoint, "-o", "nonsense,ttl=1d")
        self.assertTrue(volume.is_mounted())

    def test_mounted_already(self):
        """The same volume on the same mountpoint is what was asked for; anything else there is not."""
        helper = os.path.join(BIN, "mount.ephfs")
        volume = self.volume()
        run(helper, volume.directory, volume.mountpoint)
        self.assertIn(volume.mountpoint, self.refused(EPHFS, "mount", volume.directory, volume.mountpoint))
        self.assertIn(volume.mountpoint, self.refused(helper, os.path.join(self.work, "other"), volume.mountpoint))
        volume.kill_daemon()
        with open(os.path.join(volume.directory, "volume.lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
        self.assertIn("has died", self.refused(helper, volume.directory, volume.mountpoint))

    def test_fstab_through_mount(self):
        """mount -a, twice, with a name and with a directory as the source. mount(8) finds its helper in /sbin: it gets one there
        in a mount namespace that ends with this test."""
        places = [place for place in ("/sbin/mount.ephfs", "/usr/sbin/mount.ephfs") if os.path.lexists(place)]
        if places:
            self.skipTest(f"{places[0]} is there, and may be another version")
        fstab, real, stand_in = (os.path.join(self.work, name) for name in ("fstab", "real", "stand-in"))
        points = [os.path.join(self.work, name) for name in ("by-name", "by-directory")]
        for name in (real, stand_in, *points):
            os.mkdir(name)
        with open(fstab, "w") as out:
            for source, point in zip(("scratch", os.path.join(self.work, "vol")), points):
                out.write(f"{source} {point} ephfs ttl=1d,_netdev,nofail 0 0\n")
        script = """set -e
            mount --make-rprivate /
            sbin=$(realpath /sbin)
            mount --bind $sbin "$REAL"
            ln -s "$REAL"/* "$STAND_IN"
            ln -s "$HELPER" "$STAND_IN/mount.ephfs"
            mount --bind "$STAND_IN" $sbin
            mount -T "$FSTAB" -a
            echo kept > "$POINT1/f"
            echo kept > "$POINT2/f"
            mount -T "$FSTAB" -a
            grep -c " $WORK/[^ ]* fuse.ephfs " /proc/self/mounts
            cat "$POINT1/f" "$POINT2/f"
            umount "$POINT1"
            umount "$POINT2"
        """
        done = run("unshare", "-m", "sh", "-c", script, env={
            **os.environ, "EPHFS_STATE_DIR": os.path.join(self.work, "state"), "REAL": real, "STAND_IN": stand_in,
            "WORK": self.work,
            "HELPER": os.path.abspath(os.path.join(BIN, "mount.ephfs")), "FSTAB": fstab, "POINT1": points[0],
            "POINT2": points[1]})
        self.assertEqual(done.stdout.split(), ["2", "kept", "kept"], done.stderr)
        self.assertEqual(done.stderr, "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
