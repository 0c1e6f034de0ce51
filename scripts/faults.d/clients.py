"""Clients that behave: they ask, read an answer to its end, and note what it took.

Used by the measurements beside this file.
"""

import math
import multiprocessing
import socket
import time

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PATIENCE = 30.0  # seconds, of a bystander for one answer


def connect(port, seconds=5):
    return socket.create_connection(("127.0.0.1", port), seconds)


def ask(port):
    with connect(port) as client:
        answer_on(client)


def answer_on(client, asking=GET, seconds=10):
    """Asks, unless that was done before, and reads the upstream's "ok" to its end; returns head and all."""
    client.settimeout(seconds)
    client.sendall(asking)
    return read_to(client, b"\r\n\r\nok")


def read_to(client, end):
    """Reads until what came ends with `end`; returns all of it."""
    came = b""
    while not came.endswith(end):
        piece = client.recv(65536)
        if not piece:
            raise ConnectionError("closed before the answer's end")
        came += piece
    return came


def status(port, path="/", seconds=10):
    """The status of an answer, 599 where there is none."""
    with connect(port) as client:
        client.settimeout(seconds)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while b"\r\n" not in answer:
            piece = client.recv(4096)
            if not piece:
                return 599
            answer += piece
    return int(answer.split(b" ", 2)[1])


class Bystander:
    """Another client, in a process of its own: it asks on a kept connection all the while, and notes its slowest answer."""

    def __init__(self, port):
        self.done, ready = multiprocessing.Event(), multiprocessing.Event()
        self.slowest = multiprocessing.Value("d", 0.0)
        self.process = multiprocessing.Process(target=ask_on, args=(port, self.done, ready, self.slowest), daemon=True)
        self.process.start()
        ready.wait(10)

    def stop(self):
        """Milliseconds of the slowest answer; without end if one never came."""
        self.done.set()
        self.process.join()
        return self.slowest.value * 1000 if self.process.exitcode == 0 else math.inf


def ask_on(port, done, ready, slowest):
    with connect(port, 10) as client:
        while not done.is_set():
            asked = time.monotonic()
            try:
                answer_on(client, seconds=PATIENCE)
            except OSError as error:
                raise SystemExit(f"the bystander was not answered: {error}") from None
            if ready.is_set():
                slowest.value = max(slowest.value, time.monotonic() - asked)
            ready.set()
            time.sleep(0.002)
