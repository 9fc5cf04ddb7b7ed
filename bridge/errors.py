"""The error tree: who broke the rule decides what may be done about it. Adapters translate their libraries' errors into these."""


class RoomlineError(Exception):
    """Root of every error Roomline raises on purpose. Its text is shown to people: it names the place and what to do."""


class ConfigurationError(RoomlineError):
    """The operator's configuration is wrong; the text names file, line and key."""


class LocalProtocolError(RoomlineError):
    """We were about to break a protocol (a CR in an AMI value, an oversized frame). Nothing was sent."""


class RemoteProtocolError(RoomlineError):
    """The other side broke a protocol. Any bytes are either understood or end in this, never in anything else."""


class Unavailable(RoomlineError):  # noqa: N818  (a state of the outside world, not a mistake)
    """The PBX, a node or a room service cannot be reached or did not answer in time."""


class NodeGone(Unavailable):
    """The node that carried the call's sound is gone; the call needs a new one."""


class CannotDial(RoomlineError):  # noqa: N818  (an answer, not a fault)
    """The PBX has no way to call somebody; the text says what its operator can do."""


class LegGone(RoomlineError):  # noqa: N818  (an ordinary event in a call's life)
    """The phone call this was meant for has ended; `Leg.ended()` tells how."""


class Superseded(RoomlineError):  # noqa: N818  (an ordinary event in a controller's life)
    """A newer controller has taken this PBX over: stop commanding it, leave its calls alone."""
