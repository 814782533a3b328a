# SPDX-License-Identifier: Apache-2.0
"""How every command fails, and what it says of itself."""
import os
import re
import shlex
import unittest

from ephfs_processes import BIN, EPHFS, EphfsTest, run

COMMANDS = ("mount", "umount", "node", "invite", "join", "peers", "ttl", "ls", "share", "fetch", "status", "profile",
            "doctor", "top", "proof", "audit", "verify", "version")


class Help(unittest.TestCase):
    def help(self, *command):
        done = run(*command)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def test_of_all(self):
        text = self.help(EPHFS, "help")
        self.assertEqual(self.help(EPHFS, "--help"), text)
        self.assertEqual(self.help(EPHFS, "-h"), text)
        self.assertEqual(tuple(re.findall(r"^  (\w+)", text, re.M)), COMMANDS)

    def test_of_each(self):
        for command in COMMANDS:
            text = self.help(EPHFS, command, "--help")
            self.assertEqual(self.help(EPHFS, command, "-h"), text, command)
            usage, about, *options = text.splitlines()
            self.assertTrue(usage.startswith(f"usage: ephfs {command}"), usage)
            self.assertRegex(about, "^[a-z].*[^.]$")
            if command == "mount":
                options = options[:options.index("options of -o, with their defaults:")]
            # Each option of the usage line has a line, with what it is.
            described = {line.split()[0] for line in options}
            self.assertLessEqual(set(re.findall(r"(?<=[ \[(|])--?[a-z-]+", usage)) - {"--"}, described, command)
            for line in options:
                self.assertRegex(line, r"^  --?[a-zA-Z-]+( [A-Z][A-Z:,.]*)?  +\S", command)
            done = run(EPHFS, command, "--nonsense", check=False)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        self.assertIn("-h", run(EPHFS, "ttl", "--help").stdout)
        self.assertNotEqual(run(EPHFS, "ttl", "-h", "/nowhere", check=False).returncode, 0, "there -h is its own")

    def mount_options(self, *command):
        """By name: whether it may stand in a configuration file."""
        listed = self.help(*command).split("options of -o, with their defaults:\n")[1]
        rows = re.findall(r"^  ([a-z_]+)(?:=\S+)?  +(.*)$", listed, re.M)
        return {name: "(not in a configuration file)" not in about for name, about in rows}

    def test_mount_options_are_those_of_the_documentation(self):
        options = self.mount_options(EPHFS, "mount", "--help")
        self.assertEqual(options, self.mount_options(os.path.join(BIN, "mount.ephfs"), "--help"))
        self.assertEqual(options, self.mount_options(os.path.join(BIN, "mount.ephfs"), "-h"))
        with open(os.path.join(os.path.dirname(__file__), "..", "..", "README.md")) as text:
            section = text.read().split("## Options")[1].split("\n\n")[1]
        rows = [line.replace("\\|", "/").split("|") for line in section.splitlines() if line.startswith("| `")]
        self.assertEqual({name for row in rows for name in re.findall(r"`([a-z_]+)", row[1])}, set(options))
        in_yaml = next(row[3] for row in rows if "config" in row[1])
        self.assertEqual(set(re.findall(r"`([a-z_]+)`", in_yaml)), {name for name, may in options.items() if not may})


class Failures(EphfsTest):
    def refused(self, *command, **options):
        done = run(EPHFS, *command, check=False, **options)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertNotIn("invalid argument", done.stderr)
        return done.stderr.strip().removeprefix("ephfs: ")

    def test_what_is_expected_is_said(self):
        node = ("node", "--dir", os.path.join(self.work, "n"), "--listen", "127.0.0.1:0")
        for command, expected in (((*node, "--capacity", "abc"), "option --capacity abc: expected a size like 10G"),
                                  (("invite", "v", "--ttl", "0"), "option --ttl 0: expected a span like 90s"),
                                  (("invite", "v", "--uses", "0"), "option --uses 0: expected 1 to 4096"),
                                  (("share", "f", "--ttl", "0"), "option --ttl 0: expected a span like 90s"),
                                  (("ls", "--expiring", "bad"), "option --expiring bad: expected a span like 90s"),
                                  (("top", "--count", "abc"), "option --count abc: expected a number, 1 or more"),
                                  (("top", "--interval", "abc"), "option --interval abc: expected 100ms to 1h"),
                                  (("profile", "--seconds", "x"), "option --seconds x: expected 1 to 3600"),
                                  (("verify", "x", "--owner", "x"), "option --owner x: expected 64 hexadecimal digits"),
                                  (("mount", "only"), "usage: ephfs mount VOLUME MOUNTPOINT"),
                                  (("umount",), "usage: ephfs umount MOUNTPOINT"),
                                  (("ttl", "--nonsense"), "unknown option --nonsense"),
                                  (("verify", "/etc"), "/etc is no regular file"),
                                  (("verify",), "usage: ephfs verify PROOF")):
            self.assertTrue(self.refused(*command).startswith(expected), self.refused(*command))

    def test_what_a_daemon_says(self):
        volume = self.volume("ttl=1d")
        path = volume.mountpoint
        self.assertEqual(self.refused("proof", path), f"{path}: only regular files have proofs")
        self.assertEqual(self.refused("verify", path), f"{path} is no regular file")
        open(volume.path("f"), "w").close()
        self.assertTrue(self.refused("share", volume.path("f")).startswith("nobody could fetch it: no node"))
        self.assertNotIn("input/output", self.refused("share", volume.path("f")))
        self.assertIn("remembered among the dead", self.refused("proof", "0" * 32, volume.directory))

    def test_who_may_not_ask_the_daemon_is_told(self):
        volume = self.volume("ttl=1d,allow_other")
        os.chmod(self.work, 0o755)
        os.chmod(volume.mountpoint, 0o755)
        open(volume.path("f"), "w").close()
        nobody = {"user": 65534, "group": 65534, "extra_groups": []}
        self.assertEqual(self.refused("share", volume.path("f"), **nobody),
                         f"only who mounted {volume.mountpoint} may share what is in it: access denied")
        for command in (("status", volume.mountpoint), ("proof", volume.path("f")), ("verify", volume.path("f")),
                        ("audit", volume.mountpoint), ("top", "--count", "1", volume.mountpoint)):
            self.assertEqual(self.refused(*command, **nobody).removeprefix(volume.path("f") + ": "),
                             f"only who runs it may ask the daemon of {volume.directory}: access denied", command)

    def test_what_cannot_be_printed_is_a_failure(self):
        volume = self.volume("ttl=1d")
        for i in range(200):
            open(volume.path(f"{i:0200}"), "w").close()
        open(volume.path("f"), "w").close()
        for command in (("status", volume.mountpoint), ("ls", volume.mountpoint), ("ttl", volume.path("f")),
                        ("proof", volume.path("f")), ("help",), ("ttl", "--help"), ("version",)):
            line = " ".join(map(shlex.quote, (EPHFS, *command)))
            done = run("sh", "-c", f"exec {line} > /dev/full", check=False)
            self.assertEqual(done.returncode, 1, command)
            self.assertIn("writing to standard output", done.stderr, command)

    def test_a_mountpoint_is_invited_to(self):
        volume = self.volume("ttl=1d,listen=127.0.0.1:0")
        self.assertTrue(run(EPHFS, "invite", volume.mountpoint).stdout.startswith("eph-invite-"))


if __name__ == "__main__":
    unittest.main()
