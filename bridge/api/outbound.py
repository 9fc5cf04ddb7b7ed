"""Calling somebody, asked for over HTTP: LiveKit's CreateSIPParticipant (livekit-sip-semantics.md §1.11).

Who may be called is `model/target.py`'s, by what way the PBX's operator's (`pbx[].outbound_endpoints`), what becomes of the call
`call/session.py`'s.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from google.protobuf.message import Message
from livekit.protocol import sip

from bridge.api.access import in_twirps_words, permit
from bridge.api.auth import Grants
from bridge.api.sip_status import sip_error
from bridge.api.twirp import Code, Method, Patience, TwirpError, time_left
from bridge.call import attributes
from bridge.call.clock import Clock
from bridge.call.live import Progress
from bridge.call.registry import NoRoom, NoSuchCall, Registry
from bridge.call.waiting import first_of
from bridge.errors import CannotDial, LocalProtocolError, Unavailable
from bridge.model.ending import EndReason
from bridge.model.note import CallNote, CallState
from bridge.model.participant import NewParticipant, outbound_media
from bridge.model.record import CallRecord
from bridge.model.target import USER, AllowedTargets
from bridge.model.ticket import RoomTicket
from bridge.model.trunk import OutboundTrunk
from bridge.model.validation import InvalidObject, check_new_participant
from bridge.pbx.port import DialRequest, Pbx
from bridge.store.inventory import outbound_trunks
from bridge.store.port import Airtime, ObjectStore
from bridge.store.protobuf import of_message

log = structlog.get_logger(__name__)

RINGING_TIMEOUT: Final = 180.0
"""Seconds for an answer, where the request says nothing; as an inbound trunk's (§1.1)."""

MARGIN: Final = 0.25
"""Seconds of the request's own time that are kept for its answer."""

FOR_A_SEAT, FOR_AN_ANSWER = 30.0, 80.0
"""Seconds that a request may take where its asker says nothing (§1.11)."""

MOST: Final = 600.0
"""Seconds where its asker says more."""

CALLED_LIMIT: Final = 240
"""Characters of a number: `sip_` and `Phone ` before it still make a participant's name of 256."""

DIGITS_LIMIT: Final = 128
"""Keys and pauses that are pressed for who asked: a minute's."""

DAY: Final = 86_400.0
"""Seconds, up to now: no midnight at which everything is allowed anew."""

_DIGITS: Final = frozenset("0123456789*#ABCDabcdwW")


@dataclass(frozen=True, slots=True)
class Limits:
    """`longest`: seconds that a call may take; `daily`: that all together may talk in a DAY."""

    allowed: AllowedTargets
    longest: float
    daily: float


