"""The one place that goes below the LiveKit SDK's public face, and why.

Measured with 15 calls in one process (docs/performance.md, `./run bench livekit`): by the public way a call costs 1.3 to 1.5 times as
much, and every send is late by more than a frame. Every event of the SDK goes to every subscriber of one queue, each by a wake-up of
the event loop, and sending a frame subscribes and unsubscribes to wait for an acknowledgement that nobody needs. So here
  * a frame is sent by a request made once, whose samples are copied into the same place each time (the SDK copies them before it
    returns);
  * acknowledgements end at the callback, unless they are of an error;
  * a frame that comes goes by its stream straight to its track's queue, in the SDK's thread, without the event loop.

And a room is joined by one try: where the connection breaks in the middle, the SDK tries three times more, for a minute, and its public
face lets nobody stop it. A caller who has long gone would come to the room then, and drive themselves out of it if they had called again.

All of it rests on the SDK's inside. `audio_way` hands the short cuts out for the versions they were tried on only; with any other one the
public way is gone, which is slower and right. The one try rests on one field of a message: it is asked of every version that has it.

In a process that uses it, the SDK's own `AudioStream` hears nothing and `AudioSource.capture_frame` never returns.
"""

import ctypes
import signal
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Final

import structlog
from livekit import rtc
from livekit.rtc import _ffi_client as client
from livekit.rtc._proto import audio_frame_pb2 as audio
from livekit.rtc._proto import ffi_pb2 as ffi

from bridge.media.frames import bytes_per_frame, samples_per_frame
from bridge.media.sparse_log import SparseLog
from bridge.rooms.livekit_audio import SOURCE_QUEUE_MS, AudioWay, PublicWay, TrackFrames

log = structlog.get_logger(__name__)

TRIED_ON: Final = frozenset({"1.1.21", "1.2.0", "1.2.1"})
"""The first is the locked one, which all tests run on. With the others tests/rooms was run, and of tests/real/test_livekit.py what
hears and says, presses keys and shows attributes."""


@lru_cache(maxsize=1)
def audio_way(version: str = rtc.__version__) -> AudioWay:
    """The short cuts where this version of the SDK is one they were tried on, else the public way, said once. Either way a join is tried
    once, as far as this version can be told so."""
    end_at_a_panic()
    join_by_one_try()
    if version not in TRIED_ON:
        log.warning("this version of the LiveKit SDK is new to us: its public way is taken, at more CPU for each call", version=version)
        return PublicWay()
    return ShortCut()


def end_at_a_panic() -> None:
    """When its native side panics, the SDK calls that beyond repair and sends its own process a SIGTERM. To a node that means: take no more
    calls, and carry those you have to their end; on an SDK that carries nothing any more. A dead node's calls go on elsewhere at once."""
    if hasattr(client, "signal"):
        vars(client)["signal"] = SimpleNamespace(SIGTERM=signal.SIGKILL)


class ShortCut:
    """Moves samples by the ways above. One to a process."""

    def __init__(self) -> None:
        instance = client.FfiClient.instance
        self._library = instance._ffi_lib
        self._router = Router(self._library.livekit_ffi_drop_handle)
        self._router.take_over(instance)

    def speaker(self, name: str, rate: int) -> "ShortCutSpeaker":
        return ShortCutSpeaker(self._library, name, rate)

    def listener(self, track: rtc.Track, rate: int, frames: TrackFrames) -> "ShortCutListener":
        return ShortCutListener(self._router, track, rate, frames)


def join_by_one_try() -> None:
    """For all rooms of this process: the SDK has one client."""
    instance = client.FfiClient.instance
    if "join_retries" in ffi.FfiRequest().connect.options.DESCRIPTOR.fields_by_name:
        instance.request = joining_by_one_try(instance.request)
    else:
        log.warning("this version of the LiveKit SDK tries a join more than once: callers who have gone may come to a room for a moment")


def joining_by_one_try(ask: Callable[[ffi.FfiRequest], ffi.FfiResponse]) -> Callable[[ffi.FfiRequest], ffi.FfiResponse]:
    """The SDK's way to ask its native side, with no further try at a join that has failed."""

    def request(asked: ffi.FfiRequest) -> ffi.FfiResponse:
        if asked.HasField("connect"):
            asked.connect.options.join_retries = 0
        return ask(asked)

    return request


