"""One Asterisk: finds the calls that its dialplan has parked for us, passes on what happens to them, keeps the two leases alive.

The heartbeat is a global variable (`heartbeat.py`). A controller that was away (stopped, disconnected) looks at the PBX before it says
anything to it.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

import structlog

from bridge.errors import Superseded, Unavailable
from bridge.model.credentials import Refusal, TrunkCredentials
from bridge.model.ending import EndedBy, Ending
from bridge.pbx.asterisk.credentials import Credentials, trunk_of
from bridge.pbx.asterisk.dialing import dialled
from bridge.pbx.asterisk.digit_connections import DigitConnections
from bridge.pbx.asterisk.facts import is_outgoing, is_sip, read_caller
from bridge.pbx.asterisk.leg import AsteriskLeg, carry_out
from bridge.pbx.asterisk.notes import NOTE, read_note
from bridge.pbx.asterisk.options import AsteriskOptions
from bridge.pbx.asterisk.places import CONTEXTS, Place, Places
from bridge.pbx.asterisk.refusals import Refusals
from bridge.pbx.asterisk.wire import Answer, Down, Event, Headers, Up, Wire
from bridge.pbx.chores import Chores
from bridge.pbx.heartbeat import Heartbeat
from bridge.pbx.port import ControlBack, ControlLost, DialRequest, Digit, Held, Leg, MediaLost, PbxHealth, Resumed, TransferResult

log = structlog.get_logger(__name__)

HEARTBEAT = "ROOMLINE_HEARTBEAT"

LIMIT = "TIMEOUT(absolute)"
"""A channel's time limit, in seconds from now; 0 for none."""

AWAY = 3.0
"""Seconds without a heartbeat after which we look before we command: the dialplan gives a call up after 5 (roomline.conf)."""


_UP = "6"
"""ChannelState of an answered channel (channelstate.h)."""

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")
_SIP_STATUS = re.compile(r"[1-6][0-9]{2}")


