"""Which calls are live, is there room for more, and the place to ask for something to be done with one.

Each PBX's legs are taken here and each becomes a story of its own; a story's failure is its own affair.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from bridge.call.clock import Clock
from bridge.call.handing_on import Transfer
from bridge.call.live import Call, HangUp, Progress
from bridge.call.options import RegistryOptions
from bridge.call.session import Story, open_call
from bridge.errors import RoomlineError, Superseded, Unavailable
from bridge.media.port import Node, Sound
from bridge.model.ending import EndReason
from bridge.model.note import CallNote
from bridge.model.record import CallRecord, LiveCall
from bridge.pbx.port import DialRequest, Pbx, TransferFailure, TransferResult
from bridge.store.port import Journal

log = structlog.get_logger(__name__)

_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
"""LiveKit's 57 letters for ids (livekit-sip-semantics.md §0.5)."""


ORDER_TIMEOUT = 5.0
"""Seconds that a call may take to look at what it is asked, beside what the order itself takes."""

NODE_TIMEOUT = 2.0
"""Seconds a node has to say what it carries."""

STOP_TIMEOUT = 60.0
"""Seconds that ending every call may take: each step of it has its own, shorter limit."""


class NoRoom(RoomlineError):  # noqa: N818  (an answer, not a fault)
    """No more calls may go out at the moment."""


class NoSuchCall(RoomlineError):  # noqa: N818  (an answer, not a fault)
    """No live call has this id."""


