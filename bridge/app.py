"""Puts the parts together and runs them: the only module, beside the command line, that knows them all."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import structlog
from livekit.protocol import sip

from bridge.api.auth import Keys
from bridge.api.control import Control, Parts
from bridge.api.directory import Directory
from bridge.api.health import Health, serve_health
from bridge.api.node_figures import CountingNode, NodeFigures
from bridge.api.outbound import Limits, Outbound
from bridge.api.phone_number_messages import SERVICE as PHONE_NUMBER_SERVICE
from bridge.api.phone_numbers import PhoneNumbers
from bridge.api.server import serve_api
from bridge.api.sip import SipObjects
from bridge.api.transfer import Transfers, nobody_else
from bridge.api.twirp import Service, Twirp
from bridge.call.clock import SystemClock
from bridge.call.refusals import Refusals
from bridge.call.registry import Registry, new_call_id, random_letters
from bridge.call.session import Story
from bridge.call.throttle import Throttle
from bridge.call.world import Surroundings
from bridge.dispatch.conflicts import Problem, Severity
from bridge.errors import ConfigurationError, Superseded, Unavailable
from bridge.media.node import InProcessNode
from bridge.media.port import Node
from bridge.media.workers import START_PATIENCE, Workers
from bridge.model.credentials import TrunkCredentials
from bridge.node_app import make_clips, make_local_rooms
from bridge.objects import configured_objects, open_objects, problems_together
from bridge.pbx.port import Pbx
from bridge.pbx_kinds import connect_pbx
from bridge.rooms.livekit_lookup import LiveKitLookup
from bridge.rooms.local import LocalRooms
from bridge.routes import Routes
from bridge.settings import Loaded
from bridge.store.inventory import inbound_trunks
from bridge.store.port import Inventory, WatchedStore
from bridge.store.sqlite import SqliteStore

log = structlog.get_logger(__name__)

ALL_SHOWN = 5.0
"""Seconds from a PBX's connection to the moment by which it has told of every call that is still up."""


