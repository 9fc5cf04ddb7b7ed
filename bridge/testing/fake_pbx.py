"""A phone system that exists in the test only: the test scripts what callers do, and reads what was asked of their legs."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import Enum, auto

from bridge.errors import CannotDial, LegGone, Superseded, Unavailable
from bridge.model.caller import Caller
from bridge.model.credentials import Refusal, TrunkCredentials
from bridge.model.ending import EndedBy, Ending, EndReason
from bridge.model.media_address import Carriage, MediaAddress, Stream
from bridge.pbx.port import ControlBack, ControlLost, DialRequest, Digit, Leg, LegEvent, MediaLost, PbxHealth, TransferResult
from bridge.testing.fake_world import Ear, FakeWorld, until_none


class Sends(Enum):
    """What a caller's phone sends."""

    VOICE = auto()
    PACKETS = auto()  # without a frame in them: comfort noise, say
    NOTHING = auto()


class FakeLeg:
    """A call in a fake PBX. What the story asked for stands in `said`; the other methods are the caller's and the PBX's doings."""

    def __init__(
        self,
        world: FakeWorld,
        caller: Caller,
        *,
        leg_id: str = "",
        note: str | None = None,
        answered: bool = False,
        pbx: str = "fake",
        carriage: Carriage = Stream(),  # noqa: B008  (frozen)
    ) -> None:
        self._carriage = carriage
        self.said: list[str] = []
        self._wanted_end: tuple[str, Ending] | None = None
        self.media_lease = 10
        self.notes: list[str] = []
        self.digits_sent = ""
        self.asked_for_packets = 0
        self.transfer_outcome: asyncio.Future[TransferResult] = asyncio.get_running_loop().create_future()
        self.superseded = False
        self.counts_packets = True
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._world = world
        self._caller = caller
        self._id = leg_id or uuid.uuid4().hex
        self._note = note
        self._pbx = pbx
        self._answered = answered
        self._picked_up = asyncio.Event()
        self._control = True
        self._taken_away = False
        self._sound: Ear | None = None
        self._sends = Sends.VOICE
        self._packets_before = 0.0
        self._sends_since = asyncio.get_running_loop().time()
        self._events: asyncio.Queue[LegEvent | None] = asyncio.Queue()

    # What the story may read and do

    @property
    def id(self) -> str:
        return self._id

    @property
    def pbx(self) -> str:
        return self._pbx

    @property
    def caller(self) -> Caller:
        return self._caller

    @property
    def note(self) -> str | None:
        return self._note

    @property
    def answered(self) -> bool:
        return self._answered

    @property
    def carriage(self) -> Carriage:
        return self._carriage

    async def ring(self) -> None:
        await self._command("ring")

    async def reject(self, status: int) -> None:
        await self._end_by("reject", str(status), Ending(EndedBy.ROOMLINE, sip_status=status))

    async def fall_back(self) -> None:
        await self._end_by("fall_back", "", Ending(EndedBy.PBX, fell_back=True))

    async def connect(self, address: MediaAddress, answer_headers: Mapping[str, str] | None = None) -> None:
        del answer_headers
        await self._command("connect")
        if address.carriage != self._carriage:
            raise AssertionError("the address was asked for by the wrong carriage")
        self._answered = True
        sound = self._world.invited.pop(address.token, None)
        old, self._sound = self._sound, None
        if old is not None:
            old.pbx_hung_up()
        if sound is None:
            self.happened(MediaLost())
        else:
            self._sound = sound
            sound.pbx_connected(self)
            sound.caller_sends(self._sends is Sends.VOICE)

    def set_media_lease(self, seconds: int) -> None:
        self.media_lease = seconds

    def events(self) -> AsyncIterator[LegEvent]:
        return until_none(self._events)

    async def locate(self) -> None:
        await self._command("locate")
        if self._taken_away:
            self.end(Ending(EndedBy.PBX, cause="moved elsewhere", taken_away=True))
        else:
            self.happened(MediaLost())

    async def received_packets(self) -> int | None:
        await self._world.command("leg.received_packets")
        self._check("received_packets")
        self.asked_for_packets += 1
        return self._packets if self.counts_packets else None

    async def send_digits(self, digits: str) -> None:
        await self._command("send_digits")
        self.digits_sent += digits

    async def transfer(self, to: str, headers: Mapping[str, str], *, dial_tone: bool = False) -> TransferResult:
        del headers
        await self._command("transfer", f"{to} with a tone" if dial_tone else to)
        self.lose_media()
        return await asyncio.shield(self.transfer_outcome)

    async def remember(self, note: str) -> None:
        await self._command("remember")
        self.notes.append(note)
        self._note = note

    async def hang_up(self, reason: EndReason) -> None:
        with contextlib.suppress(LegGone):
            await self._end_by("hang_up", reason.value, Ending(EndedBy.ROOMLINE))

    def pick_up(self) -> None:
        """Who was called answers."""
        self._answered = True
        self._picked_up.set()

    async def picked_up(self) -> None:
        if not self._answered:
            await self._picked_up.wait()

    async def ended(self) -> Ending:
        return await asyncio.shield(self.ending)

    async def _command(self, name: str, detail: str = "") -> None:
        await self._world.command(f"leg.{name}")
        self._check(name)
        self.said.append(f"{name} {detail}".strip())

    async def _end_by(self, name: str, detail: str, ending: Ending) -> None:
        self._wanted_end = f"{name} {detail}".strip(), ending
        await self._command(name, detail)
        self.end(ending)

    def _check(self, name: str) -> None:
        if self.ending.done():
            raise LegGone(f"{name}: the call has ended")
        if self.superseded:
            raise Superseded(f"{name}: a newer controller has this PBX")
        if not self._control:
            raise Unavailable(f"{name}: no connection to the PBX")

    # What the caller and the PBX do

    def happened(self, event: LegEvent) -> None:
        if not self.ending.done():
            self._events.put_nowait(event)

    @property
    def _packets(self) -> int:
        """Fifty a second while anything is sent."""
        sent = asyncio.get_running_loop().time() - self._sends_since if self._sends is not Sends.NOTHING else 0.0
        return round(50 * (self._packets_before + sent))

    def sends(self, what: Sends) -> None:
        """The caller sends this from now on; a new one sends voice."""
        self._packets_before = self._packets / 50
        self._sends, self._sends_since = what, asyncio.get_running_loop().time()
        if self._sound is not None:
            self._sound.caller_sends(what is Sends.VOICE)

    def press(self, keys: str) -> None:
        for key in keys:
            self.happened(Digit(key))

    def caller_hangs_up(self) -> None:
        self.end(Ending(EndedBy.CALLER, sip_status=None if self._answered else 487))

    def lease_runs_out(self) -> None:
        """The PBX takes the call to the operator's fallback by itself."""
        self.end(Ending(EndedBy.PBX, fell_back=True))

    def lose_media(self) -> None:
        """The audio connection breaks."""
        sound, self._sound = self._sound, None
        if sound is not None:
            sound.pbx_hung_up()
            self.happened(MediaLost())

    def move_elsewhere(self, *, still_ours: bool = False) -> None:
        """The audio ends, and nobody is told: somebody at the PBX has taken the call away, or (`still_ours`) word of it was lost."""
        self._taken_away = not still_ours
        sound, self._sound = self._sound, None
        if sound is not None:
            sound.pbx_hung_up()

    def lose_control(self, *, told: bool = True) -> None:
        if self._control:
            self._control = False
            if told:
                self.happened(ControlLost())

    def regain_control(self) -> None:
        if not self._control:
            self._control = True
            self.happened(ControlBack())
            if self._wanted_end is not None:
                said, ending = self._wanted_end
                self.said.append(said)
                self.end(ending)

    def end(self, ending: Ending) -> None:
        if self.ending.done():
            return
        self.ending.set_result(ending)
        self._events.put_nowait(None)
        if not self.transfer_outcome.done():
            self.transfer_outcome.set_result(TransferResult(ok=True, reason="the call ended during the transfer"))
        sound, self._sound = self._sound, None
        if sound is not None:
            sound.pbx_hung_up()

    def sound_closed(self) -> None:
        """The media plane closed the connection."""
        self._sound = None
        self.happened(MediaLost())


