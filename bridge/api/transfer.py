"""Handing callers on, asked for over HTTP: LiveKit's TransferSIPParticipant (livekit-sip-semantics.md §1.12, §3.9), and the same for the
control API. Who may be called is `model/target.py`'s, what becomes of the call `call/handing_on.py`'s.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog
from google.protobuf.message import Message
from livekit.protocol import sip

from bridge.api.access import in_twirps_words, permit
from bridge.api.auth import Grants
from bridge.api.sip_status import detailed, sip_error
from bridge.api.twirp import Code, Method, TwirpError, time_left
from bridge.call.registry import NoSuchCall
from bridge.model.record import LiveCall
from bridge.model.target import AllowedTargets, InvalidTarget, Target
from bridge.model.validation import InvalidObject, check_participant, check_transfer
from bridge.pbx.port import TransferFailure, TransferResult

log = structlog.get_logger(__name__)

RINGING_TIMEOUT: Final = 30.0
"""Seconds for somebody to take the caller, where the request says nothing."""

LONGEST_RINGING: Final = 55.0
"""Seconds: the PBX's own limit, for the case that we are no more, comes after it."""

MARGIN: Final = 0.25
"""Seconds of the request's own time that are kept for its answer."""

PREFIX: Final = "STR_"

FAILED: Final = "call transfer failed"

_NOT_TRIED: Final[Mapping[TransferFailure | None, Code]] = {
    TransferFailure.NO_CALL: Code.NOT_FOUND,
    TransferFailure.NOT_TALKING: Code.FAILED_PRECONDITION,
    TransferFailure.ELSEWHERE: Code.INVALID_ARGUMENT,
    TransferFailure.NOT_SENT: Code.UNAVAILABLE,
}


class Calls(Protocol):
    """What is asked of the registry here."""

    def calls(self) -> Sequence[LiveCall]: ...

    async def transfer(
        self, call_id: str, to: str, headers: Mapping[str, str] | None = None, timeout: float = ..., *, dial_tone: bool = False
    ) -> TransferResult: ...


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """Where to, as it was asked: not looked at yet. `ringing_timeout` in seconds; 0 for the default."""

    to: str
    headers: Mapping[str, str] = field(default_factory=dict)
    play_dialtone: bool = False
    ringing_timeout: float = 0.0


class Transfers:
    """`is_there`: whether a room has a participant of this identity, asked where no call of ours is one."""

    def __init__(
        self,
        calls: Calls,
        allowed: AllowedTargets,
        new_letters: Callable[[], str],
        is_there: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        self._calls = calls
        self._allowed = allowed
        self._new_letters = new_letters
        self._is_there = is_there

    def methods(self) -> Mapping[str, Method]:
        """By the names of LiveKit's service."""
        return {"TransferSIPParticipant": self._transfer_participant}

    async def _transfer_participant(self, asked: sip.TransferSIPParticipantRequest, grants: Grants | None) -> Message:
        with in_twirps_words():
            check_participant(asked.room_name, asked.participant_identity)
            permit(grants is not None and grants.sip_call)
            permit(grants is not None and grants.room_admin and grants.room == asked.room_name)
            request = TransferRequest(asked.transfer_to, dict(asked.headers), asked.play_dialtone, _seconds(asked))
            order = self._looked_at(request)
            call_id = await self._call_of(asked.room_name, asked.participant_identity)
            return await self._hand_on(call_id, order)

    async def hand_on(self, call_id: str, request: TransferRequest) -> sip.TransferSIPParticipantResponse:
        """Returns once somebody has taken the caller. Raises TwirpError, whose meta tells the SIP status of a refusal."""
        with in_twirps_words():
            return await self._hand_on(call_id, self._looked_at(request))

    def _looked_at(self, request: TransferRequest) -> TransferRequest:
        """With a target that may be called. Raises InvalidObject, TargetRefused."""
        to, soft = check_transfer(request.to, request.headers)
        try:
            target = Target.parse(to)
        except InvalidTarget as error:
            raise InvalidObject(f"transfer_to: {error}") from None
        if soft:
            log.warning("a transfer is asked for with headers that others may not understand", why=soft)
        self._allowed.check(target.user, target.host)
        asked_for = request.ringing_timeout if request.ringing_timeout > 0 else RINGING_TIMEOUT
        return TransferRequest(target.name_address, request.headers, request.play_dialtone, min(asked_for, LONGEST_RINGING))

    async def _call_of(self, room_name: str, identity: str) -> str:
        for call in self._calls.calls():
            if (call.room, call.identity) == (room_name, identity):
                return call.call_id
        if await self._is_there(room_name, identity):
            raise TwirpError(Code.INVALID_ARGUMENT, "no SIP session associated with participant")
        raise TwirpError(Code.NOT_FOUND, "participant does not exist")

    async def _hand_on(self, call_id: str, order: TransferRequest) -> sip.TransferSIPParticipantResponse:
        transfer_id = PREFIX + self._new_letters()
        limit = max(0.0, min(order.ringing_timeout, time_left() - MARGIN))
        try:
            result = await self._calls.transfer(call_id, order.to, order.headers, limit, dial_tone=order.play_dialtone)
        except NoSuchCall as error:
            raise TwirpError(Code.NOT_FOUND, str(error)) from None
        if result.ok or result.failure is TransferFailure.CALL_ENDED:
            # The end of a call that was asked to go elsewhere counts as success (§3.9).
            reason = sip.STR_COMPLETED if result.ok else sip.STR_CALL_ENDED
            # Without a SIP status: SDKs of yesterday stumble over one (trap 12).
            return sip.TransferSIPParticipantResponse(transfer_id=transfer_id, status=sip.STS_TRANSFER_SUCCESSFUL, reason=reason)
        raise _failed(transfer_id, result)


def _failed(transfer_id: str, result: TransferResult) -> TwirpError:
    if result.failure in _NOT_TRIED:
        return TwirpError(_NOT_TRIED[result.failure], result.reason)
    timed_out = result.failure is TransferFailure.TIMED_OUT
    # Without a status: no caller by SIP, or one whose side has not answered at all.
    status = result.sip_status if result.sip_status is not None and 300 <= result.sip_status < 700 else None
    detail = sip.SIPTransferError(transfer_id=transfer_id, reason=sip.STR_RINGING_TIMEOUT if timed_out else sip.STR_REJECTED)
    meta = {"sip_transfer_id": transfer_id, "sip_transfer_reason": sip.SIPTransferReason.Name(detail.reason)}
    if not timed_out and status is not None:
        detail.sip_status.code = status  # type: ignore[assignment]  # an open enum: any status
        return sip_error(FAILED, status, meta=meta, details=[detail])
    why = result.reason if timed_out else f"the caller's side says {result.reason or 'nothing'}"
    return detailed(Code.CANCELED if timed_out else Code.FAILED_PRECONDITION, f"{FAILED}: {why}", meta, [detail])


def _seconds(asked: sip.TransferSIPParticipantRequest) -> float:
    if not asked.HasField("ringing_timeout"):
        return 0.0
    return asked.ringing_timeout.seconds + asked.ringing_timeout.nanos / 1e9


async def nobody_else(_room_name: str, _identity: str) -> bool:
    """For rooms in which there are callers and nobody else."""
    return False
