"""websockets against the address in argv: many messages of all sizes, several at once, orderly ends."""
import asyncio
import os
import sys

from websockets.asyncio.client import connect


async def talk(number):
    async with connect(sys.argv[1], max_size=1 << 26, open_timeout=20) as socket:
        for size in (0, 1, 125, 126, 65535, 65536, 300_000):
            message = os.urandom(size)
            await socket.send(message)
            assert await asyncio.wait_for(socket.recv(), 20) == message, size
        for count in range(100):
            await socket.send(f"{number} {count}")
        for count in range(100):
            assert await asyncio.wait_for(socket.recv(), 20) == f"{number} {count}"
        await (await socket.ping())


async def main():
    await asyncio.gather(*(talk(number) for number in range(20)))
    print("all good")


asyncio.run(main())
