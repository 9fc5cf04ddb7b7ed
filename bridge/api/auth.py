"""Who may ask for what: LiveKit's tokens, JWTs signed with an API key's secret (livekit-sip-semantics.md §0.2).

A token is looked at before anything else of a request is; what its bearer may do is asked by each method.
"""

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
import jwt.types
import jwt.warnings
from pydantic import SecretStr

from bridge.errors import RoomlineError

ALGORITHM: Final = "HS256"
"""The only one: a token chooses neither `none` nor a public-key algorithm that would take our secret for a key."""

LEEWAY: Final = 60.0
"""Seconds that two clocks may differ by, as in LiveKit."""

LONGEST: Final = 16_384
"""Bytes of a token: LiveKit's own fit into a header of 8 KB."""

_BEARER: Final = "Bearer "

_SIGNATURE_ONLY: Final[jwt.types.Options] = {
    "verify_exp": False,  # times are compared here, by the clock that is passed in
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_sub": False,
}


# How long a secret is, is the operator's affair, and `roomline check`'s: the library would warn of it with each token.
warnings.filterwarnings("ignore", category=jwt.warnings.InsecureKeyLengthWarning)


class BadToken(RoomlineError):  # noqa: N818  (says what it is)
    """Answered with 401 and this text. Holds nothing of the token."""


@dataclass(frozen=True, slots=True)
class Grants:
    """What a token's bearer may do. `room_admin` is for the room named `room` only."""

    identity: str = ""
    sip_admin: bool = False
    sip_call: bool = False
    room_admin: bool = False
    room: str = ""


def make_token(key: str, secret: SecretStr, grants: Grants, seconds: float, now: float | None = None) -> str:
    """A token for these grants, good from `now` (Unix time) for so many seconds: what LiveKit's own tools make."""
    now = time.time() if now is None else now
    sip = {"admin": grants.sip_admin, "call": grants.sip_call}
    video = {"roomAdmin": grants.room_admin, "room": grants.room}
    claims: dict[str, Any] = {"iss": key, "nbf": int(now), "exp": int(now + seconds)}
    for name, claim in (("sub", grants.identity), ("sip", _set(sip)), ("video", _set(video))):
        if claim:
            claims[name] = claim
    return jwt.encode(claims, secret.get_secret_value(), algorithm=ALGORITHM)


def _set(claims: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if value}


class Keys:
    """API keys and their secrets."""

    def __init__(self, secrets: Mapping[str, SecretStr]) -> None:
        self._secrets = dict(secrets)

    def grants(self, authorization: str | None, parameter: str | None = None, now: float | None = None) -> Grants | None:
        """Of the header `Authorization`, else of the parameter `access_token`; None where both are missing or empty, which each method
        answers by itself. `now` is Unix time. Raises BadToken."""
        if authorization:
            if not authorization.startswith(_BEARER):
                raise BadToken('invalid authorization header: it must start with "Bearer "')
            token = authorization.removeprefix(_BEARER)
        elif parameter:
            token = parameter
        else:
            return None
        return _granted(self._claims(token, time.time() if now is None else now))

    def _claims(self, token: str, now: float) -> Mapping[str, Any]:
        if len(token) > LONGEST:
            raise BadToken("invalid authorization token: it is too long")
        try:
            unverified = jwt.decode(token, options={"verify_signature": False}, algorithms=[ALGORITHM])
            secret = self._secrets.get(unverified["iss"]) if isinstance(unverified.get("iss"), str) else None
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            raise BadToken("invalid authorization token") from None
        if secret is None:
            raise BadToken("invalid API key")
        try:
            claims = jwt.decode(token, secret.get_secret_value(), algorithms=[ALGORITHM], options=_SIGNATURE_ONLY)
        except (jwt.InvalidTokenError, ValueError):
            raise BadToken("invalid token: its signature is not one of this API key") from None
        _check_times(claims, now)
        return claims


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    expires, begins, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is not None and now - LEEWAY > expires:
        raise BadToken("invalid token: it has expired")
    if begins is not None and now + LEEWAY < begins:
        raise BadToken("invalid token: it is not valid yet")
    if issued is not None and now + LEEWAY < issued:
        raise BadToken("invalid token: it was issued in the future")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(at := float(value)):
            return at
    except OverflowError:
        pass  # said below
    raise BadToken(f"invalid token: {name} is no time")


def _granted(claims: Mapping[str, Any]) -> Grants:
    sip, video, identity = claims.get("sip"), claims.get("video"), claims.get("sub")
    sip, video = sip if isinstance(sip, dict) else {}, video if isinstance(video, dict) else {}
    room = video.get("room")
    return Grants(
        identity=identity if isinstance(identity, str) else "",
        sip_admin=sip.get("admin") is True,
        sip_call=sip.get("call") is True,
        room_admin=video.get("roomAdmin") is True,
        room=room if isinstance(room, str) else "",
    )
