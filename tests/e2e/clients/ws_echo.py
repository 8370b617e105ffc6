"""A WebSocket service that says everything again."""
import asyncio
import logging
import os
import signal

from websockets.asyncio.server import serve

logging.disable(logging.CRITICAL)


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main():
    stopped = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set_result, None)
    async with serve(echo, "127.0.0.1", int(os.environ["PORT"]), max_size=1 << 26, ping_interval=None):
        await stopped


asyncio.run(main())
