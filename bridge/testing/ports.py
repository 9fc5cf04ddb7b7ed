"""Free ports for servers that cannot be asked to choose their own.

Chosen at random below the range from which systems give out ports by themselves (Linux: from 32768): so nobody's outgoing connection
takes one between our looking and the server's binding.
"""

import random
import socket

LOOPBACK = "127.0.0.1"


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
