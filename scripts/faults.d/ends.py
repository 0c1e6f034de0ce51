"""What has an end: a gateway that drains, and an upstream that goes away and comes back.

Used by scripts/faults. Measured are how long a gateway lives after its last answer, and how soon it tells its clients that the
upstream is gone, and uses it again.
"""

import contextlib
import os
import signal
import time

from clients import answer_on, connect, status
from gateways import Gateway, has_ended
from upstream import Upstream

IDLE = 200  # connections that are kept, without a request
DRAIN = {"nginx": signal.SIGQUIT, "haproxy": signal.SIGUSR1, "portcullis": signal.SIGTERM}
LATER = b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n"  # answered after a second
ROUNDS = 5


def drain(name):
    """Seconds from the last answer to the end of the process, with idle connections; whether that answer came whole."""
    with Upstream() as upstream, Gateway(name, upstream.port) as gateway, contextlib.ExitStack() as stack:
        for _ in range(IDLE):
            client = stack.enter_context(connect(gateway.ports["h1"]))
            answer_on(client)
        last = stack.enter_context(connect(gateway.ports["h1"]))
        last.sendall(LATER)
        time.sleep(0.3)
        os.kill(gateway.pid, DRAIN[name])
        with contextlib.suppress(OSError):
            answer_on(last, asking=b"")
            answered = time.monotonic()
            last.close()
            ended = has_ended(gateway.pid)
            return {"s after the last": time.monotonic() - answered, "ended": ended}
        return {"the last answer": "lost"}


def upstream_refuses(name):
    """Milliseconds until a client is told that the upstream refuses, and until it is used after it is back: the least of some."""
    told, used = [], []
    upstream = Upstream()
    with Gateway(name, upstream.port) as gateway:
        status(gateway.ports["h1"])
        for _ in range(ROUNDS):
            upstream.stop()
            since = time.monotonic()
            if status(gateway.ports["h1"]) < 500:
                raise SystemExit("the upstream is still there")
            told.append(time.monotonic() - since)
            upstream = Upstream(upstream.port)
            since = time.monotonic()
            while status(gateway.ports["h1"]) != 200 and time.monotonic() - since < 15:
                time.sleep(0.005)
            used.append(time.monotonic() - since)
    upstream.stop()
    return {"ms until told": min(told) * 1000, "ms until used": min(used) * 1000}
