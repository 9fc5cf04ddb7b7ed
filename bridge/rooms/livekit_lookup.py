"""Who is in a LiveKit room, asked of its server over HTTP: quicker than joining, and the way to know that LiveKit is there at all.

The SDK's own session in the room is `livekit_session.py`'s.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
from google.protobuf.message import DecodeError
from livekit.api import LiveKitAPI, TwirpError
from livekit.api.room_service import RoomService
from livekit.api.twirp_client import TwirpErrorCode
from livekit.protocol.models import ParticipantInfo, TrackType
from livekit.protocol.room import ListParticipantsRequest, ListRoomsRequest

from bridge.errors import Unavailable
from bridge.model.ticket import RoomTicket
from bridge.rooms.livekit_token import SKEW, list_token, look_token
from bridge.rooms.options import LiveKitAccess

LIMIT: Final = 3.0
"""Seconds for one question: livekit-sip's limit for its lookups (§2.7), and well inside the 5 s that DESIGN §5 gives."""

EXPLANATION_LIMIT: Final = 0.4
"""Seconds that asking for a clearer reason may take: the caller waits for the end meanwhile."""

_Answer = TypeVar("_Answer")

_NOWHERE: Final = "roomline-probe"
"""A room that need not be there: asking for it shows that LiveKit answers and takes our key."""


class LiveKitLookup:
    """Keeps one HTTP session. Made inside a running loop; `close` ends it."""

    def __init__(self, access: LiveKitAccess) -> None:
        self._access = access
        self._ahead = 0.0
        """Seconds that LiveKit's clock was ahead of ours when it answered last."""
        watching = aiohttp.TraceConfig()
        watching.on_request_end.append(self._compare_clocks)
        self._session = aiohttp.ClientSession(trace_configs=[watching])

    async def probe(self) -> None:
        """Raises `Unavailable`, whose text says why, when no room could be had now."""
        await self._participants(_NOWHERE)

    async def has_company(self, room_name: str, identity: str) -> bool:
        """Somebody else publishes audio there, or another phone is there (§3.4 step 3). Raises `Unavailable`."""
        others = [each for each in await self._participants(room_name) if each.identity != identity]
        return any(
            each.kind == ParticipantInfo.Kind.SIP or any(track.type == TrackType.AUDIO for track in each.tracks)
            for each in others
            if each.state in (ParticipantInfo.State.JOINED, ParticipantInfo.State.ACTIVE)
        )

    async def is_there(self, room_name: str, identity: str) -> bool:
        """A participant of that identity, whoever it is. Raises `Unavailable`."""
        return any(each.identity == identity for each in await self._participants(room_name))

    async def why_not(self, ticket: RoomTicket, refused: str) -> str:
        """Why the ticket's participant was not let in, as clearly as can be known: what the SDK says of a full room is "500"."""
        room_name = ticket.room_name
        try:
            async with asyncio.timeout(EXPLANATION_LIMIT):
                rooms = await self._ask(list_token(self._access), lambda room: room.list_rooms(ListRoomsRequest(names=[room_name])))
                limit = max((room.max_participants for room in rooms.rooms), default=0) if rooms is not None else 0
                # Counted one by one: the room's own count is some seconds behind.
                here = len(await self._participants(room_name)) if limit else 0
        except TimeoutError:
            return refused
        except Unavailable as error:
            return str(error)
        if 0 < limit <= here:
            return f"the room is full: {here} of {limit} participants"
        if ticket.room_preset and " 500 " in refused:  # LiveKit itself writes the reason into its own log only
            return f"{refused}; does LiveKit have the room preset {ticket.room_preset!r} among its room_configurations?"
        return refused

    async def close(self) -> None:
        await self._session.close()

    async def _participants(self, room_name: str) -> list[ParticipantInfo]:
        """Empty where there is no such room."""
        token = look_token(self._access, room_name)
        answer = await self._ask(token, lambda room: room.list_participants(ListParticipantsRequest(room=room_name)))
        return list(answer.participants) if answer is not None else []

    async def _ask(self, token: str, question: Callable[[RoomService], Awaitable[_Answer]]) -> _Answer | None:
        """None where there is no such thing. Raises `Unavailable`."""
        client = LiveKitAPI.with_token(token, self._access.url, session=self._session)
        try:
            # The client's own limit never runs: it hands aiohttp `timeout=None`, which is none at all (livekit-api 1.2.2).
            async with asyncio.timeout(LIMIT):
                return await question(client.room)
        except TwirpError as error:
            if error.code == TwirpErrorCode.NOT_FOUND:
                return None
            raise Unavailable(self._refusal(error)) from None
        except TimeoutError:
            raise Unavailable(f"LiveKit does not answer within {LIMIT:g} s ({where(self._access)})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"LiveKit cannot be reached ({where(self._access)}): {error}") from None
        except (DecodeError, AttributeError):  # the SDK takes for granted that an error is a JSON object
            raise Unavailable(f"what answers at {where(self._access)} is no LiveKit") from None

    def _refusal(self, error: TwirpError) -> str:
        if error.status not in (401, 403):
            return f"LiveKit answers {error.status}: {error.message or error.code}"
        if abs(self._ahead) > SKEW.total_seconds():
            apart = f"{abs(self._ahead) / 3600:.0f} hours {'ahead of' if self._ahead > 0 else 'behind'}"
            return f"LiveKit refuses our key ({where(self._access)}): its clock is {apart} ours, set both right"
        return f"LiveKit refuses our key ({where(self._access)}): are key and secret its own?"

    async def _compare_clocks(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, ended: aiohttp.TraceRequestEndParams
    ) -> None:
        """By the time that every HTTP server puts into its answers (RFC 9110, section 6.6.1)."""
        try:
            self._ahead = parsedate_to_datetime(ended.response.headers.get("Date", "")).timestamp() - time.time()
        except (ValueError, OverflowError):
            self._ahead = 0.0


def where(access: LiveKitAccess) -> str:
    """LiveKit's host and port, for a sentence: an operator may have put more into the URL than a log should see."""
    parts = urlsplit(access.url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
