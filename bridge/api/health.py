"""Is the server alive, can it take calls, and what does it count: for probes and for Prometheus. No secrets, no callers' numbers."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from bridge.api.node_figures import NodeFigures
from bridge.errors import ConfigurationError
from bridge.media.port import NodeLoad
from bridge.pbx.port import PbxHealth


class HealthyPbx(Protocol):
    """What is asked of a PBX here."""

    @property
    def name(self) -> str: ...

    async def health(self) -> PbxHealth: ...


class LoadedNode(Protocol):
    """What is asked of a node here."""

    def load(self) -> NodeLoad: ...


class StateOfStore(Protocol):
    """What is asked of the store here."""

    @property
    def trouble(self) -> str: ...


class LiveCalls(Protocol):
    """What is asked of the registry here."""

    @property
    def live(self) -> int: ...


class Health:
    """One look at the parts."""

    def __init__(self, pbxes: Sequence[HealthyPbx], node: LoadedNode, calls: LiveCalls, store: StateOfStore) -> None:
        self._pbxes = pbxes
        self._node = node
        self._calls = calls
        self._store = store

    async def look(self) -> tuple[bool, dict[str, Any]]:
        """Whether calls can be taken, and why not."""
        pbxes = {pbx.name: await pbx.health() for pbx in self._pbxes}
        load = self._node.load()
        ready = all(health.connected for health in pbxes.values()) and load.room_for > 0
        return ready, {
            "ready": ready,
            "calls": self._calls.live,
            "room_for": load.room_for,
            # Calls go on by what was read last.
            "store": {"current": not self._store.trouble, "detail": self._store.trouble},
            "pbx": {name: {"connected": health.connected, "detail": health.detail} for name, health in pbxes.items()},
        }

    def collect(self) -> Iterator[Metric]:
        """For Prometheus."""
        yield GaugeMetricFamily("roomline_calls_active", "Calls that are live now.", value=self._calls.live)
        yield GaugeMetricFamily("roomline_media_room", "Calls the media node has room for.", value=self._node.load().room_for)


@asynccontextmanager
async def serve_health(health: Health, figures: NodeFigures, host: str, port: int) -> AsyncIterator[int]:
    """Serve /healthz, /readyz and /metrics; gives the port. Raises ConfigurationError when the address cannot be had."""
    registry = CollectorRegistry()
    for collector in (health, figures):
        registry.register(collector)
    ProcessCollector(registry=registry)

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="OK\n")

    async def readyz(_request: web.Request) -> web.Response:
        ready, body = await health.look()
        return web.json_response(body, status=200 if ready else 503)

    async def metrics(_request: web.Request) -> web.Response:
        await figures.ask()
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(f"http.listen: {host}:{port} cannot be had: {error.strerror}") from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