def random_letters() -> str:
    """Twelve letters of LiveKit's alphabet: ids and room suffixes."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))


def new_call_id() -> str:
    return f"SCL_{random_letters()}"


class Registry:
    """The live calls of this controller."""

    def __init__(self, options: RegistryOptions, nodes: Sequence[Node], clock: Clock) -> None:
        self._options = options
        self._nodes = nodes
        self._clock = clock
        self._calls: dict[str, Call] = {}
        self._stories: dict[str, asyncio.Task[None]] = {}
        self._tellers: dict[str, Callable[[Call], None]] = {}
        self._placing = 0
        self._draining = False
        self._handing_over = False
        self._idle = asyncio.Event()
        self._idle.set()

    def room_for_more(self) -> bool:
        """Asked by a story that is in the books already."""
        return not self._draining and len(self._calls) <= self._options.call_limit

    def choose_node(self) -> Node:
        """The fresh node with the most room left. Where all are worn, the busiest that has room: so the others get to make way."""
        return max(self._nodes, key=_preference)

    async def find_sound(self, call_id: str) -> Sound | None:
        """The sound that some node still carries for this call: an earlier controller's, or ours."""
        for node in self._nodes:
            try:
                async with asyncio.timeout(NODE_TIMEOUT):
                    sound = (await node.sounds()).get(call_id)
            except (Unavailable, TimeoutError):
                continue
            if sound is not None:
                return sound
        return None

    async def run(self, pbx: Pbx, story: Story) -> None:
        """Tell the calls of one PBX until cancelled. Cancelling leaves the calls up in the PBX for whoever takes over."""
        try:
            async with asyncio.TaskGroup() as stories:
                begin = self._tellers[pbx.name] = partial(self._begin, stories, story)
                async for leg in pbx.legs():
                    call = None if self._handing_over else self._enter(open_call(leg, new_call_id, self._clock.now()))
                    if call is not None:
                        begin(call)
        finally:
            self._tellers.pop(pbx.name, None)

    def _begin(self, stories: asyncio.TaskGroup, story: Story, call: Call) -> None:
        task = stories.create_task(self._tell(call, story), name=f"call {call.call_id}")
        self._stories[call.call_id] = task
        # Not in the task itself: one that is cancelled before its first step never runs a line.
        task.add_done_callback(partial(self._told, call))

    async def place(self, pbx: Pbx, request: DialRequest, note: CallNote) -> Progress:
        """Call somebody; the note says where they are seated. Returns once the PBX calls them. Raises Unavailable, CannotDial, NoRoom."""
        begin = self._tellers.get(pbx.name)
        if begin is None or self._draining:
            raise Unavailable(f"no calls go out by {pbx.name} at the moment")
        placed = self._placing + sum(call.note.outgoing for call in self._calls.values())
        if placed >= self._options.outgoing_limit or len(self._calls) + self._placing >= self._options.call_limit:
            raise NoRoom("as many calls are out as outbound.max_calls and calls.limit allow")
        self._placing += 1
        try:
            leg = await pbx.dial(request)
        finally:
            self._placing -= 1
        call = self._enter(Call(leg, note))
        if call is None:
            raise Unavailable(f"a call has the id {note.call_id} already")
        begin(call)
        return call.progress

    def _enter(self, call: Call) -> Call | None:
        leg = call.leg
        if call.call_id in self._calls:
            log.error("two legs have one call id; the second is left to its PBX", call_id=call.call_id, leg=leg.id)
            return None
        self._calls[call.call_id] = call
        self._idle.clear()
        return call

    async def _tell(self, call: Call, story: Story) -> None:
        try:
            await story.tell(call)
        except Superseded:
            log.warning("a newer controller has this call", call_id=call.call_id)
        except Exception:
            log.exception("a story broke off", call_id=call.call_id)

    def _told(self, call: Call, _task: "asyncio.Task[None]") -> None:
        call.refuse_orders()
        del self._calls[call.call_id]
        del self._stories[call.call_id]
        if not self._calls:
            self._idle.set()

    @property
    def live(self) -> int:
        return len(self._calls)

    def calls(self) -> Sequence[LiveCall]:
        """A picture of every live call."""
        return [call.snapshot() for call in self._calls.values()]

    def call(self, call_id: str) -> LiveCall:
        """Raises NoSuchCall."""
        return self._find(call_id).snapshot()

    def hang_up(self, call_id: str, reason: EndReason = EndReason.REQUESTED) -> None:
        """End a call. Raises NoSuchCall."""
        self._find(call_id).orders.put_nowait(HangUp(reason))

    async def transfer(
        self,
        call_id: str,
        to: str,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        *,
        dial_tone: bool = False,
    ) -> TransferResult:
        """Hand the caller on to `to`, a SIP or tel URI that the asker has checked. Nobody there within `timeout` seconds: the caller is
        back in the room. Who asks for the same meanwhile shares the result. Raises NoSuchCall; a call that ends is a result."""
        call = self._find(call_id)
        order = Transfer(to, dict(headers or {}), timeout, dial_tone)
        call.orders.put_nowait(order)
        try:
            async with asyncio.timeout(timeout + ORDER_TIMEOUT):
                return await order.result
        except TimeoutError:
            return TransferResult(ok=False, reason="the call does not answer", failure=TransferFailure.TIMED_OUT)

    async def account_for(self, pbx: str, journal: Journal) -> Sequence[CallRecord]:
        """Keep the records of this PBX's calls that have ended while no server watched: those whose end nobody has kept, and which are not
        live; and have their nodes let go of them. To be asked once the PBX has shown its calls. Returns them. Raises Unavailable."""
        gone = [record for record in await journal.open_records() if record.pbx == pbx and record.call_id not in self._calls]
        for record in gone:
            await journal.keep_record(record.model_copy(update={"ended_at": self._clock.now()}))
            if (sound := await self.find_sound(record.call_id)) is not None:
                await sound.close()
        return gone

    async def drain(self, limit: float) -> None:
        """No new calls; the running ones go on for up to `limit` seconds, then are ended."""
        self._draining = True
        try:
            await self._until_idle(limit)
        except TimeoutError:
            log.warning("the calls still up are ended", calls=self.live)
            await self.stop(hand_over=False)

    async def stop(self, *, hand_over: bool) -> None:
        """Be done with every call. `hand_over`: they stay up in their PBX, under its lease, for the controller that starts next, which
        finds them by their notes; otherwise they end, as SHUTDOWN."""
        self._draining = True
        self._handing_over = hand_over
        for call_id, call in list(self._calls.items()):
            if hand_over:
                self._stories[call_id].cancel()
            else:
                call.orders.put_nowait(HangUp(EndReason.SHUTDOWN))
        try:
            await self._until_idle(STOP_TIMEOUT)
        except TimeoutError:
            log.error("calls that do not end are let go", calls=sorted(self._calls))

    async def _until_idle(self, limit: float) -> None:
        async with asyncio.timeout(limit):
            await self._idle.wait()

    def _find(self, call_id: str) -> Call:
        try:
            return self._calls[call_id]
        except KeyError:
            raise NoSuchCall(f"no live call has the id {call_id!r}") from None


def _preference(node: Node) -> tuple[bool, bool, int]:
    load = node.load()
    return load.room_for > 0, not load.worn, -load.room_for if load.worn else load.room_for
