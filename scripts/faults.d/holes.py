"""Upstreams that are killed amid an answer, or take what they get and say nothing.

Used by scripts/faults. Measured are what a client is told and when, and how slow the others become meanwhile.
"""

import contextlib
import select
import socket
import struct
import time

from clients import Bystander, connect
from floods import DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST, SETTINGS, frame, head
from gateways import Gateway
from upstream import HALF, Upstream

ROUNDS = 5
QUIET = 0.3  # seconds without a byte: the half answer is here
DEADLINE = 1  # seconds; to connect to an upstream, and to wait for its answer
ASKING = 50  # clients at a time of an upstream that is a hole


def killed(name):
    """What a client gets of an answer whose upstream is killed: cut or whole; and at most how many milliseconds after."""
    result = {}
    for what, read in READERS.items():
        outcomes, longest = set(), 0.0
        for _ in range(ROUNDS):
            outcome, seconds = one_killed(name, what, read)
            outcomes.add(outcome)
            longest = max(longest, seconds)
        result[what] = f"{' or '.join(sorted(outcomes))} after {longest * 1000:.1f} ms"
    return result


def one_killed(name, what, read):
    with Upstream() as upstream, Gateway(name, upstream.port) as gateway:
        port = gateway.ports["h2" if what.startswith("HTTP/2") else "h1"]
        with connect(port) as client:
            reading = read(client)
            next(reading)
            since = time.monotonic()
            upstream.kill()
            return next(reading), time.monotonic() - since


def read_length(client):
    yield from read_http1(client, b"/half", lambda answer: len(answer.split(b"\r\n\r\n", 1)[1]) == 2 * HALF)


def read_chunked(client):
    yield from read_http1(client, b"/half-chunked", lambda answer: answer.endswith(b"0\r\n\r\n"))


def read_http1(client, path, is_whole):
    """Asks and reads the half; then, once more, to the end: whether that looks whole."""
    client.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = read_until_quiet(client, QUIET)
    yield answer
    rest = read_until_quiet(client, 10, to_the_end=True)
    yield "open" if rest is None else "whole" if is_whole(answer + rest) else "cut"


def read_http2_length(client):
    yield from read_http2(client, b"/half", 2 * HALF)


def read_http2_without(client):
    yield from read_http2(client, b"/half-chunked", None)


def read_http2(client, path, length):
    """The same of HTTP/2, where END_STREAM says that it is whole. With a length, a client that counts knows better."""
    client.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0)
                   + frame(HEADERS, END_HEADERS | END_STREAM, 1, head(path=path)))
    answer = read_until_quiet(client, QUIET)
    yield answer
    end = time.monotonic() + 10
    client.settimeout(10)
    outcome = http2_outcome(answer, length)
    while not outcome and time.monotonic() < end:
        piece = b""
        with contextlib.suppress(OSError):
            piece = client.recv(65536)
        answer += piece
        outcome = http2_outcome(answer, length) if piece else "cut"
    yield outcome or "open"


def http2_outcome(octets, expected):
    """What the frames so far say of stream 1."""
    body = 0
    while len(octets) >= 9:
        length, kind, flags = struct.unpack(">I", b"\0" + octets[:3])[0], octets[3], octets[4]
        if len(octets) < 9 + length:
            return None
        body += length if kind == DATA else 0
        if kind in (RST, GOAWAY):
            return "cut"
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            return "ended short" if expected and body < expected else "whole"
        octets = octets[9 + length:]
    return None


READERS = {"length": read_length, "chunked": read_chunked, "HTTP/2": read_http2_length, "HTTP/2 without length": read_http2_without}


def read_until_quiet(client, seconds, to_the_end=False):
    """What comes until nothing does for so long, or until the end. None where an end is asked for that does not come."""
    client.settimeout(seconds)
    got = b""
    try:
        while piece := client.recv(65536):
            got += piece
    except TimeoutError:
        return None if to_the_end else got
    except OSError:
        pass
    return got


def black_hole(name):
    """What clients of an upstream that never answers are told, and when; and of one that drops every SYN. How slow others are."""
    result = {}
    for what, hole in {"accepts": silent, "drops SYNs": full}.items():
        with hole() as port, Upstream() as upstream:
            with Gateway(name, upstream.port, dead=port, connect=DEADLINE, answer=DEADLINE) as gateway:
                bystander = Bystander(gateway.ports["h1"])
                statuses, longest = ask_all(gateway.ports["h1"])
                result[what] = f"{statuses} after {longest:.2f} s, others {bystander.stop():.0f} ms"
    return result


@contextlib.contextmanager
def silent():
    """The kernel accepts for it, as long as its queue has room."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def full():
    """Its queue is full, so the kernel drops what else comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(10):
            try:
                stack.enter_context(socket.create_connection(server.getsockname(), 0.2))
            except TimeoutError:
                yield server.getsockname()[1]
                return
        raise SystemExit("the queue does not fill")


def ask_all(port):
    """Many clients at once: the statuses, and the seconds until the last was told."""
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(connect(port)) for _ in range(ASKING)]
        since, statuses = time.monotonic(), set()
        for client in waiting:
            client.sendall(b"GET /dead HTTP/1.1\r\nHost: a\r\n\r\n")
        while waiting and time.monotonic() - since < 20:
            for client in select.select(waiting, [], [], 1)[0]:
                answer = client.recv(65536)
                statuses.add(answer.split(b" ", 2)[1].decode() if answer else "closed")
                waiting.remove(client)
        if waiting:
            statuses.add("none")
        return "/".join(sorted(statuses)), time.monotonic() - since
