"""Starts a gateway, or one of its peers, before an upstream of our own, and measures what it uses.

Used by scripts/faults and the measurements beside this file.
"""

import asyncio
import contextlib
import multiprocessing
import os
import pathlib
import resource
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
DEADLINE = 10.0  # seconds; for a process to listen, and to end

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null crit;
events {{ worker_connections 24000; }}
worker_rlimit_nofile 60000;
http {{
    access_log off; keepalive_requests 100000000;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream app {{ server 127.0.0.1:{upstream}; keepalive 64; }}
    server {{ listen 127.0.0.1:{h1}; location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
    server {{ listen 127.0.0.1:{tls} ssl; ssl_certificate {folder}/both.pem; ssl_certificate_key {folder}/both.pem;
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
    server {{ listen 127.0.0.1:{h2} http2; location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn {maxconn}
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout http-request 60s
    http-reuse always
frontend web
    bind 127.0.0.1:{h1}
    bind 127.0.0.1:{h2} proto h2
    bind 127.0.0.1:{tls} ssl crt {folder}/both.pem
    default_backend app
backend app
    server upstream 127.0.0.1:{upstream}
"""

OURS = """
[gateway]
workers = 1
max_connections = 24000
[log]
access = false
[admin]
listen = "127.0.0.1:{admin}"
[endpoints.web]
listen = ["127.0.0.1:{h1}", "127.0.0.1:{h2}"]
class = "internal"
handler = "site"
max_connections = 24000
[endpoints.tls]
listen = "127.0.0.1:{tls}"
class = "internal"
handler = "site"
max_connections = 24000
[endpoints.tls.tls]
certificates = [{{ chain = "{folder}/both.pem", key = "{folder}/both.pem" }}]
[handlers.site]
type = "http-proxy"
upstream = "app"
[upstreams.app]
servers = ["127.0.0.1:{upstream}"]
"""

PEERS = {
    "nginx": (NGINX, ["nginx", "-e", "stderr", "-c", "{config}"]),
    "haproxy": (HAPROXY, ["haproxy", "-db", "-f", "{config}"]),
    "portcullis": (OURS, [str(TARGET / "portcullis"), "run", "--config", "{config}"]),
}


class Gateway:
    """A running gateway: its ports, and what its processes use."""

    def __init__(self, name, upstream, descriptors=None):
        self.name = name
        self.folder = tempfile.TemporaryDirectory(prefix="faults-")
        os.chmod(self.folder.name, 0o755)  # nginx's worker is another user
        self.ports = {key: free_port() for key in ("h1", "h2", "tls", "admin")}
        certs = [(ROOT / "certs" / f"localhost.{kind}").read_text() for kind in ("pem", "key")]
        (pathlib.Path(self.folder.name) / "both.pem").write_text("".join(certs))
        text, command = PEERS[name]
        # HAProxy counts descriptors against maxconn before it starts.
        text = text.format(folder=self.folder.name, upstream=upstream, maxconn=descriptors or 9000, **self.ports)
        path = pathlib.Path(self.folder.name) / "config"
        path.write_text(text)

        def limit():
            if descriptors and name != "haproxy":
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        if descriptors and name == "nginx":
            path.write_text(text.replace("worker_rlimit_nofile 60000;", f"worker_rlimit_nofile {descriptors};"))
        command = [word.format(config=path) for word in command]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=limit)
        wait_for_port(self.ports["h2"], self.process)

    def pids(self):
        """The process and its children."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return [self.process.pid, *map(int, file.read().split())]

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
        self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


class Upstream:
    """A server in a process of its own. `/later` is answered after a second; `/work` never is, and how many of those are open
    at a time is counted."""

    def __init__(self, port=None):
        self.port = port or free_port()
        self.most = multiprocessing.Value("i", 0)
        self.process = multiprocessing.Process(target=serve, args=(self.port, self.most), daemon=True)
        self.process.start()
        wait_for_port(self.port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        self.process.join(DEADLINE)


def serve(port, most):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    open_now = 0

    async def client(reader, writer):
        nonlocal open_now
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b" /work" in head.split(b"\r\n", 1)[0]:
                    open_now += 1
                    most.value = max(most.value, open_now)
                    try:
                        await reader.read()  # until the gateway gives up
                    finally:
                        open_now -= 1
                    break
                if b" /later" in head.split(b"\r\n", 1)[0]:
                    await asyncio.sleep(1)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()

    async def run():
        server = await asyncio.start_server(client, "127.0.0.1", port, backlog=4096)
        await server.serve_forever()

    asyncio.run(run())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process=None):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if process and process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")
