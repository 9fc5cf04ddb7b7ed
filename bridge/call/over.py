"""How a story is told that it is over: one exception carries the reason and the way to end, from wherever it was noticed."""

from collections.abc import Iterator

from bridge.errors import LegGone, NodeGone, Superseded
from bridge.media.port import ClipName
from bridge.model.ending import EndedBy, Ending, EndReason


class CallOver(Exception):  # noqa: N818  (the end of a call is no error)
    """The call ends now.

    `status` is what an unanswered caller is told, `fall_back` takes the call to the operator's fallback instead, `clip` is what an
    answered caller hears before the end, `gone` says that the leg has ended already.
    """

    def __init__(
        self,
        reason: EndReason,
        by: EndedBy = EndedBy.ROOMLINE,
        *,
        detail: str = "",
        status: int = 486,
        clip: ClipName | None = None,
        fall_back: bool = False,
        gone: bool = False,
        seen_status: int | None = None,
    ) -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.by = by
        self.detail = detail
        self.status = status
        self.clip = clip
        self.fall_back = fall_back
        self.gone = gone
        self.seen_status = seen_status


def leg_ended(ending: Ending, answered: bool, *, outgoing: bool = False) -> CallOver:
    """What a leg's end means for the story. `outgoing`: the call is one of ours."""
    if outgoing and not answered and ending.by is not EndedBy.ROOMLINE:
        return _not_taken(ending)
    if ending.fell_back:
        reason, by = EndReason.FELL_BACK, EndedBy.PBX
    elif ending.taken_away:
        reason, by = EndReason.TAKEN_AWAY, EndedBy.PBX
    elif ending.transfer_refused:
        reason, by = EndReason.TRANSFER_REFUSED, EndedBy.PBX
    elif ending.by is EndedBy.CALLER:
        reason, by = (EndReason.HANGUP if answered else EndReason.CANCELLED), EndedBy.CALLER
    elif ending.by is EndedBy.PBX:
        reason, by = EndReason.PBX_GONE, EndedBy.PBX
    else:
        reason, by = EndReason.HANGUP, ending.by
    return CallOver(reason, by, detail=ending.cause, gone=True, seen_status=ending.sip_status)


def _not_taken(ending: Ending) -> CallOver:
    """Who was called did not answer."""
    if ending.sip_status is None:
        return CallOver(EndReason.PBX_GONE, EndedBy.PBX, detail=ending.cause, gone=True)
    reason = EndReason.NO_ANSWER if ending.sip_status in (408, 480) else EndReason.DECLINED
    return CallOver(reason, EndedBy.CALLER, detail=ending.cause, gone=True, seen_status=ending.sip_status)


def room_failed(detail: str, *, falls_back: bool, answered: bool, by: EndedBy = EndedBy.ROOMLINE) -> CallOver:
    """A room that could not be had, or was lost: an answered caller hears an announcement, one who still rings gets the fallback or 503."""
    fall_back = falls_back and not answered
    return CallOver(EndReason.ROOM_FAILED, by, detail=detail, status=503, fall_back=fall_back, clip=ClipName.UNAVAILABLE)


def causes(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Everything that went wrong at once, what the call ended of first: the leg's own end, then a newer controller, then our reasons,
    then a lost node, then faults."""
    return sorted(_leaves(group), key=_rank)


def _rank(cause: BaseException) -> int:
    if isinstance(cause, LegGone) or (isinstance(cause, CallOver) and cause.gone):
        return 0
    ranks: list[type[BaseException]] = [Superseded, CallOver, NodeGone]
    return next((rank for rank, kind in enumerate(ranks, start=1) if isinstance(cause, kind)), len(ranks) + 1)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
