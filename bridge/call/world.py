"""What every call needs of the world, put together once by the application, and how calls go."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bridge.call.clock import Clock
from bridge.call.pin import PinOptions
from bridge.call.throttle import Throttle
from bridge.dispatch.outcome import Dispatcher
from bridge.media.port import Node, Sound
from bridge.store.port import Journal


@dataclass(frozen=True, slots=True)
class StoryOptions:
    """How calls go. Times in seconds.

    `*_falls_back`: the operator's fallback instead of 503, for callers who have not been answered. `audio_timeout`: for the PBX's audio to
    come, or to come back after a loss. `node_timeout`: for a node to carry the call, when all have died at once; a new one needs one to
    four seconds, and the caller hears ringing or the PBX's music meanwhile. `media_timeout`: for the caller to send something again,
    `media_timeout_initial`: for the first time. `room_patience`: for a lost room to come back while the caller still waits.
    `control_timeout`: how long an unanswered call waits for a lost PBX connection; the PBX's own lease (5 s without a heartbeat) has taken
    it to the fallback before. `orphan_limit`: how long a caller who talks may talk on while the PBX hears nothing of us.
    `cleaning_timeout`: for each step of the end.
    """

    pin: PinOptions = field(default_factory=PinOptions)
    over_capacity_falls_back: bool = False
    room_failure_falls_back: bool = True
    seat_timeout: float = 5.0
    audio_timeout: float = 3.0
    node_timeout: float = 8.0
    media_timeout: float = 15.0
    media_timeout_initial: float = 30.0
    room_patience: float = 4.0
    control_timeout: float = 8.0
    orphan_limit: int = 30
    cleaning_timeout: float = 5.0
    announcement_timeout: float = 15.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`dispatcher` and `rule_metadata` (the metadata of a rule by its id, empty when it is gone) are asked anew for each call, so that a
    changed configuration counts at once. `choose_node`, `find_sound` and `room_for_more` are the registry's."""

    dispatcher: Callable[[], Dispatcher]
    choose_node: Callable[[], Node]
    find_sound: Callable[[str], Awaitable[Sound | None]]
    room_for_more: Callable[[], bool]
    rule_metadata: Callable[[str], str]
    room_suffix: Callable[[], str]
    throttle: Throttle
    journal: Journal
    clock: Clock
