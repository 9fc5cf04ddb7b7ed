"""What the demo's operator has configured, and what its numbers are for."""

from typing import Any

PIN_NUMBER, PIN, PIN_ROOM = "+15550100", "1234", "lobby"
OPEN_NUMBER, OPEN_ROOM, ANNOUNCER_DELAY = "+15550111", "announcements", 3.0
NUMBER_WITHOUT_RULE = "+15550199"

AGENT, AGENT_PIN_ROOM, AGENT_OPEN_ROOM = "roomline-demo", "roomline-demo-lobby", "roomline-demo-reception"
"""With a LiveKit that may have rooms and agents of its own."""

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

AGENT_NUMBERS = (
    (PIN_NUMBER, f"a prompt for the PIN; {PIN}# lets you in, an agent greets you and sends back the keys you press"),
    (OPEN_NUMBER, "ringing, until LiveKit has dispatched the rule's agent and it speaks"),
    (NUMBER_WITHOUT_RULE, "404: no rule takes it"),
)


def livekit_configuration(rooms: dict[str, Any]) -> dict[str, Any]:
    """The same numbers with LiveKit's rooms: `rooms` as it stands in the file. Each rule's room configuration dispatches the agent."""
    names = {PIN_ROOM: AGENT_PIN_ROOM, OPEN_ROOM: AGENT_OPEN_ROOM}
    rules = []
    for rule in CONFIGURATION["dispatch_rules"]:
        direct = rule["rule"]["dispatch_rule_direct"]
        room = {**direct, "room_name": names[direct["room_name"]]}
        rules.append({**rule, "rule": {"dispatch_rule_direct": room}, "room_config": {"agents": [{"agent_name": AGENT}]}})
    return {**CONFIGURATION, "rooms": rooms, "media": {"workers": 1}, "dispatch_rules": rules}
