"""The trunks and rules of a LiveKit server, or of LiveKit's cloud, read over its API with the operator's key."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import aiohttp
from google.protobuf.message import Message
from livekit.api import LiveKitAPI, TwirpError
from livekit.protocol.models import Pagination
from livekit.protocol.sip import ListSIPDispatchRuleRequest, ListSIPInboundTrunkRequest, ListSIPOutboundTrunkRequest

from bridge.errors import Unavailable
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, OutboundTrunk
from bridge.rooms.options import LiveKitAccess
from bridge.store.inventory import edited
from bridge.store.port import Edit, Inventory, StoredObject
from bridge.store.protobuf import NotUnderstood, of_message

_Model = TypeVar("_Model", InboundTrunk, OutboundTrunk, DispatchRule)

PAGE: Final = 1000
PATIENCE: Final = 60.0
"""Seconds for all of it; the client has no limit of its own."""


async def read_livekit(access: LiveKitAccess) -> tuple[Inventory, tuple[str, ...]]:
    """Everything there is, and sentences about what was passed over. Raises Unavailable."""
    skipped: list[str] = []
    client = LiveKitAPI(access.url, access.key, access.secret)
    try:
        async with asyncio.timeout(PATIENCE):
            inbound = await _all(client.sip.list_inbound_trunk, ListSIPInboundTrunkRequest, "sip_trunk_id")
            outbound = await _all(client.sip.list_outbound_trunk, ListSIPOutboundTrunkRequest, "sip_trunk_id")
            rules = await _all(client.sip.list_dispatch_rule, ListSIPDispatchRuleRequest, "sip_dispatch_rule_id")
    except TwirpError as error:
        raise Unavailable(f"LiveKit at {access.url} refuses: {error.code}: {error.message}") from None
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise Unavailable(f"LiveKit at {access.url} cannot be read: {error or type(error).__name__}") from None
    finally:
        await client.aclose()
    found: tuple[StoredObject, ...] = (
        *_models(InboundTrunk, inbound, skipped),
        *_models(OutboundTrunk, outbound, skipped),
        *_models(DispatchRule, rules, skipped),
    )
    return edited(Inventory(), Edit(put=found)), tuple(skipped)


async def _all(ask: Callable[[Any], Awaitable[Any]], request: Callable[..., Any], id_field: str) -> Sequence[Message]:
    """The cloud gives a page at a time, the open-source server all at once whatever the limit."""
    found: dict[str, Message] = {}
    after = ""
    while True:
        answer = await ask(request(page=Pagination(after_id=after, limit=PAGE)))
        more = {getattr(item, id_field): item for item in answer.items if getattr(item, id_field) not in found}
        if not more:
            return list(found.values())
        found |= more
        after = max(more)


def _models(model: type[_Model], messages: Sequence[Message], skipped: list[str]) -> list[_Model]:
    understood: list[_Model] = []
    for message in messages:
        try:
            understood.append(of_message(model, message))
        except NotUnderstood as error:
            field = "sip_dispatch_rule_id" if model is DispatchRule else "sip_trunk_id"
            skipped.append(f"{getattr(message, field)}: {error}")
    return understood
