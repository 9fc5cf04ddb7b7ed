"""Does the carrier that `carrier_program serve` has started answer? `python -m bridge.testing.carrier_health`: exit status 0 if so.

A module of its own that imports next to nothing: a container's health is asked for every few seconds.
"""

import os
import socket
import sys

SIP_PORT = 5060
DEFAULT_PBX = "asterisk:5060"


def main() -> int:
    host = own_address(pbx_address())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.settimeout(2.0)
        ours.bind((host, 0))
        port = ours.getsockname()[1]
        ours.sendto(
            f"OPTIONS sip:health@{host}:{SIP_PORT} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{port}\r\n"
            f"From: <sip:health@{host}>;tag={port}\r\nTo: <sip:health@{host}>\r\nCall-ID: {port}@{host}\r\nCSeq: 1 OPTIONS\r\n"
            f"Contact: <sip:health@{host}:{port}>\r\nMax-Forwards: 1\r\nContent-Length: 0\r\n\r\n".encode(),
            (host, SIP_PORT),
        )
        try:
            return 0 if ours.recv(4096).startswith(b"SIP/2.0") else 1
        except (TimeoutError, ConnectionError):
            return 1


def pbx_address() -> tuple[str, int]:
    """Of $PBX, by its number: Asterisk would look the name up anew for each call. Raises OSError."""
    host, _, port = os.environ.get("PBX", DEFAULT_PBX).rpartition(":")
    return socket.gethostbyname(host), int(port)


def own_address(pbx: tuple[str, int]) -> str:
    """The one by which the PBX sees us."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(pbx)  # picks a route, sends nothing
        address: str = probe.getsockname()[0]
        return address


if __name__ == "__main__":
    sys.exit(main())