class Outbound:
    """`airtime` are the calls that have ended; `new_call_id` gives LiveKit's call ids."""

    def __init__(
        self,
        registry: Registry,
        pbxes: Sequence[Pbx],
        store: ObjectStore,
        airtime: Airtime,
        limits: Limits,
        clock: Clock,
        new_call_id: Callable[[], str],
    ) -> None:
        self._registry = registry
        self._pbxes = pbxes
        self._store = store
        self._airtime = airtime
        self._limits = limits
        self._clock = clock
        self._new_call_id = new_call_id

    def methods(self) -> Mapping[str, Method]:
        """By the names of LiveKit's service."""
        return {"CreateSIPParticipant": self._create_participant}

    def patience(self) -> Mapping[str, Callable[[Any], Patience]]:
        """For `twirp.Service`."""
        return {"CreateSIPParticipant": lambda asked: Patience(FOR_AN_ANSWER if asked.wait_until_answered else FOR_A_SEAT, MOST)}

    async def _create_participant(self, asked: sip.CreateSIPParticipantRequest, grants: Grants | None) -> Message:
        permit(grants is not None and grants.sip_call)
        with in_twirps_words():
            new = of_message(NewParticipant, asked)
            if soft := check_new_participant(new):
                log.warning("somebody is to be called with headers that others may not understand", why=soft)
            trunk = await self._trunk(new)
            request = self._request(new, trunk)
            self._limits.allowed.check(new.sip_call_to)
        left = await self._time_to_talk()
        note = self._note(new, trunk, request, min(self._limits.longest, left))
        await self._placed_and_waited_for(request, note, new.wait_until_answered)
        ticket = note.ticket
        assert ticket is not None  # noqa: S101  (written by _note)
        return sip.SIPParticipantInfo(participant_identity=ticket.identity, room_name=ticket.room_name, sip_call_id=note.call_id)

    async def _time_to_talk(self) -> float:
        """Seconds that are left of the day's. Calls that are up count for as long as they have talked, so that all of them together may
        go over it by what each had left when it began. Raises TwirpError, Unavailable."""
        now = self._clock.now()
        since = now - DAY
        live = [call.answered_at for call in self._registry.calls() if call.outgoing and call.answered_at is not None]
        talked = await self._airtime.talked_out(since) + sum(now - max(begin, since) for begin in live)
        if talked >= self._limits.daily:
            raise TwirpError(Code.RESOURCE_EXHAUSTED, "calls out have talked for as long as outbound.max_minutes_per_day allows")
        return self._limits.daily - talked

    async def _trunk(self, new: NewParticipant) -> OutboundTrunk:
        if not new.sip_trunk_id:
            raise InvalidObject("a call goes out by a trunk that is kept: give its sip_trunk_id")
        found = outbound_trunks(await self._store.read()).get(new.sip_trunk_id)
        if found is None:
            raise TwirpError(Code.NOT_FOUND, "requested SIP trunk does not exist")
        return found

    def _request(self, new: NewParticipant, trunk: OutboundTrunk) -> DialRequest:
        """Raises InvalidObject, TwirpError."""
        if USER.fullmatch(new.sip_call_to.replace("#", "")) is None or len(new.sip_call_to) > CALLED_LIMIT:
            raise InvalidObject(f"sip_call_to is a number, or a user of letters, digits and _ . ! ~ * ' + -: {CALLED_LIMIT} at most")
        if len(new.sip_number) > CALLED_LIMIT:
            raise InvalidObject(f"sip_number has more than {CALLED_LIMIT} characters")
        if not _DIGITS.issuperset(new.dtmf) or len(new.dtmf) > DIGITS_LIMIT:
            raise InvalidObject(f"dtmf is 0-9, *, #, A-D, and w for half a second's pause: {DIGITS_LIMIT} of them at most")
        for name in ("sip_request_uri", "sip_to_header", "sip_from_header", "to_user_override"):
            if getattr(new, name):
                raise InvalidObject(f"{name} is the PBX's: its endpoint writes those headers (docs/differences.md)")
        number = new.sip_number or (random.choice(trunk.numbers) if trunk.numbers else "")
        if not number:
            raise TwirpError(Code.FAILED_PRECONDITION, "the trunk has no number to call from")
        name = number if new.display_name is None else new.display_name
        limit = _seconds(new.ringing_timeout) or RINGING_TIMEOUT
        return DialRequest(trunk.sip_trunk_id, new.sip_call_to, number, name, {**trunk.headers, **new.headers}, limit)

    def _note(self, new: NewParticipant, trunk: OutboundTrunk, request: DialRequest, limit: float) -> CallNote:
        call_id, now = self._new_call_id(), self._clock.now()
        of_call = {"sip.callID": call_id, "sip.trunkID": trunk.sip_trunk_id, attributes.CALL_STATUS: attributes.DIALING}
        if not new.hide_phone_number:
            of_call |= {"sip.phoneNumber": request.to, "sip.hostname": trunk.address, "sip.trunkPhoneNumber": request.number}
        shown = "" if new.hide_phone_number else request.to
        ticket = RoomTicket(
            call_id=call_id,
            room_name=new.room_name,
            identity=new.participant_identity or f"sip_{request.to}",
            name=new.participant_name or f"Phone {shown}".strip(),
            metadata=new.participant_metadata,
            attributes={name: value for name, value in {**new.participant_attributes, **of_call}.items() if value},
            dial_tone=new.play_dialtone or new.play_ringtone,
        )
        longest = min(_seconds(new.max_call_duration) or limit, limit)
        media_timeout = _seconds(outbound_media(new, trunk).media_timeout)
        return CallNote(
            call_id=call_id,
            state=CallState.DIALING,
            started_at=now,
            trunk_id=trunk.sip_trunk_id,
            ticket=ticket,
            company_until=now + request.limit,
            over_at=now + longest,
            media_timeout=media_timeout or None,
            outgoing=True,
            digits=new.dtmf,
        )

    async def _placed_and_waited_for(self, request: DialRequest, note: CallNote, until_answered: bool) -> None:
        """Until there is a seat, or an answer. Who asked and waits no longer wants no answer either: the call ends."""
        placing = asyncio.create_task(self._placed(request, note))
        try:
            await self._wait(note.call_id, await asyncio.shield(placing), until_answered)
        except asyncio.CancelledError:
            wanted = not until_answered and time_left() > 0
            # Nobody can take half of a call back: the phone may ring before the PBX has told us of it.
            await asyncio.wait({placing})
            if placing.exception() is None and not wanted:
                self._end(note.call_id)
            raise

    async def _placed(self, request: DialRequest, note: CallNote) -> Progress:
        pbx = next((pbx for pbx in self._pbxes if pbx.can_dial(request.trunk_id)), None)
        if pbx is None:
            why = f"no PBX has a way out by trunk {request.trunk_id}: name an endpoint for it in pbx[].outbound_endpoints"
            raise TwirpError(Code.FAILED_PRECONDITION, why)
        try:
            return await self._registry.place(pbx, request, note)
        except (CannotDial, LocalProtocolError) as error:
            raise TwirpError(Code.FAILED_PRECONDITION, str(error)) from None
        except NoRoom as error:
            raise TwirpError(Code.RESOURCE_EXHAUSTED, str(error)) from None
        except Unavailable as error:
            raise TwirpError(Code.UNAVAILABLE, str(error)) from None

    async def _wait(self, call_id: str, progress: Progress, until_answered: bool) -> None:
        wanted = progress.answered if until_answered else progress.seated
        try:
            async with asyncio.timeout(max(0.0, time_left() - MARGIN)):
                await first_of(wanted.wait(), progress.over.wait())
        except TimeoutError:
            self._end(call_id)
            raise TwirpError(Code.DEADLINE_EXCEEDED, "nobody has answered in the time of this request") from None
        if not wanted.is_set() and progress.why is not None:
            raise _failed(progress.why)

    def _end(self, call_id: str) -> None:
        try:
            self._registry.hang_up(call_id, EndReason.REQUESTED)
        except NoSuchCall:
            log.info("a call that nobody waits for any more has ended", call_id=call_id)


def _failed(record: CallRecord) -> TwirpError:
    if record.sip_status is not None and record.end_reason in (EndReason.DECLINED, EndReason.NO_ANSWER):
        return sip_error("call failed", record.sip_status, meta={"sip_call_id": record.call_id})
    return TwirpError(Code.UNAVAILABLE, f"the call ended: {record.detail or record.end_reason.value}", {"sip_call_id": record.call_id})


def _seconds(length: Any) -> float:
    return max(0.0, length.total_seconds()) if length is not None else 0.0