class Router(client.FfiQueue[ffi.FfiEvent]):
    """The SDK's queue of events, with the two kinds taken out that come fifty times a second for each call. Called in the SDK's thread."""

    def __init__(self, drop: Callable[[int], bool]) -> None:
        super().__init__()
        self._drop = drop
        self._streams: dict[int, TrackFrames] = {}
        self._faults = SparseLog()

    def take_over(self, instance: client.FfiClient) -> None:
        """Be the queue of this client from now on, with the subscribers it has."""
        self._subscribers = instance._queue._subscribers
        instance._queue = self

    def route(self, stream: int, frames: TrackFrames) -> None:
        self._streams[stream] = frames

    def forget(self, stream: int) -> None:
        """Frames that still come for it are let go."""
        self._streams.pop(stream, None)

    def put(self, item: ffi.FfiEvent) -> None:
        kind = item.WhichOneof("message")
        if kind == "audio_stream_event":
            event = item.audio_stream_event
            if event.HasField("frame_received"):
                self._frame(event.stream_handle, event.frame_received.frame)
        elif kind == "capture_audio_frame":
            if item.capture_audio_frame.error:
                self._faults.warning("the SDK did not take a frame", why=item.capture_audio_frame.error)
        else:
            super().put(item)

    def _frame(self, stream: int, frame: audio.OwnedAudioFrameBuffer) -> None:
        frames = self._streams.get(stream)
        if frames is not None:
            frames.put(ctypes.string_at(frame.info.data_ptr, 2 * frame.info.samples_per_channel))
        self._drop(frame.handle.id)


class ShortCutSpeaker:
    """One source and its one request."""

    def __init__(self, library: ctypes.CDLL, name: str, rate: int) -> None:
        self._source = rtc.AudioSource(rate, 1, queue_size_ms=SOURCE_QUEUE_MS)
        self._track = rtc.LocalAudioTrack.create_audio_track(name, self._source)
        self._size = bytes_per_frame(rate)
        self._samples = ctypes.create_string_buffer(self._size)
        request = ffi.FfiRequest()
        request.capture_audio_frame.source_handle = self._source._ffi_handle.handle
        buffer = request.capture_audio_frame.buffer
        buffer.data_ptr = ctypes.addressof(self._samples)
        buffer.num_channels = 1
        buffer.sample_rate = rate
        buffer.samples_per_channel = samples_per_frame(rate)
        serialized = request.SerializeToString()
        self._request = (ctypes.c_ubyte * len(serialized)).from_buffer_copy(serialized)
        self._answer = ctypes.POINTER(ctypes.c_ubyte)()
        self._answer_size = ctypes.c_size_t()
        self._ask = library.livekit_ffi_request
        self._drop = library.livekit_ffi_drop_handle
        self._closed = False

    @property
    def track(self) -> rtc.LocalAudioTrack:
        return self._track

    def send(self, frame: bytes) -> None:
        if self._closed or len(frame) != self._size:
            return
        ctypes.memmove(self._samples, frame, self._size)
        answer = self._ask(self._request, len(self._request), ctypes.byref(self._answer), ctypes.byref(self._answer_size))
        self._drop(answer)

    async def close(self) -> None:
        self._closed = True
        await self._source.aclose()
        # The track holds the source, with a thread of its own, for as long as Python's collector lets it lie about.
        self._track._ffi_handle.dispose()


class ShortCutListener:
    """One stream of one track."""

    def __init__(self, router: Router, track: rtc.Track, rate: int, frames: TrackFrames) -> None:
        request = ffi.FfiRequest()
        stream = request.new_audio_stream
        stream.track_handle = track._ffi_handle.handle
        stream.type = audio.AudioStreamType.AUDIO_STREAM_NATIVE
        stream.sample_rate = rate
        stream.num_channels = 1
        stream.frame_size_ms = 1000 * samples_per_frame(rate) // rate
        stream.queue_size_frames = 10
        answer = client.FfiClient.instance.request(request)
        self._handle = client.FfiHandle(answer.new_audio_stream.stream.handle.id)
        self._router = router
        router.route(self._handle.handle, frames)

    async def close(self) -> None:
        self._router.forget(self._handle.handle)
        self._handle.dispose()
