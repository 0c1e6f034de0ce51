"""What has an end: a gateway that drains, and an upstream that goes away and comes back.

Used by scripts/faults. Measured are how long a gateway lives after its last answer, and how soon it tells its clients that the
upstream is gone, and uses it again.
"""

import contextlib
import signal
import socket
import time

from gateways import Gateway, Upstream
from slow import answer_on

IDLE = 200  # connections that are kept, without a request
DRAIN = {"nginx": signal.SIGQUIT, "haproxy": signal.SIGUSR1, "portcullis": signal.SIGTERM}
LATER = b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n"  # answered after a second
ROUNDS = 5


def drain(name):
    """Seconds from the last answer to the end of the process, with idle connections; whether that answer came whole."""
    with Upstream() as upstream, Gateway(name, upstream.port) as gateway, contextlib.ExitStack() as stack:
        for _ in range(IDLE):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.ports["h1"]), 5))
            answer_on(client)
        last = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.ports["h1"]), 5))
        last.sendall(LATER)
        time.sleep(0.3)
        gateway.process.send_signal(DRAIN[name])
        with contextlib.suppress(OSError):
            answer_on(last, ask=False)
            answered = time.monotonic()
            last.close()
            with contextlib.suppress(Exception):
                gateway.process.wait(10)
            return {"s after the last": time.monotonic() - answered, "ended": gateway.process.returncode is not None}
        return {"the last answer": "lost"}


def upstream_refuses(name):
    """Milliseconds until a client is told that the upstream refuses, and until it is used after it is back: the least of some."""
    told, used = [], []
    upstream = Upstream()
    with Gateway(name, upstream.port) as gateway:
        status(gateway)
        for _ in range(ROUNDS):
            upstream.stop()
            since = time.monotonic()
            if status(gateway) < 500:
                raise SystemExit("the upstream is still there")
            told.append(time.monotonic() - since)
            upstream = Upstream(upstream.port)
            since = time.monotonic()
            while status(gateway) != 200 and time.monotonic() - since < 15:
                time.sleep(0.005)
            used.append(time.monotonic() - since)
    upstream.stop()
    return {"ms until told": min(told) * 1000, "ms until used": min(used) * 1000}


def status(gateway):
    with socket.create_connection(("127.0.0.1", gateway.ports["h1"]), 5) as client:
        client.settimeout(10)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while b"\r\n" not in answer:
            piece = client.recv(4096)
            if not piece:
                return 599
            answer += piece
    return int(answer.split(b" ", 2)[1])
