"""What is changed below the SDK's public face."""

import asyncio
import json
import signal
import subprocess
import sys

from livekit.rtc._proto import ffi_pb2 as ffi

from bridge.rooms.livekit_ffi import joining_by_one_try


def asked(request: ffi.FfiRequest) -> ffi.FfiRequest:
    """What the native side gets of this request."""
    got: list[ffi.FfiRequest] = []

    def ask(request: ffi.FfiRequest) -> ffi.FfiResponse:
        got.append(request)
        return ffi.FfiResponse()

    assert joining_by_one_try(ask)(request) == ffi.FfiResponse()
    return got[0]


def test_given_a_join_then_the_sdk_is_told_to_try_once() -> None:
    request = ffi.FfiRequest()
    request.connect.url = "ws://livekit"
    connect = asked(request).connect
    assert (connect.url, connect.options.HasField("join_retries"), connect.options.join_retries) == ("ws://livekit", True, 0)


def test_given_any_other_request_then_it_is_left_alone() -> None:
    request = ffi.FfiRequest()
    request.disconnect.room_handle = 7
    before = request.SerializeToString()
    assert asked(request).SerializeToString() == before


UNTRIED = """
import json, os
import structlog
from livekit.rtc import _ffi_client as client
from livekit.rtc._proto import ffi_pb2 as ffi
from bridge.rooms.livekit_ffi import audio_way
asked = []
client.FfiClient.instance.request = lambda request: asked.append(request) or ffi.FfiResponse()
with structlog.testing.capture_logs() as logs:
    ways = [type(audio_way("99.0")).__name__ for _ in range(3)]
request = ffi.FfiRequest()
request.connect.url = "ws://livekit"
client.FfiClient.instance.request(request)
options = asked[0].connect.options
print(json.dumps([ways, logs, options.HasField("join_retries") and options.join_retries == 0]), flush=True)
os._exit(0)
"""
"""Ends at once: the SDK's native side calls into an interpreter that is on its way out now and then, and aborts."""


def test_given_a_version_that_is_new_to_us_then_the_public_way_said_once_and_a_join_is_tried_once_all_the_same() -> None:
    """In a process of its own: what is changed in the SDK stays changed."""
    told = subprocess.run([sys.executable, "-c", UNTRIED], check=True, capture_output=True, text=True, timeout=60).stdout
    ways, logs, tried_once = json.loads(told)
    assert ways == ["PublicWay"] * 3
    assert [(line["log_level"], line["version"]) for line in logs] == [("warning", "99.0")]
    assert "public way" in logs[0]["event"]
    assert tried_once


PANIC = """
import time
from livekit.rtc import _ffi_client as client
from livekit.rtc._proto import ffi_pb2 as ffi
import ctypes, signal
from bridge.rooms.livekit_ffi import audio_way
signal.signal(signal.SIGTERM, signal.SIG_IGN)
audio_way()
event = ffi.FfiEvent()
event.panic.message = "no way on"
told = event.SerializeToString()
client.ffi_event_callback((ctypes.c_uint8 * len(told)).from_buffer_copy(told), len(told))
time.sleep(5)
"""


async def test_given_a_panic_of_the_native_side_then_the_process_is_dead_at_once() -> None:
    """A node takes SIGTERM for a wish to end when its calls have."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PANIC, stderr=asyncio.subprocess.DEVNULL)
    assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL
