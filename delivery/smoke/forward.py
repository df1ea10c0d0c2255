"""``python -m delivery.smoke.forward PORT TO``: what ``kubectl port-forward`` does, between two local ports."""

import asyncio
import sys
from contextlib import suppress

_CHUNK = 65_536


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()


async def forward(port: int, to: int) -> None:
    """Give each connection to ``port`` one of its own to ``to``, for ever."""

    async def pair(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", to)
        except ConnectionError:  # as kubectl does: the caller's connection ends, and the next one may get through
            writer.close()
            return
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    server = await asyncio.start_server(pair, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(forward(int(sys.argv[1]), int(sys.argv[2])))
