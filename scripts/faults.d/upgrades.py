"""A new process that takes over under load, and what becomes of streams in a reload and in such an upgrade.

Used by scripts/faults. Of an upgrade are measured the requests that were lost, the connections that were refused, and how long a
client was without an answer; of streams, how long they live on.
"""

import contextlib
import multiprocessing
import time

from clients import GET, answer_on, connect, read_to
from gateways import Gateway, has_ended
from upstream import Upstream

UPGRADES = 5
CLIENTS = 2  # with a new connection for each request, and as many that keep theirs
PAUSE = 0.001  # seconds, between two requests of a client
DRAIN = 3  # seconds, of an old process
STREAMS = 10  # through the TCP proxy, and as many that were switched from HTTP
BEAT = 0.02  # seconds, between two bytes on a stream
LAST = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def upgrade(name):
    """Over some upgrades: requests, those without a whole answer, connections refused; a client's longest wait for an answer."""
    with Upstream() as upstream, Gateway(name, upstream.port, drain=DRAIN) as gateway:
        clients = [Client(gateway.ports["h1"], kept) for kept in [False, True] * CLIENTS]
        time.sleep(0.5)
        for _ in range(UPGRADES):
            old = gateway.replace()
            if not has_ended(old):
                raise SystemExit(f"{name}: the old process stays")
            time.sleep(0.3)
        for client in clients:
            client.stop()
        sums = [sum(client.counts[n] for client in clients) for n in range(4)]
        gap = max(client.gap.value for client in clients)
    return {"requests": sums[ANSWERED], "lost": sums[LOST], "lost on kept connections": sums[KEPT_LOST],
            "refused": sums[REFUSED], "longest gap ms": gap * 1000}


ANSWERED, LOST, KEPT_LOST, REFUSED = range(4)


class Client:
    """Asks on and on, in a process of its own."""

    def __init__(self, port, kept):
        self.done, self.gap = multiprocessing.Event(), multiprocessing.Value("d", 0.0)
        self.counts = multiprocessing.Array("i", 4)
        self.process = multiprocessing.Process(target=self.run, args=(port, kept), daemon=True)
        self.process.start()

    def stop(self):
        self.done.set()
        self.process.join()

    def run(self, port, kept):
        answered = time.monotonic()
        client, asked_before = None, False
        while not self.done.is_set():
            try:
                if client and is_closed(client):
                    client, asked_before = client.close(), False
                client = client or connect(port)
                answer = answer_on(client, GET if kept else LAST)
            except ConnectionRefusedError:
                self.counts[REFUSED] += 1
            except OSError:
                # RFC 9110, section 9.2.2: a browser asks again where a kept connection ends under its request.
                self.counts[KEPT_LOST if asked_before else LOST] += 1
                client, asked_before = None, False
            else:
                self.counts[ANSWERED] += 1
                self.gap.value = max(self.gap.value, time.monotonic() - answered)
                answered = time.monotonic()
                asked_before = kept and b"connection: close" not in answer.lower()
                client = client if asked_before else client.close()
            time.sleep(PAUSE)


def is_closed(client):
    """Whether a kept connection has ended while nothing was asked on it, which costs a client nothing but another."""
    client.settimeout(0)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def streams(name):
    """How many seconds after a reload, and after an upgrade, streams are cut."""
    result = {}
    for event in ["reload", "replace"]:
        with Upstream() as upstream, Gateway(name, upstream.port, drain=DRAIN) as gateway, contextlib.ExitStack() as stack:
            kinds = {"TCP": gateway.ports["tcp"], "switched": gateway.ports["h1"]}
            alive = [(kind, stack.enter_context(stream(port))) for kind, port in kinds.items() for _ in range(STREAMS)]
            old = getattr(gateway, event)()
            cuts = beat(alive, DRAIN + 1.5)
            for kind in kinds:
                result[f"{event}: {kind}"] = told(cuts[kind])
            if old != gateway.pid:
                has_ended(old)
    return result


def stream(port):
    """A stream whose other end is an echo."""
    client = connect(port)
    client.sendall(b"GET /switch HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    try:
        head = read_to(client, b"\r\n\r\n")
    except ConnectionError:
        raise SystemExit("there is no stream") from None
    if not head.startswith(b"HTTP/1.1 101"):
        raise SystemExit(f"there is no stream: {head!r}")
    return client


def beat(alive, seconds):
    """Sends and gets a byte on each stream again and again; when each was cut, by kind, and None for those that live."""
    since, cuts = time.monotonic(), {kind: [] for kind, _ in alive}
    while alive and time.monotonic() - since < seconds:
        for one in list(alive):
            kind, client = one
            try:
                client.sendall(b"x")
                cut = client.recv(1) != b"x"
            except OSError:
                cut = True
            if cut:
                cuts[kind].append(time.monotonic() - since)
                alive.remove(one)
        time.sleep(BEAT)
    for kind, _ in alive:
        cuts[kind].append(None)
    return cuts


def told(cuts):
    ended = [cut for cut in cuts if cut is not None]
    if not ended:
        return f"{len(cuts)} live on"
    return f"{len(ended)} of {len(cuts)} cut after {min(ended):.2f} to {max(ended):.2f} s"
