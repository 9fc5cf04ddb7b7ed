"""Fetches what the real tests need, before they run: `python -m bridge.testing.real_parts`. What cannot be had is said; the tests decide
whether they do without it."""

import sys
from collections.abc import Callable

from bridge.errors import RoomlineError
from bridge.testing.get_asterisk import get_asterisk
from bridge.testing.livekit_server import get_livekit_server
from bridge.testing.redis_server import get_redis_server

PARTS: dict[str, Callable[[Callable[[str], None]], object]] = {
    "Asterisk": get_asterisk,
    "Redis": get_redis_server,
    "LiveKit's server": get_livekit_server,
}


def say(text: str) -> None:
    print(f"· {text}", file=sys.stderr, flush=True)


def main() -> None:
    for name, get in PARTS.items():
        try:
            get(say)
        except RoomlineError as error:
            say(f"{name} cannot be had: {error}")


if __name__ == "__main__":
    main()
