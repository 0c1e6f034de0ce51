"""What an HTTP/2 client may not do for long, or to an upstream.

Used by scripts/faults: a header block that never ends, and requests that are reset as fast as they are made, in pieces so
that each is in work when it is.
"""

import socket
import time

from floods import CANCEL, CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST, SETTINGS, WORK, frame, head, literal
from gateways import Gateway
from upstream import Upstream

PATIENCE = 4.5  # seconds


def endless_head(name, piece):
    """Seconds until a client that sends such a piece every 50 ms is cut off; None if it is not."""
    with Upstream() as upstream, Gateway(name, upstream.port) as gateway:
        with connect(gateway.ports["h2"]) as client:
            client.sendall(frame(HEADERS, 0, 1, head()))
            since = time.monotonic()
            while time.monotonic() - since < PATIENCE:
                try:
                    client.sendall(frame(CONTINUATION, 0, 1, piece))
                    client.settimeout(0.05)
                    if not client.recv(65536):
                        return time.monotonic() - since
                except TimeoutError:
                    pass
                except OSError:
                    return time.monotonic() - since
    return None


def endless_heads(name):
    show = lambda seconds: "open" if seconds is None else round(seconds, 2)
    return {"with fields": show(endless_head(name, literal(b"a", b"b"))), "empty": show(endless_head(name, b""))}


def rapid_reset(name):
    """The most requests that the upstream had in work at a time, while one connection resets and asks again."""
    with Upstream() as upstream, Gateway(name, upstream.port) as gateway:
        end, stream = time.monotonic() + 4, 1
        while time.monotonic() < end:
            try:
                with connect(gateway.ports["h2"]) as client:
                    stream, batch = 1, 50
                    while time.monotonic() < end:
                        ask = b"".join(frame(HEADERS, END_HEADERS | END_STREAM, stream + 2 * n, WORK) for n in range(batch))
                        client.sendall(ask)
                        time.sleep(0.01)  # until they are in work
                        client.sendall(b"".join(frame(RST, 0, stream + 2 * n, CANCEL) for n in range(batch)))
                        stream += 2 * batch
            except OSError:
                pass
        return {"in work at most": upstream.most.value}


def connect(port):
    client = socket.create_connection(("127.0.0.1", port), 5)
    client.sendall(PREFACE + frame(SETTINGS, 0, 0))
    return client
