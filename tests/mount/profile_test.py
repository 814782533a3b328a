# SPDX-License-Identifier: Apache-2.0
"""What a daemon measures of itself: ephfs profile, and /metrics for Prometheus."""
import json
import os
import re
import signal
import socket
import subprocess
import unittest

from ephfs_processes import EPHFS, EphfsTest, run, wait_for


class Profile(EphfsTest):
    def get(self, volume, target):
        """GET on the volume's control socket: the body."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(os.path.join(volume.directory, "control.sock"))
            control.sendall(f"GET {target} HTTP/1.1\r\nHost: ephfs\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while part := control.recv(65536):
                answer += part
        head, body = answer.decode().split("\r\n\r\n", 1)
        return int(head.split()[1]), body

    def test_operations_and_stages_are_counted(self):
        volume = self.volume()
        asked = subprocess.Popen([EPHFS, "profile", volume.directory, "--seconds", "60", "--json"],
                                 stdout=subprocess.PIPE, text=True)
        wait_for("profiling", lambda: json.loads(self.get(volume, "/profile")[1])["running"])
        for number in range(20):
            with open(volume.path(f"file{number}"), "wb") as out:
                out.write(b"x" * 5000)
        asked.send_signal(signal.SIGINT)
        profile = json.loads(asked.communicate(timeout=10)[0])
        operations = {row["name"]: row for row in profile["operations"]}
        stages = {row["name"]: row for row in profile["stages"]}
        self.assertEqual(operations["create"]["count"], 20)
        self.assertGreaterEqual(operations["flush"]["count"], 20)
        self.assertEqual(stages["encrypt"]["bytes"], 20 * 5000)
        for row in profile["operations"]:
            self.assertLessEqual(row["p50_us"], row["p99_us"])
            self.assertLessEqual(row["p99_us"], row["max_us"])
            self.assertEqual(sum(count for _, count in row["histogram"]), row["count"])
        # It is off again, and costs nothing.
        self.assertFalse(json.loads(self.get(volume, "/profile")[1])["running"])

    def test_it_stops_by_itself(self):
        volume = self.volume()
        self.assertEqual(self.get(volume, "/profile?start=1")[0], 200)
        wait_for("the end", lambda: not json.loads(self.get(volume, "/profile")[1])["running"])

    def test_metrics_are_what_prometheus_reads(self):
        volume = self.volume()
        self.get(volume, "/profile?start=60")
        with open(volume.path("file"), "wb") as out:
            out.write(b"x" * 100)
        status, body = self.get(volume, "/metrics")
        self.assertEqual(status, 200)
        line = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z]+="[^"]*",?)*\})? [-+0-9.einf]+')
        names = []
        for text in body.splitlines():
            if not text.startswith("#"):
                self.assertRegex(text, line)
                self.assertIsNotNone(line.fullmatch(text), text)
                names.append(text.split("{")[0].split(" ")[0])
        self.assertIn("ephfs_operation_seconds_bucket", names)
        # The lines of one metric stand together.
        runs = [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]
        families = [re.sub("_(bucket|sum|count)$", "", name) for name in runs if name.endswith(("_seconds_bucket", "_bytes"))]
        self.assertEqual(len([one for one in families if one.endswith("_bytes")]),
                         len({one for one in families if one.endswith("_bytes")}))

    def test_wrong_questions(self):
        volume = self.volume()
        self.assertEqual(self.get(volume, "/profile?start=0")[0], 400)
        self.assertEqual(self.get(volume, "/profile?start=99999999999")[0], 400)
        done = run(EPHFS, "profile", volume.directory, "--seconds", "never", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--seconds never", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
