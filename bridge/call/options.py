"""What can be set in how calls go. Read with every configuration: nothing that works is loaded here."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PinOptions:
    """How the dialogue goes. Seconds are counted from the end of the prompt to the first key, then from key to key."""

    attempts: int = 1
    first_digit_timeout: float = 10.0
    digit_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """`burst` guesses at once, then one each `refill` seconds."""

    burst: int
    refill: float


@dataclass(frozen=True, slots=True)
class ThrottleOptions:
    """The limits of wrong PINs, by what they are counted for."""

    source: Bucket = field(default_factory=lambda: Bucket(10, 60.0))
    called: Bucket = field(default_factory=lambda: Bucket(20, 120.0))
    rule: Bucket = field(default_factory=lambda: Bucket(20, 300.0))


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """`call_limit`: calls at the same time; over it a new one gets 503 or the fallback. `outgoing_limit`: of them, calls of ours."""

    call_limit: int = 100
    outgoing_limit: int = 10


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
