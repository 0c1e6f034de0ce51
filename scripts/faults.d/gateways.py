"""Starts a gateway, or one of its peers, has it reload or be replaced by a new process, and measures what it uses.

Used by scripts/faults and the measurements beside this file; the configurations are in configs.
"""

import contextlib
import ctypes
import os
import pathlib
import resource
import signal
import socket
import subprocess
import tempfile
import time

from configs import PEERS, ROOT

DEADLINE = 10.0  # seconds; for a process to listen, and to end
MAXCONN = 10_200  # of HAProxy, which reserves memory for as many


class Gateway:
    """A running gateway: its ports, and what its processes use."""

    def __init__(self, name, upstream, dead=None, descriptors=None, **deadlines):
        self.name = name
        self.folder = tempfile.TemporaryDirectory(prefix="faults-")
        os.chmod(self.folder.name, 0o755)  # nginx's worker is another user
        self.path = pathlib.Path(self.folder.name) / "config"
        self.descriptors_limit = descriptors
        self.ports = {key: free_port() for key in ("h1", "h2", "tls", "tcp", "admin")}
        certs = [(ROOT / "certs" / f"localhost.{kind}").read_text() for kind in ("pem", "key")]
        (pathlib.Path(self.folder.name) / "both.pem").write_text("".join(certs))
        words = {"folder": self.folder.name, "upstream": upstream, "dead": dead or upstream,
                 "descriptors": descriptors or 60_000, "maxconn": descriptors or MAXCONN,
                 "connect": 2, "answer": 60, "drain": 30, **deadlines, **self.ports}
        self.path.write_text(PEERS[name][0].format(**words))
        self.pid = self.start_nginx() if name == "nginx" else self.start().pid
        wait_for_port(self.ports["h2"], self.pid)

    def start(self, *more):
        def limit():
            # HAProxy counts descriptors against maxconn instead.
            if self.descriptors_limit and self.name != "haproxy":
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors_limit, self.descriptors_limit))

        command = [word.format(config=self.path) for word in PEERS[self.name][1]]
        return subprocess.Popen([*command, *more], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, preexec_fn=limit)

    def reload(self):
        """Takes another configuration. HAProxy does that by another process, as in an upgrade."""
        text = self.path.read_text()
        self.path.write_text(text.replace("max_connections = 24000", "max_connections = 23999"))
        if self.name == "haproxy":
            return self.replace()
        os.kill(self.pid, signal.SIGHUP)
        return self.pid

    def replace(self):
        """Has a new process take over; returns the old one, which ends when its connections have."""
        old = self.pid
        if self.name == "nginx":
            self.pid = self.replace_nginx(old)
        elif self.name == "haproxy":
            self.pid = self.start("-x", f"{self.folder.name}/haproxy.sock", "-sf", str(old)).pid
        else:
            self.pid = self.start("--take-over", f"{self.folder.name}/control.sock").pid
        return old

    def replace_nginx(self, old):
        """nginx starts its successor itself, and is told when to go."""
        os.kill(old, signal.SIGUSR2)
        new = self.nginx_pid(old)
        os.kill(old, signal.SIGWINCH)
        os.kill(old, signal.SIGQUIT)
        return new

    def start_nginx(self):
        adopt_orphans()
        self.start().wait(DEADLINE)
        return self.nginx_pid()

    def nginx_pid(self, old=None):
        """Its process, once that has a worker."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            with contextlib.suppress(OSError, ValueError):
                pid = int((pathlib.Path(self.folder.name) / "nginx.pid").read_text())
                if pid != old and children(pid):
                    return pid
            time.sleep(0.01)
        raise SystemExit("nginx does not start")

    def pids(self):
        """The process and its children."""
        return [self.pid, *children(self.pid)]

    def cpu(self):
        """Seconds of CPU used so far, by every task."""
        total = 0
        for pid in self.pids():
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self):
        """Bytes that are in memory for it alone."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Private_"))
        return total * 1024

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        if not has_ended(self.pid):
            os.kill(self.pid, signal.SIGKILL)
            has_ended(self.pid)
        self.folder.cleanup()


def adopt_orphans():
    """Makes processes ours whose parent has ended, so that their end can be waited for."""
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def has_ended(pid, seconds=DEADLINE):
    """Waits for the end of a process of ours."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return True
        except ChildProcessError:
            return True
        time.sleep(0.002)
    return False


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, pid=None):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if pid and has_ended(pid, 0.02):
            break
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")
