"""Relays connections between networks that do not reach each other: `relay.py LISTEN TARGET`.

Each is `tcp:HOST:PORT` or `unix:PATH`. A Unix socket in a directory that two sides share connects a process of the host with one in a
container.
"""

import asyncio
import sys


def place(text):
    kind, _, rest = text.partition(":")
    if kind == "unix":
        return {"path": rest}
    host, _, port = rest.rpartition(":")
    return {"host": host, "port": int(port)}


async def connect(path=None, **address):
    return await (asyncio.open_unix_connection(path) if path else asyncio.open_connection(**address))


async def copy(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def main(listen, target):
    async def relay(reader, writer):
        try:
            target_reader, target_writer = await connect(**target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, target_writer), copy(target_reader, writer))
        writer.close()
        target_writer.close()

    start = asyncio.start_unix_server if "path" in listen else asyncio.start_server
    async with await start(relay, **listen) as server:
        await server.serve_forever()


asyncio.run(main(place(sys.argv[1]), place(sys.argv[2])))
