"""Free ports for servers that cannot be asked to choose their own.

Chosen at random below the range from which systems give out ports by themselves (Linux: from 32768): so nobody's outgoing connection
takes one between our looking and the server's binding. And each given to one asker only, in this process and its neighbours: of a few
thousand ports the hundreds of servers of a test run would else pick the same one twice, and an Asterisk's manager be another's.
"""

import atexit
import random
import socket
from collections import deque

LOOPBACK = "127.0.0.1"

_given: deque[socket.socket] = deque()
"""Names held in Linux's abstract namespace, one for each port given out. They go with the process that holds them."""


@atexit.register
def _forget() -> None:
    while _given:
        _given.popleft().close()


_REMEMBERED = 300
"""So many of the last ones: by then their servers have bound them, or have ended."""


def _claim(port: int) -> bool:
    """Whether nobody else on this machine was given it lately."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0roomline-port-{port}")
    except OSError:
        claim.close()
        return False
    _given.append(claim)
    if len(_given) > _REMEMBERED:
        _given.popleft().close()
    return True


def free_port(host: str = LOOPBACK) -> int:
    """A port free for UDP and TCP at once (a SIP server wants both)."""
    for _ in range(50):
        port = random.randrange(5_200, 10_000)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind((host, port))
                udp.bind((host, port))
            except OSError:
                continue
            if _claim(port):
                return port
    raise OSError(f"no port free for UDP and TCP on {host}")


def free_rtp_range(calls: int, host: str = LOOPBACK) -> tuple[int, int]:
    """First and last port for the RTP and RTCP of so many calls at once."""
    width = max(4 * calls, 40)
    for _ in range(50):
        first = random.randrange(10_000, 32_000 - width, 2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as low, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as high:
            try:
                low.bind((host, first))
                high.bind((host, first + width - 1))
            except OSError:
                continue
            return first, first + width - 1
    raise OSError(f"no {width} ports free for RTP on {host}")
