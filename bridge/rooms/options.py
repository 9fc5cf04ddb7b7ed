"""What can be set in where callers go. Read with every configuration: nothing that works is loaded here."""

from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase


class BuiltInKind(StrEnum):
    """What a built-in participant does."""

    ECHO = "echo"  # says what it hears; publishes as soon as somebody is there
    ANNOUNCER = "announcer"  # publishes after `delay`, then says its text to whoever listens


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A participant that is in every room whose name matches `rooms`, a glob (`demo-*`, case matters).

    `delay` in seconds: how much later the echo says what it heard (0: on the next beat, as soon as anybody could), or how long
    after the first phone came the announcer publishes. `loop`: the announcer begins anew at its end.
    """

    rooms: str
    kind: BuiltInKind
    delay: float = 0.0
    loop: bool = False

    def is_in(self, room_name: str) -> bool:
        return fnmatchcase(room_name, self.rooms)


@dataclass(frozen=True, slots=True)
class LiveKitAccess:
    """Where LiveKit is, and our key to it. `secret` is in no repr."""

    url: str
    key: str
    secret: str = field(repr=False)
