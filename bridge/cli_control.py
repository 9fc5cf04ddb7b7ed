"""What the command line asks of the server that runs, over its own API (`api/control.py`), and the tokens for that and for LiveKit's."""

import asyncio
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import typer

from bridge.api.auth import Grants, make_token
from bridge.api.control import PREFIX
from bridge.api.transfer import LONGEST_RINGING
from bridge.errors import ConfigurationError, RoomlineError
from bridge.model.record import LiveCall
from bridge.settings import Loaded

TOKEN_SECONDS: Final = 120
"""Of a token for one question, which may take as long as a transfer rings."""

PATIENCE: Final = 10.0
"""Seconds for an answer, beside the time that is asked for."""

_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  (where a server listens everywhere, this machine is)


class Refused(RoomlineError):  # noqa: N818  (an answer of the server's)
    """The server has said no; the text is its own."""


def token(loaded: Loaded, grants: Grants, seconds: float, key: str | None) -> str:
    """Signed with one of the server's keys, the first where none is named. Raises ConfigurationError."""
    keys = loaded.settings.api_keys
    if not keys:
        raise ConfigurationError(f"{loaded.file.path}: api.keys: there is no key to sign a token with")
    chosen = key if key is not None else next(iter(keys))
    if chosen not in keys:
        raise ConfigurationError(f"{loaded.file.path}: api.keys: there is no key {chosen!r}; there are {', '.join(keys)}")
    return make_token(chosen, keys[chosen], grants, seconds)


def live_calls(loaded: Loaded) -> list[LiveCall]:
    """The oldest first. Raises RoomlineError."""
    return [LiveCall.model_validate(call) for call in _ask(loaded, "GET", "/calls")["calls"]]


def hang_up(loaded: Loaded, call_id: str) -> None:
    """Raises RoomlineError."""
    _ask(loaded, "POST", f"/calls/{_part(call_id)}/hangup")


def hand_on(loaded: Loaded, call_id: str, to: str, *, dial_tone: bool, ringing_timeout: float) -> None:
    """Returns once somebody has taken the caller. Raises RoomlineError."""
    wanted = {"to": to, "play_dialtone": dial_tone, "ringing_timeout": ringing_timeout}
    _ask(loaded, "POST", f"/calls/{_part(call_id)}/transfer", wanted, LONGEST_RINGING)


def _part(text: str) -> str:
    """Of a path, whatever was typed."""
    return quote(text, safe="")


def _ask(loaded: Loaded, verb: str, path: str, body: Any = None, takes: float = 0.0) -> Any:
    return asyncio.run(_answer(loaded, verb, path, body, takes))


async def _answer(loaded: Loaded, verb: str, path: str, body: Any, takes: float) -> Any:
    if loaded.settings.api.listen is None:
        raise ConfigurationError(f"{loaded.file.path}: api.listen: the server's API is off: there is nobody to ask")
    host, port = loaded.settings.api.listen
    host = _ANY_ADDRESS.get(host, host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    headers = {"Authorization": f"Bearer {token(loaded, Grants(identity='roomline', sip_admin=True), TOKEN_SECONDS, None)}"}
    try:
        async with (
            asyncio.timeout(takes + PATIENCE),
            aiohttp.ClientSession(headers=headers) as session,
            session.request(verb, url + PREFIX + path, json=body) as response,
        ):
            answer = await response.json()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise RoomlineError(f"the server does not answer at {url}: {error or type(error).__name__}") from None
    if response.status >= 400:
        raise Refused(str(answer.get("message", response.status) if isinstance(answer, dict) else response.status))
    return answer


def live_call_line(call: LiveCall, began: str, seconds: float) -> str:
    """For a person: `began` is the moment as they read it."""
    where = f"room {call.room} as {call.identity}" if call.room else "no room yet"
    to = f", being handed on to {call.transfer_to}" if call.transfer_to else ""
    held = ", on hold" if call.held else ""
    return f"{call.call_id}  {began}  {call.number or '?'} → {call.called}  {where}  {seconds:.0f} s  {call.state.value}{held}{to}"


def grants_of(*, admin: bool, call: bool, room: str, identity: str) -> Grants:
    """Raises BadParameter for those that grant nothing."""
    if not (admin or call or room):
        raise typer.BadParameter("a token that grants nothing is of no use: say --admin, --call or --room")
    return Grants(identity=identity, sip_admin=admin, sip_call=call, room_admin=bool(room), room=room)