class Application:
    """`async with Application(loaded) as app`: everything is open and works while `app.run()` runs."""

    def __init__(self, loaded: Loaded) -> None:
        self._path = loaded.file.path
        self.settings = loaded.settings
        self._configured = configured_objects(loaded)
        self._routes = Routes()
        self._reload_asked = asyncio.Event()
        self._told: frozenset[Problem] = frozenset()
        directory = self.settings.api.directory
        self._directory = Directory(directory.options(), self._store_is_away) if directory is not None else None
        self._stack = AsyncExitStack()
        self.workers: Workers | None = None
        self.objects: WatchedStore
        """LiveKit's objects, those in roomline.yaml among them."""
        self.rooms: LocalRooms
        self.node: InProcessNode
        self.api_port: int

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def _open(self, stack: AsyncExitStack) -> None:
        settings, clock = self.settings, SystemClock()
        store = self._store = await stack.enter_async_context(SqliteStore(settings.records_path))
        self.objects = await stack.enter_async_context(open_objects(self._configured, settings.store))
        self.pbxes = [connect_pbx(pbx, serves_directory=self._directory is not None) for pbx in settings.pbx]
        await self._follow_objects()
        # What was built stays: the collector need not walk it in the middle of a call.
        gc.collect()
        gc.freeze()
        nodes = await self._open_nodes(stack)
        throttle = Throttle(settings.pin.throttle.options(), store, clock)
        await throttle.load()
        self.registry = Registry(settings.registry(), nodes, clock)
        world = Surroundings(
            dispatcher=lambda: self._routes.index,
            choose_node=self.registry.choose_node,
            find_sound=self.registry.find_sound,
            room_for_more=self.registry.room_for_more,
            rule_metadata=self._routes.rule_metadata,
            room_suffix=random_letters,
            throttle=throttle,
            journal=store,
            clock=clock,
        )
        self._story = Story(world, settings.calls.story(settings.pin.options(), settings.media.orphan_limit))
        self._refusals = Refusals(store, clock, random_letters)
        self._health = Health(self.pbxes, self.workers or self.node, self.registry, self.objects)
        if settings.http.listen is not None:
            counting: Sequence[CountingNode] = self.workers.nodes if self.workers else [self.node]
            figures = NodeFigures({str(place) if self.workers else "server": node for place, node in enumerate(counting)})
            await stack.enter_async_context(serve_health(self._health, figures, *settings.http.listen))
        if settings.api.listen is not None:
            await self._open_api(stack, *settings.api.listen)

    async def _open_api(self, stack: AsyncExitStack, host: str, port: int) -> None:
        settings = self.settings
        is_there: Callable[[str, str], Awaitable[bool]] = nobody_else
        if settings.rooms.kind == "livekit":
            lookup = LiveKitLookup(settings.rooms.access())
            stack.push_async_callback(lookup.close)
            is_there = lookup.is_there
        transfers = Transfers(self.registry, settings.outbound.allowed(), random_letters, is_there)
        limits = Limits(settings.outbound.allowed(), settings.outbound.max_minutes * 60, settings.outbound.max_minutes_per_day * 60)
        outbound = Outbound(self.registry, self.pbxes, self.objects, self._store, limits, SystemClock(), new_call_id)
        sip_methods = {**SipObjects(self.objects, random_letters).methods(), **transfers.methods(), **outbound.methods()}
        numbers = PhoneNumbers(self.objects, random_letters, lambda: datetime.now(UTC))
        livekit_sip = Service(sip.DESCRIPTOR.services_by_name["SIP"], sip_methods, outbound.patience())
        services = [livekit_sip, Service(PHONE_NUMBER_SERVICE, numbers.methods())]
        keys = Keys(settings.api_keys)
        parts = Parts(self.registry, self._store, transfers, self._health, self._routes.explain, self._reload_and_tell)
        tables = [Control(keys, parts).routes(), self._directory.routes() if self._directory is not None else ()]
        self.api_port = await stack.enter_async_context(serve_api(Twirp(services, keys), tables, host, port))

    async def _open_nodes(self, stack: AsyncExitStack) -> Sequence[Node]:
        """One in this process, or those that are processes of their own."""
        media = self.settings.media
        if self.settings.workers:
            sockets = [media.socket(place) for place in range(self.settings.workers)]
            self.workers = Workers(sockets, self._worker_command if media.start_workers else None)
            return self.workers.nodes
        clips = await asyncio.to_thread(make_clips, self.settings)
        self.rooms = make_local_rooms(self.settings, clips)
        stack.push_async_callback(self.rooms.close)
        self.node = await stack.enter_async_context(InProcessNode(self.settings.node(), self.rooms, clips))
        return [self.node]

    def _worker_command(self, place: int) -> Sequence[str]:
        return [sys.executable, "-m", "bridge", "node", str(place), "--config", str(self._path), "--started-by-server"]

    async def run(self) -> None:
        """Take calls until cancelled or stopped; then the calls are left to the next server, or ended (`calls.drain`). Raises Superseded
        when newer servers have taken over every PBX, or all the media nodes: there is nothing left to do, and a log line says so."""
        log.info(
            "roomline serves",
            pbx=[pbx.name for pbx in self.pbxes],
            audio=f"{self.workers.count} workers" if self.workers else f"{self.settings.media.listen[0]}:{self.node.port}",
            trunks=len(self._routes.inventory.inbound_trunks),
            rules=len(self._routes.inventory.dispatch_rules),
            numbers=len(self._routes.inventory.phone_numbers),
            rooms=self.settings.rooms.kind,
        )
        try:
            async with asyncio.TaskGroup() as group:
                if self.workers:
                    group.create_task(self.workers.run(), name="workers")
                group.create_task(self._serve_all(), name="pbxes")
                group.create_task(self._reload_when_asked(), name="reload")
                group.create_task(self._follow_changes(), name="objects")
        except* Superseded as errors:
            log.error("roomline ends here, its calls go on with the newer server", why=str(errors.exceptions[0]))
            raise Superseded(str(errors.exceptions[0])) from None

    async def _serve_all(self) -> None:
        """Raises Superseded when a newer controller has taken over the last PBX."""
        # Who takes a PBX's calls has to have sound for them; until then its own lease takes them to the fallback.
        if self.workers and not await self.workers.first_there(START_PATIENCE):
            log.error("no media node is there yet: calls get the fallback until one is", seconds=START_PATIENCE)
        async with asyncio.TaskGroup() as group:
            for pbx in self.pbxes:
                group.create_task(self._serve(pbx), name=f"pbx {pbx.name}")
        raise Superseded("a newer server has taken over every PBX")

    async def _serve(self, pbx: Pbx) -> None:
        """One PBX: its connection and its calls. When a newer controller takes it over, we let go of it and serve the others."""
        with contextlib.suppress(Superseded):
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(pbx.run())
                    group.create_task(self.registry.run(pbx, self._story))
                    group.create_task(self._account_for_unseen(pbx))
                    group.create_task(self._refusals.run(pbx))
            except* Superseded as errors:
                log.warning("a newer controller has taken the PBX over: this one leaves it alone", pbx=pbx.name)
                raise errors.exceptions[0] from None

    async def _account_for_unseen(self, pbx: Pbx) -> None:
        """Calls that ended while no server watched get their record, once the PBX has shown which are still up."""
        settled = 0.0
        while settled < ALL_SHOWN:
            await asyncio.sleep(1.0)
            settled = settled + 1.0 if (await pbx.health()).connected else 0.0
        try:
            for record in await self.registry.account_for(pbx.name, self._store):
                log.warning("a call has ended while no server watched", call_id=record.call_id, number=record.number, room=record.room)
        except Unavailable as error:
            log.error("calls that ended while no server watched have no record yet: they get it at the next start", error=str(error))

    async def stop(self) -> None:
        """What SIGTERM does: no new calls; those that are up stay up for the server that starts next, unless `calls.drain` says how
        long they may go on here before they end."""
        if self.settings.calls.drain > 0:
            log.info("draining", calls=self.registry.live, seconds=self.settings.calls.drain)
            await self.registry.drain(self.settings.calls.drain)
        else:
            await self.registry.stop(hand_over=True)

    def ask_for_reload(self) -> None:
        """What SIGHUP does. One that comes while the file is being read has it read once more after that."""
        self._reload_asked.set()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            try:
                await self.reload()
            except Exception:
                log.exception("a fault of ours while the configuration was read: what was read last stays")

    async def reload(self) -> None:
        """Read trunks, rules and numbers anew, one time after the other, beside the calls: who asks meanwhile gets the answers of what was
        read last. A file that is wrong changes nothing."""
        await self._configured.reload()
        # A store that is away `_follow_changes` tells of, and follows the file all the same.
        with contextlib.suppress(Unavailable):
            await self._follow_objects()

    async def _reload_and_tell(self) -> Mapping[str, int]:
        """How many objects decide then. Raises ConfigurationError, Unavailable."""
        await self.reload()
        if self._configured.trouble:
            raise ConfigurationError(self._configured.trouble)
        if self.objects.trouble:
            raise Unavailable(self.objects.trouble)
        inventory = self._routes.inventory
        return {
            "trunks": len(inventory.inbound_trunks) + len(inventory.legacy_trunks),
            "rules": len(inventory.dispatch_rules),
            "numbers": len(inventory.phone_numbers),
        }

    async def _follow_objects(self) -> None:
        """Raises Unavailable."""
        await self._follow(await self.objects.read())

    async def _follow(self, inventory: Inventory) -> None:
        # First the doors: a new index may take a moment, and lets nobody in whom the PBX has not asked.
        credentials = [TrunkCredentials.of(trunk) for trunk in inbound_trunks(inventory).values() if trunk.asks_for_credentials]
        for pbx in self.pbxes:
            pbx.keep_credentials(credentials)
        if self._directory is not None:
            self._directory.keep(credentials)
        if await self._routes.follow(inventory, self._configured.contents.unknown_trunks):
            await self._tell_problems(inventory)

    async def _tell_problems(self, inventory: Inventory) -> None:
        """What the file's and the store's objects contradict one another in, and who is named and not there: each once while it is so."""
        found = await asyncio.to_thread(problems_together, self.settings, self._configured.contents, inventory)
        for problem in found:
            if problem not in self._told:
                level = logging.ERROR if problem.severity is Severity.ERROR else logging.WARNING
                log.log(level, "objects do not go together", place=problem.place, why=problem.text)
        self._told = frozenset(found)

    def _store_is_away(self) -> bool:
        """A file that is wrong is not: what was read of it last stays until somebody has mended it."""
        return self.objects.trouble != self._configured.trouble

    async def _follow_changes(self) -> None:
        """What is written into the store or the file, by whomever, decides within a second."""
        async for inventory in self.objects.changes():
            try:
                await self._follow(inventory)
            except Exception:
                log.exception("a fault of ours while the objects were read anew: what was read last stays")


async def serve(loaded: Loaded) -> None:
    """Run until SIGTERM or SIGINT; a second one ends at once. SIGHUP reads trunks, rules and numbers anew. Raises Superseded."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    async with Application(loaded) as app:
        running = asyncio.create_task(app.run())

        def stop() -> None:
            if stopping.is_set():
                running.cancel()
            stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, app.ask_for_reload)
        stopped = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                leaving = asyncio.create_task(app.stop())
                await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
        finally:
            stopped.cancel()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    log.info("roomline has stopped")
