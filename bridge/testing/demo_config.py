"""What the demo's operator has configured, and what its numbers are for."""

from typing import Any

PIN_NUMBER, PIN, PIN_ROOM = "+15550100", "1234", "lobby"
OPEN_NUMBER, OPEN_ROOM, ANNOUNCER_DELAY = "+15550111", "announcements", 3.0
NUMBER_WITHOUT_RULE = "+15550199"

CONFIGURATION: dict[str, Any] = {
    "rooms": {
        "kind": "local",
        "participants": [
            {"rooms": PIN_ROOM, "kind": "echo"},
            {"rooms": OPEN_ROOM, "kind": "announcer", "delay": ANNOUNCER_DELAY, "loop": True},
        ],
    },
    "trunks": [
        {"sip_trunk_id": "ST_pin", "name": "the lobby's number", "numbers": [PIN_NUMBER]},
        {"sip_trunk_id": "ST_open", "name": "the announcer's number", "numbers": [OPEN_NUMBER]},
        {"sip_trunk_id": "ST_idle", "name": "a number with no rule", "numbers": [NUMBER_WITHOUT_RULE]},
    ],
    "dispatch_rules": [
        {
            "sip_dispatch_rule_id": "SDR_pin",
            "name": "the lobby, with a PIN",
            "trunk_ids": ["ST_pin"],
            "rule": {"dispatch_rule_direct": {"room_name": PIN_ROOM, "pin": PIN}},
        },
        {
            "sip_dispatch_rule_id": "SDR_open",
            "name": "the announcer, for everybody",
            "trunk_ids": ["ST_open"],
            "rule": {"dispatch_rule_direct": {"room_name": OPEN_ROOM}},
        },
    ],
}

NUMBERS = (
    (PIN_NUMBER, f"a prompt for the PIN; {PIN}# lets you in, and an echo says what you say"),
    (OPEN_NUMBER, f"ringing, until the announcer comes {ANNOUNCER_DELAY:.0f} s later and speaks"),
    (NUMBER_WITHOUT_RULE, "404: no rule takes it"),
)
