"""One HTTP server for what others ask of us: LiveKit's services below /twirp/, and the tables of routes that it is given."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from bridge.api.twirp import Twirp
from bridge.errors import ConfigurationError

LEAVE_TIME: Final = 5.0
"""Seconds that requests under way may take once the server ends."""


@asynccontextmanager
async def serve_api(twirp: Twirp, tables: Iterable[Iterable[web.AbstractRouteDef]], host: str, port: int) -> AsyncIterator[int]:
    """Gives the port. Raises ConfigurationError when the address cannot be had."""
    app = web.Application()
    # However many slashes come first: LiveKit takes them for one (livekit-sip-semantics.md §0.1).
    app.add_routes([web.route("*", r"/{slashes:/*}twirp/{method:.*}", twirp.handle)])
    for table in tables:
        app.add_routes(list(table))
    # Who hangs up waits no longer: whatever was done for them alone ends (docs/api.md). What must be whole lies in a store's thread.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=LEAVE_TIME, handler_cancellation=True)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(f"api.listen: {host}:{port} cannot be had: {error.strerror}") from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
