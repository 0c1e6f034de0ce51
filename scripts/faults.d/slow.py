"""Clients that are slow, come in crowds, or use up all descriptors.

Used by scripts/faults. Measured are memory per slow connection while another client asks, what is left of a crowd that has
gone, and how long a gateway without descriptors takes to serve again.
"""

import contextlib
import resource
import socket
import ssl
import time

from clients import Bystander, answer_on, ask
from configs import ROOT
from gateways import Gateway
from upstream import Upstream

SLOW = 10_000  # of the two processes, each holds one end of every connection
CROWD = 8_000
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "


def raise_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def slow_connections(name):
    """KB per connection that has sent half a head, and a bystander's slowest answer meanwhile."""
    return hold(name, SLOW, socket.create_connection, "h1")


def slow_tls_connections(name):
    """The same over TLS."""
    context = ssl.create_default_context(cafile=ROOT / "certs" / "ca.pem")

    def connect(address, seconds):
        tcp = socket.create_connection(address, seconds)
        return context.wrap_socket(tcp, server_hostname="localhost")

    return hold(name, SLOW, connect, "tls")


def hold(name, count, connect, port):
    raise_limit()
    with Upstream() as upstream, Gateway(name, upstream.port) as gateway:
        ask(gateway.ports["h1"])
        bystander = Bystander(gateway.ports["h1"])
        before, crowd = gateway.memory(), []
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                client = connect(("127.0.0.1", gateway.ports[port]), 10)
                crowd.append(stack.enter_context(client))
                client.sendall(HEAD)
            time.sleep(0.5)
            for client in crowd:
                client.sendall(b"x")  # a byte at a time
            time.sleep(2.5)  # what the handshakes took has gone back
            grown = gateway.memory() - before
            held = sum(map(is_open, crowd))
        return {"KB each": grown / count / 1000, "ms": bystander.stop(), "held": held}


def is_open(client):
    """Whether it waits still, and has not been answered that it is too slow."""
    client.settimeout(0)
    try:
        client.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        pass
    return False


def after_a_crowd(name):
    """MB that a first crowd, all at once, leaves over a hundred connections; MB and descriptors that a second one adds to that."""
    raise_limit()
    with Upstream() as upstream, Gateway(name, upstream.port) as gateway:
        come_and_go(gateway.ports["h1"], 100)
        time.sleep(3)
        memory, descriptors = [gateway.memory()], gateway.descriptors()
        for _ in range(2):
            come_and_go(gateway.ports["h1"], CROWD)
            time.sleep(5)
            memory.append(gateway.memory())
        first, second = (after - before for before, after in zip(memory, memory[1:]))
        return {"MB": first / 1e6, "MB more": second / 1e6, "descriptors": gateway.descriptors() - descriptors}


def come_and_go(port, count):
    crowd = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(count)]
    for client in crowd:
        answer_on(client)
    for client in crowd:
        client.close()


def without_descriptors(name):
    """Seconds until a client is served after the others left, and the share of a core used meanwhile."""
    with Upstream() as upstream, Gateway(name, upstream.port, descriptors=128) as gateway:
        ask(gateway.ports["h1"])
        crowd = []
        for _ in range(200):
            with contextlib.suppress(OSError):  # a full queue takes no more
                crowd.append(socket.create_connection(("127.0.0.1", gateway.ports["h1"]), 0.2))
        time.sleep(1)
        cpu, since = gateway.cpu(), time.monotonic()
        time.sleep(2)
        used = (gateway.cpu() - cpu) / (time.monotonic() - since)
        for client in crowd:
            client.close()
        left = time.monotonic()
        while time.monotonic() - left < 10:
            with contextlib.suppress(OSError):
                ask(gateway.ports["h1"])
                break
        return {"s until served": time.monotonic() - left, "% CPU": used * 100}
