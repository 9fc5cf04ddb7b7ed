"""A stage for stories: a registry with a fake PBX, a fake node and a store in memory, on a loop whose time jumps."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from bridge.call.options import RegistryOptions, StoryOptions, ThrottleOptions
from bridge.call.registry import Registry, random_letters
from bridge.call.session import Story
from bridge.call.throttle import Throttle
from bridge.call.world import Surroundings
from bridge.dispatch.outcome import Accept, AskPin, Refuse, Verdict, VerdictKind
from bridge.dispatch.trace import Trace
from bridge.model.caller import Caller
from bridge.model.media import MediaConfig
from bridge.model.note import CallNote
from bridge.model.record import CallRecord
from bridge.testing.fakes import FakeDispatcher, FakeLeg, FakeNode, FakePbx, FakeWorld, MemoryStore
from bridge.testing.time_travel import LoopClock

PIN = "735190"
"""A number that stands nowhere else, to be looked for in logs."""

CALLER = Caller(
    number="+15550123",
    called="+15550100",
    display_name="Ada 😀",
    host="sip.example.net",
    source_address="203.0.113.7",
    sip_call_id="abc@example.net",
    sip_tag="tag-1",
    headers={"X-Ticket": "42", "X-Twilio-CallSid": "CA1"},
)


def accept(**changes: Any) -> Accept:
    """Into the lobby."""
    facts: dict[str, Any] = {
        "trace": Trace("rule SDR_open: lobby"),
        "trunk_id": "ST_1",
        "rule_id": "SDR_open",
        "room_name": "lobby",
        "identity": "sip_+15550123",
        "name": "Phone +15550123",
        "metadata": "from the rule",
        "attributes": {"sip.callID": "SCL_1", "sip.trunkID": "ST_1"},
        "media": MediaConfig(),
    }
    return Accept(**(facts | changes))


ASK_PIN = AskPin(Trace("rule SDR_pin wants a PIN"), "ST_1", "SDR_pin", MediaConfig())
NO_RULE = Refuse(Trace("no rule matches"), 404, "no rule matches")
CONFLICT = Refuse(Trace("two rules say the same"), 503, "two rules say the same", conflict=True)
NO_TRUNK = Verdict(VerdictKind.NO_TRUNK, Trace("no trunk"))


def open_rule(**changes: Any) -> FakeDispatcher:
    return FakeDispatcher(NO_TRUNK, accept(**changes))


def pin_rule(by_pin: Mapping[str, Accept] | None = None, **changes: Any) -> FakeDispatcher:
    """The PIN opens the lobby; a `#` alone opens nothing."""
    accepted = {PIN: accept(rule_id="SDR_pin", **changes)} if by_pin is None else by_pin
    return FakeDispatcher(NO_TRUNK, ASK_PIN, accepted, NO_RULE)


class Stage:
    """Everything within reach of a test."""

    def __init__(self, dispatcher: FakeDispatcher, options: StoryOptions, call_limit: int, store: MemoryStore, node: FakeNode) -> None:
        self.world = node.world
        self.pbx = FakePbx(self.world)
        self.node = node
        self.store = store
        self.clock = LoopClock()
        self.dispatcher = dispatcher
        self.throttle = Throttle(ThrottleOptions(), store, self.clock)
        self.nodes = [node]
        self.registry = Registry(RegistryOptions(call_limit), self.nodes, self.clock)
        surroundings = Surroundings(
            dispatcher=lambda: self.dispatcher,
            choose_node=self.registry.choose_node,
            find_sound=self.registry.find_sound,
            room_for_more=self.registry.room_for_more,
            rule_metadata=lambda rule_id: f"metadata of {rule_id}",
            room_suffix=random_letters,
            throttle=self.throttle,
            journal=store,
            clock=self.clock,
        )
        self.story = Story(surroundings, options)

    @property
    def record(self) -> CallRecord:
        """The one record there is."""
        (record,) = self.store.kept.values()
        return record

    async def until(self, true: Callable[[], object], limit: float = 600.0) -> None:
        """Let the story go on until something is true."""
        async with asyncio.timeout(limit):
            while not true():  # noqa: ASYNC110  (fakes have no event for everything a test waits for)
                await asyncio.sleep(0.05)

    async def until_over(self) -> CallRecord:
        """Let the story go on until no call is live; then nothing of it may be left."""
        await self.until(lambda: self.registry.live == 0 and self.store.kept, 100_000.0)
        self.check_nothing_left()
        return self.record

    def check_nothing_left(self) -> None:
        assert self.node.carried == {}
        assert all(sound.closed for sound in self.node.opened)
        assert all(seat.left is not None for sound in self.node.opened for seat in sound.seats)
        assert self.world.invited == {}

    async def talking(self, leg: FakeLeg) -> None:
        """Company comes, and the call talks."""
        await self.until(lambda: self.node.opened and self.node.opened[-1].seats)
        self.node.opened[-1].seat.somebody_publishes()
        await self.until(lambda: self.node.opened[-1].seat.opened)
        assert leg.answered

    async def asked_for_pin(self) -> None:
        await self.until(lambda: self.node.opened and self.node.opened[-1].playing is not None)


@asynccontextmanager
async def stage(
    dispatcher: FakeDispatcher | None = None,
    options: StoryOptions | None = None,
    *,
    call_limit: int = 100,
    store: MemoryStore | None = None,
    node: FakeNode | None = None,
    hand_over: bool = False,
) -> AsyncIterator[Stage]:
    """A running controller. At the end it is stopped as a restart would do it."""
    built = Stage(dispatcher or open_rule(), options or StoryOptions(), call_limit, store or MemoryStore(), node or FakeNode(FakeWorld()))
    await built.throttle.load()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(built.registry.run(built.pbx, built.story))
        try:
            yield built
        finally:
            await built.registry.stop(hand_over=hand_over)
            running.cancel()


def note_of(leg: FakeLeg) -> CallNote:
    """The last note on the call."""
    return CallNote.from_text(leg.notes[-1])


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)
