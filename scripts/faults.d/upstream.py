"""The upstream that the gateways are measured with: a server in a process of its own.

Used by the measurements beside this file. What it does depends on the path: `/later` is answered after a second; `/work` never
is, and how many of those are open at a time is counted; `/half` and `/half-chunked` get half an answer; `/switch` becomes an
echo, and so does a TCP stream that begins with such a request; the rest is answered with "ok".
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal

from gateways import DEADLINE, free_port, wait_for_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HALF = 50_000  # bytes
HALVES = {
    "/half": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * HALF) + b"a" * HALF,
    "/half-chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % HALF + b"a" * HALF + b"\r\n",
}
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


class Upstream:
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

    def kill(self):
        """At once, and without a word to anybody."""
        self.process.kill()
        self.process.join(DEADLINE)


def serve(port, most):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    open_now = 0

    async def work(reader):
        nonlocal open_now
        open_now += 1
        most.value = max(most.value, open_now)
        try:
            await reader.read()  # until the gateway gives up
        finally:
            open_now -= 1

    async def client(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
                if path == "/work":
                    await work(reader)
                    break
                if path == "/switch":
                    await echo(reader, writer)
                    break
                if path == "/later":
                    await asyncio.sleep(1)
                writer.write(HALVES.get(path, OK))
                await writer.drain()
        writer.close()

    async def run():
        server = await asyncio.start_server(client, "127.0.0.1", port, backlog=4096)
        await server.serve_forever()

    asyncio.run(run())


async def echo(reader, writer):
    writer.write(SWITCHED)
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
