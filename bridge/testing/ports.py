"""Free ports on loopback for servers that cannot be asked to choose their own.

Between choosing and binding another process may take one; whoever starts a server notices that and chooses anew.
"""

import random
import socket
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"


def free_port(host: str = LOOPBACK) -> int:
    """A port free for UDP and TCP at once (a SIP server wants both)."""
    for _ in range(50):
        with ExitStack() as held:
            tcp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            tcp.bind((host, 0))
            port: int = tcp.getsockname()[1]
            udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            try:
                udp.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port free for UDP and TCP on {host}")


def free_rtp_range(calls: int, host: str = LOOPBACK) -> tuple[int, int]:
    """First and last port for the RTP and RTCP of so many calls at once, below the ports that systems give out by themselves."""
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