class FakePbx:
    """A phone system that has whatever calls a test puts in."""

    def __init__(self, world: FakeWorld, name: str = "fake") -> None:
        self._world = world
        self._name = name
        self.carriage: Carriage = Stream()
        """How the audio of its calls travels, from the next call on."""
        self._legs: asyncio.Queue[Leg | None] = asyncio.Queue()
        self._refusals: asyncio.Queue[Refusal] = asyncio.Queue()
        self.ways_out: set[str] = set()
        """The trunks by which it can call somebody."""
        self.dialled: list[tuple[DialRequest, FakeLeg]] = []
        self.credentials: tuple[TrunkCredentials, ...] = ()
        """What its callers are asked for."""

    @property
    def name(self) -> str:
        return self._name

    def call(self, caller: Caller, *, note: str | None = None, answered: bool = False, leg_id: str = "") -> FakeLeg:
        """A call comes in, or is found again when there is a note."""
        leg = FakeLeg(self._world, caller, note=note, answered=answered, leg_id=leg_id, pbx=self._name, carriage=self.carriage)
        self._legs.put_nowait(leg)
        return leg

    def close(self) -> None:
        """No more calls: `legs` ends."""
        self._legs.put_nowait(None)

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def can_dial(self, trunk_id: str) -> bool:
        return trunk_id in self.ways_out

    async def dial(self, request: DialRequest) -> FakeLeg:
        """Their phone rings: `leg.pick_up()`, or `leg.end(…)`."""
        if not self.can_dial(request.trunk_id):
            raise CannotDial(f"no way out by trunk {request.trunk_id}")
        leg = FakeLeg(
            self._world, Caller(number=request.to, called=request.number, trunk_id=request.trunk_id), pbx=self._name, carriage=self.carriage
        )
        self.dialled.append((request, leg))
        return leg

    def keep_credentials(self, trunks: Sequence[TrunkCredentials]) -> None:
        self.credentials = tuple(trunks)

    def refuse(self, refusal: Refusal) -> None:
        """A caller is turned away at the door."""
        self._refusals.put_nowait(refusal)

    async def refusals(self) -> AsyncIterator[Refusal]:
        while True:
            yield await self._refusals.get()

    def legs(self) -> AsyncIterator[Leg]:
        return until_none(self._legs)

    async def health(self) -> PbxHealth:
        return PbxHealth(connected=True, version="fake")
