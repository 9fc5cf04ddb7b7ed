"""What LiveKit's methods share: which grant they ask for (livekit-sip-semantics.md §0.2), and what lies below in Twirp's words."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import Message

from bridge.api.auth import Grants
from bridge.api.twirp import Code, Method, TwirpError
from bridge.dispatch.conflicts import Conflict
from bridge.model.target import TargetRefused
from bridge.model.validation import InvalidObject
from bridge.store.port import ReadOnlyObject
from bridge.store.protobuf import NotUnderstood, NotWritable

Asked = Callable[[Any], Awaitable[Message]]
"""A method once it is known that its asker may."""


def for_sip_admins(method: Asked) -> Method:
    """One that configures."""

    async def asked_by(asked: Any, grants: Grants | None) -> Message:
        permit(grants is not None and grants.sip_admin)
        with in_twirps_words():
            return await method(asked)

    return asked_by


def permit(permitted: bool) -> None:
    """Raises TwirpError."""
    if not permitted:
        # Not permission_denied (trap 16).
        raise TwirpError(Code.UNAUTHENTICATED, "permissions denied")


@contextmanager
def in_twirps_words() -> Iterator[None]:
    """Refusals of what lies below, as TwirpError."""
    try:
        yield
    except (InvalidObject, Conflict, NotUnderstood, NotWritable) as error:
        raise TwirpError(Code.INVALID_ARGUMENT, str(error)) from None
    except ReadOnlyObject as error:
        raise TwirpError(Code.FAILED_PRECONDITION, str(error)) from None
    except TargetRefused as error:
        raise TwirpError(Code.PERMISSION_DENIED, str(error)) from None
