"""What the real LiveKit tests share: the operator's numbers, and what a caller's participant has to look like."""

from typing import Any

from bridge.testing.livekit_server import LiveKitServer
from tests.real.scenario import PIN, direct

OPEN, WITH_PIN, IMPATIENT, FULL, SHORT = (f"+1555100{number}" for number in range(1, 6))
COMPANY, EMPTY, PIN_FIRST, PIN_EMPTY = (f"+1555200{number}" for number in range(1, 5))
TRUNK_NAME = "the carrier"
METADATA = '{"team": "support"}'


def configuration(livekit: LiveKitServer, **media: Any) -> dict[str, Any]:
    return {
        "rooms": livekit.rooms() | {"lost_limit": 12},
        "media": {"workers": 1, "orphan_limit": 10} | media,
        "trunks": [
            {
                "sip_trunk_id": "ST_carrier",
                "name": TRUNK_NAME,
                "numbers": [OPEN, WITH_PIN, FULL],
                "include_headers": "SIP_X_HEADERS",
                "headers_to_attributes": {"X-Customer": "customer"},
            },
            {"sip_trunk_id": "ST_impatient", "numbers": [IMPATIENT], "ringing_timeout": "2s"},
            {"sip_trunk_id": "ST_short", "numbers": [SHORT], "max_call_duration": "4s"},
        ],
        "dispatch_rules": [
            direct(OPEN, "open") | {"sip_dispatch_rule_id": "SDR_open", "metadata": METADATA, "attributes": {"team": "support"}},
            direct(WITH_PIN, "behind-a-pin", PIN) | {"sip_dispatch_rule_id": "SDR_pin"},
            direct(IMPATIENT, "nobody"),
            direct(FULL, "full"),
            direct(SHORT, "short"),
        ],
    }


def death_configuration(livekit: LiveKitServer) -> dict[str, Any]:
    """A number for each state of a call; two nodes, so that one is left. `orphan_limit` as an operator has it who sets none: a start of the
    server may take 10 s on a busy machine."""
    return {
        "rooms": livekit.rooms() | {"lost_limit": 12},
        "media": {"workers": 2},
        "dispatch_rules": [
            direct(COMPANY, "company"),
            direct(EMPTY, "nobody"),
            direct(PIN_FIRST, "first", PIN),
            direct(PIN_EMPTY, "nobody-behind-a-pin", PIN),
        ],
    }