class AsteriskPbx:
    """Implements `pbx.port.Pbx`."""

    def __init__(self, options: AsteriskOptions) -> None:
        self._options = options
        self._wire = Wire(options.wire())
        self._digits = DigitConnections(options, self._wire)
        self._credentials = Credentials(options.ari, options.name) if options.ari is not None else None
        self._refusals = Refusals()
        self._legs: dict[str, AsteriskLeg] = {}
        self._new: asyncio.Queue[Leg] = asyncio.Queue()
        self._heart = Heartbeat()
        self._beat_at = float("-inf")
        self._superseded = False
        self._control_lost = False
        # Channels whose end we were told of and that are still there: a channel can linger for minutes (asterisk.md).
        self._lingering: set[str] = set()
        # Channels that somebody has put into a bridge of theirs; when that ends, they are in our dialplan again.
        self._bridged_away: set[str] = set()
        self._chores = Chores(options.name, lambda: self._wire.connected and not self._superseded)
        self._look = asyncio.Lock()
        self._said_no_ari = False
        # The channels that are about to be made, and their names once they are.
        self._dialled: dict[str, asyncio.Future[str]] = {}
        self._version = ""
        self._trouble = "not connected yet"

    @property
    def name(self) -> str:
        return self._options.name

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._wire.run())
                group.create_task(self._read())
                group.create_task(self._beat())
                group.create_task(self._renew())
                group.create_task(self._chores.run())
                group.create_task(self._refusals.run())
                if self._credentials is not None:
                    group.create_task(self._credentials.run())
                await self._chores.until_stopped()
        except* Superseded:
            raise Superseded(f"a newer controller has taken {self.name} over") from None
        finally:
            self._digits.close()

    async def legs(self) -> AsyncIterator[Leg]:
        # One that has ended meanwhile too: it was a call, and its story writes the record.
        while True:
            yield await self._new.get()

    def keep_credentials(self, trunks: Sequence[TrunkCredentials]) -> None:
        trusted = set(self._options.trusted_endpoints.values())
        wanted = [trunk for trunk in trunks if trunk.trunk_id not in trusted]
        if self._credentials is not None:
            self._credentials.keep(wanted)
        elif wanted and not self._said_no_ari:
            self._said_no_ari = True
            log.error("trunks have credentials that this PBX asks nobody for: give it `ari`", pbx=self.name, trunks=len(wanted))

    def refusals(self) -> AsyncIterator[Refusal]:
        return self._refusals.read()

    def can_dial(self, trunk_id: str) -> bool:
        return trunk_id in self._options.outbound_endpoints

    async def dial(self, request: DialRequest) -> Leg:
        found = dialled(request, self._options.outbound_endpoints)
        await self.make_sure()
        leg = AsteriskLeg(self, "", found.unique_id, found.caller, sip=True, media_lease=self._options.media_lease, outgoing=True)
        self._dialled[found.unique_id] = asyncio.get_running_loop().create_future()
        # Before it is asked for: its events may be here before the answer.
        self._legs[leg.id] = leg
        try:
            answer = await self._wire.action("Originate", found.action)
            if not answer.ok:
                raise Unavailable(f"Asterisk does not call: {answer.message}")
            async with asyncio.timeout(self._options.action_timeout):
                leg.channel = await self._dialled[found.unique_id]
        except BaseException as error:
            self._legs.pop(leg.id, None)
            # Should it come to be all the same, the dialplan ends it: nobody is there for it.
            if isinstance(error, TimeoutError):
                raise Unavailable("Asterisk does not call: it has made no channel") from None
            raise
        finally:
            del self._dialled[found.unique_id]
        return leg

    async def health(self) -> PbxHealth:
        if not self._wire.connected:
            return PbxHealth(connected=False, version=self._version, detail=self._trouble)
        return PbxHealth(connected=True, version=self._version, detail=self._credentials.trouble if self._credentials is not None else "")

    async def make_sure(self) -> None:
        """After an absence (stopped, disconnected) look at what has become of our calls before anything is said about them."""
        if self._superseded:
            raise Superseded(f"a newer controller has taken {self.name} over")
        if time.monotonic() - self._beat_at > AWAY:
            await self._look_around()

    async def command(self, action: str, headers: Headers) -> Answer:
        return await self._wire.action(action, headers)

    async def play_digit(self, channel: str, digit: str, seconds: float) -> Answer:
        return await self._digits.play(channel, digit, seconds)

    # Events, in order

    async def _read(self) -> None:
        async for item in self._wire.items():
            match item:
                case Up(version):
                    self._version = version
                    await self._came_up()
                case Down(reason):
                    self._went_down(reason)
                case Event():
                    self._understand(item)

    async def _came_up(self) -> None:
        if self._credentials is not None:
            self._credentials.look_again()
        try:
            await self._look_around()
        except Unavailable as error:
            log.warning("the PBX could not be looked at", pbx=self.name, error=str(error))
            return
        log.info("PBX connected", pbx=self.name, calls=len(self._legs))

    def _went_down(self, reason: str) -> None:
        self._trouble = reason
        self._beat_at = float("-inf")
        if not self._control_lost:
            self._control_lost = True
            for leg in self._legs.values():
                leg.happened(ControlLost())

    def _understand(self, event: Event) -> None:
        if trunk_of(event["AccountID"]):
            self._refusals.heard(event)
            return
        leg = self._legs.get(event["Uniqueid"])
        if leg is None:
            self._understand_a_strangers(event)
            return
        self._name(leg, event)
        match event.name:
            case "UserEvent":
                self._understand_ours(leg, event)
            case "DTMFEnd":
                if event["Direction"] == "Received":
                    leg.happened(Digit(event["Digit"].upper()))
            case "Newstate":
                if event["ChannelState"] == _UP:
                    leg.was_answered()
            case "Hold":
                leg.happened(Held())
            case "Unhold":
                leg.happened(Resumed())
            case "Rename":
                leg.channel = event["Newname"]
            case "HangupRequest" | "SoftHangupRequest" | "Hangup":
                self._hung_up(leg, event)

    def _name(self, leg: AsteriskLeg, event: Event) -> None:
        """The first word of a channel that is made for us is its name, or that there is none."""
        channel = self._dialled.get(leg.id)
        if channel is None or channel.done():
            return
        if event.name == "OriginateResponse":
            channel.set_exception(Unavailable("Asterisk cannot call by that endpoint: is it there, with an address that can be reached?"))
        elif event["Channel"]:
            channel.set_result(event["Channel"])

    def _understand_a_strangers(self, event: Event) -> None:
        """Of a channel that is none of our calls: not yet, or not any more."""
        unique_id, channel = event["Uniqueid"], event["Channel"]
        if event.name == "Hangup":
            self._lingering.discard(unique_id)
            self._bridged_away.discard(unique_id)
        elif event["UserEvent"] == "RoomlineMediaLost":
            self._chores.put(partial(self._come_back, unique_id, channel))
        elif event["UserEvent"] == "RoomlineCalled":
            # Called by a server that is no more: its note says what the call is about.
            self._chores.put(partial(self._come_back, unique_id, channel))
        elif event["UserEvent"] == "RoomlineParked":
            self._bridged_away.discard(unique_id)
            facts, headers = event["Facts"], event["Headers"]
            caller = read_caller(facts, headers, self._options.trusted_endpoints)
            self._adopt(AsteriskLeg(self, channel, unique_id, caller, sip=is_sip(facts), media_lease=self._options.media_lease))

    def _understand_ours(self, leg: AsteriskLeg, event: Event) -> None:
        match event["UserEvent"]:
            case "RoomlineMediaLost":
                if leg.is_current_media(event["Token"]):
                    leg.media_lease_runs = False
                    leg.happened(MediaLost())
            case "RoomlineTransferred":
                result = TransferResult(event["Status"] == "SUCCESS", _sip_status(event["Protocol"]), event["Status"].lower())
                leg.transfer_ended(result)
            case "RoomlineFellBack":
                leg.fell_back()
                self._legs.pop(leg.id, None)

    def _hung_up(self, leg: AsteriskLeg, event: Event) -> None:
        leg.hung_up(
            by_caller=event.name == "HangupRequest",
            cause=event["Cause-txt"] or f"cause {event['Cause'] or 0}",
            sip_status=_sip_status(event["TechCause"]),
        )
        self._legs.pop(leg.id, None)
        if event.name != "Hangup":
            self._lingering.add(leg.id)

    def _adopt(self, leg: AsteriskLeg) -> None:
        self._legs[leg.id] = leg
        self._new.put_nowait(leg)

    # What is there, and who commands

    async def _look_around(self) -> None:
        """See who commands the PBX (raises Superseded) and which calls are ours: the vanished end, the unknown are taken."""
        async with self._look:
            if time.monotonic() - self._beat_at <= AWAY:
                return
            await self._claim()
            places = await self._places()
            elsewhere = [channel for channel in places.with_limits_elsewhere() if channel["Uniqueid"] not in self._legs]
            for leg in list(self._legs.values()):
                self._see(leg, places)
            known = list(self._legs.values())
            self._lingering &= places.channels.keys()
            self._bridged_away &= places.channels.keys()
            not_new = self._legs.keys() | self._lingering | self._bridged_away
            await self._take_all([channel for channel in places.ours() if channel["Uniqueid"] not in not_new])
            for channel in elsewhere:
                self._chores.put(partial(self._lift_limit, channel["Channel"]), owed=True)
            self._beat_at = time.monotonic()
            if self._control_lost:
                self._control_lost = False
                for leg in known:
                    leg.happened(ControlBack())
            for leg in self._legs.values():
                self._chores.put(partial(self._settle, leg), owed=True)

    async def _places(self) -> Places:
        return Places(await self._wire.list_action("Status"))

    async def _settle(self, leg: AsteriskLeg) -> None:
        await self._renew_if_short(leg)
        await leg.end_as_wanted()
        if leg.is_being_transferred and not leg.has_ended:
            # Its result may have come while nobody listened; the dialplan keeps it.
            try:
                answer = await self._wire.action("Getvar", {"Channel": leg.channel, "Variable": "ROOMLINE_TRANSFERRED"})
            except Unavailable:
                return  # the next look asks again
            status, _, protocol = answer.value.partition(" ")
            if status:
                leg.transfer_ended(TransferResult(status == "SUCCESS", _sip_status(protocol), status.lower()))

    def _see(self, leg: AsteriskLeg, places: Places, *, audio_gone: bool = False) -> None:
        """What has become of a call that we knew, in place of the events we may have missed."""
        channel = places.channels.get(leg.id)
        if channel is None:
            leg.end(Ending(EndedBy.CALLER, cause="ended while the PBX could not be heard"))
            self._legs.pop(leg.id, None)
            return
        match places.place(channel, audio_gone=audio_gone):
            case Place.OURS:
                leg.channel = channel["Channel"]
                if channel["ChannelState"] == _UP:
                    leg.was_answered()
                return
            case Place.FALLBACK:
                leg.fell_back()
            case Place.TAKEN:
                log.warning("somebody at the PBX has moved a call elsewhere", channel=channel["Channel"], context=channel["Context"])
                leg.taken_away()
                if channel["Context"] in CONTEXTS:
                    self._bridged_away.add(leg.id)
                self._chores.put(partial(self._lift_limit, channel["Channel"], leg.media_lease), owed=True)
        self._legs.pop(leg.id, None)

    async def locate(self, leg: AsteriskLeg) -> None:
        """The leg's audio has been gone for a while, and no event said why."""
        await self.make_sure()
        places = await self._places()
        if leg.has_ended:
            return
        if leg.id not in places.channels:
            raise Unavailable(f"{leg.channel} is gone, and its end not told yet")
        self._see(leg, places, audio_gone=True)
        if not leg.has_ended:
            leg.media_lease_runs = False
            leg.happened(MediaLost())

    async def _lift_limit(self, channel: str, lease: int = 0) -> None:
        """Take our lease off a channel that is somebody else's now. A limit of theirs is longer, and stays."""
        media = (await self._wire.action("Getvar", {"Channel": channel, "Variable": "ROOMLINE_MEDIA"})).value
        left = (await self._wire.action("Getvar", {"Channel": channel, "Variable": LIMIT})).value
        ours = media.rpartition(",")[2]
        if media and _SECONDS.fullmatch(left) and 0 < float(left) <= max(lease, int(ours) if ours.isdecimal() else 0):
            # The action AbsoluteTimeout takes no 0 (22.10, measured).
            await self._wire.action("Setvar", {"Channel": channel, "Variable": LIMIT, "Value": 0})

    async def _come_back(self, unique_id: str, channel: str) -> None:
        """A channel that was none of our calls is in our dialplan again: out of somebody's bridge. Its story is over when we were told
        of that; else, after a restart of ours, it goes on by its note."""
        await self.make_sure()
        if unique_id in self._bridged_away:
            self._bridged_away.discard(unique_id)
            there: Headers = {"Channel": channel, "Context": "roomline-fallback", "Exten": "s", "Priority": 1}
            await carry_out(lambda: self.command("Redirect", there), "Redirect", channel)
        elif unique_id not in self._lingering:
            found = (await self._places()).channels.get(unique_id)
            if found is not None and found["Context"] in CONTEXTS:
                await self._take(found)

    async def _take_all(self, found: Sequence[Event]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for event in found:
                    group.create_task(self._take(event))
        except* Unavailable as errors:
            raise Unavailable(str(errors.exceptions[0])) from None

    async def _take(self, event: Event) -> None:
        """A call that is up in our contexts and that we did not know."""
        channel, unique_id = event["Channel"], event["Uniqueid"]

        async def get(variable: str) -> str:
            answer = await self._wire.action("Getvar", {"Channel": channel, "Variable": variable})
            return answer.value if answer.ok else ""

        facts = await get("ROOMLINE_FACTS")
        # The far end of a dialled AudioSocket stands in our context too; it has no facts, and is nobody's call.
        if not facts or channel.startswith("AudioSocket/"):
            return
        # Still being described: its announcement will come, and holds everything.
        if event["Context"] == "roomline-park" and not await get("ROOMLINE_READY"):
            return
        headers, kept, media = await get("ROOMLINE_HEADERS"), await get(NOTE), await get("ROOMLINE_MEDIA")
        note = await read_note(kept, get)
        if unique_id in self._legs:
            return
        if note is None and is_outgoing(facts):
            # We have given them up before they answered, or know nothing of what they were called for: no caller who comes in.
            log.warning("somebody has answered whom nobody calls any more: the call ends", pbx=self.name, channel=channel)
            await self._wire.action("Hangup", {"Channel": channel, "Cause": 16})
            return
        caller = read_caller(facts, headers, self._options.trusted_endpoints)
        leg = AsteriskLeg(
            self,
            channel,
            unique_id,
            caller,
            sip=is_sip(facts),
            media_lease=self._options.media_lease,
            note=note,
            note_generation=int(kept[0]) if kept[:1] in ("0", "1") else 0,
            answered=event["ChannelState"] == _UP,
            outgoing=is_outgoing(facts),
        )
        if unique_id not in self._legs:
            leg.goes_on_with_media(media.partition(",")[0], runs=event["Context"] == "roomline-media")
            self._adopt(leg)

    async def _claim(self) -> None:
        """Take the PBX over, at the first look; at any later one make sure that nobody has taken it from us."""
        value = self._heart.after(await self._read_heartbeat())
        if value is None:
            self._superseded = True
            for leg in self._legs.values():
                leg.happened(ControlLost())
            raise Superseded(f"a newer controller has taken {self.name} over")
        await self._ask("Setvar", {"Variable": HEARTBEAT, "Value": value})

    async def _read_heartbeat(self) -> str:
        answer = await self._ask("Getvar", {"Variable": HEARTBEAT})
        return answer.value

    async def _ask(self, action: str, headers: Headers) -> Answer:
        """For what must not be refused: a heart that only seems to beat would leave calls to the fallback without a word."""
        answer = await self._wire.action(action, headers)
        if not answer.ok:
            raise Unavailable(f"Asterisk refused {action}: {answer.message}")
        return answer

    async def _beat(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(1.0)
            if not self._wire.connected:
                continue
            try:
                await self.make_sure()
                await self._claim()
                self._beat_at = time.monotonic()
                told = ""
            except Unavailable as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("the heartbeat did not reach the PBX", pbx=self.name, error=told)

    async def _renew(self) -> None:
        """Renew the media leases, three times in the shortest."""
        while True:
            await asyncio.sleep(self._options.media_lease / 3)
            if not self._wire.connected:
                continue
            try:
                await self.make_sure()
                legs = [leg for leg in self._legs.values() if leg.media_lease_runs]
                await asyncio.gather(*(self._renew_one(leg) for leg in legs))
            except Unavailable as error:
                log.warning("the media leases were not renewed", pbx=self.name, error=str(error))

    async def _renew_if_short(self, leg: AsteriskLeg) -> None:
        """After an absence a lease has run on, and may end before its next turn: a blip of hold music. One that is longer than ours, of a
        call whose story has not said yet that it talks, stays."""
        if leg.media_lease_runs:
            left = (await self._wire.action("Getvar", {"Channel": leg.channel, "Variable": LIMIT})).value
            if _SECONDS.fullmatch(left) and 0 < float(left) < leg.media_lease:
                await self._renew_one(leg)

    async def _renew_one(self, leg: AsteriskLeg) -> None:
        # A refusal is a call that has just ended: its event is on the way.
        await self._wire.action("AbsoluteTimeout", {"Channel": leg.channel, "Timeout": leg.media_lease})


def _sip_status(text: str) -> int | None:
    return int(text) if _SIP_STATUS.fullmatch(text) else None
