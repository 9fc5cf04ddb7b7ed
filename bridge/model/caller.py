"""What is known of who calls, as the PBX tells it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Caller:
    """One inbound call before anything was decided. Every text is what the caller's side sent: hostile until proven otherwise.

    `called` and `number` are what the PBX's dialplan holds (`EXTEN`, `CALLERID(num)`), which are LiveKit's To user and From user
    unless the operator rewrote them on purpose. `trunk_id` is the trunk as which the PBX authenticated the caller, or that the
    operator's `trusted_endpoints` names for its endpoint; empty when neither.
    """

    number: str
    called: str
    display_name: str = ""
    host: str = ""
    source_address: str = ""
    sip_call_id: str = ""
    sip_tag: str = ""
    endpoint: str = ""
    trunk_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    wideband: bool = False
