"""Structured logs on standard error: text for people at a terminal, JSON otherwise. The call's id is on every line of its story.

Nothing secret is ever given to a log. The redaction here is the last line of defence, not the first.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor

_SECRET = frozenset({"pin", "pins", "digit", "digits", "keys", "secret", "password", "auth_password", "token", "credentials"})
_REDACTED = "[redacted]"


def setup_logs(level: str = "info", form: str = "auto") -> None:
    """`form`: text, json, or auto (text on a terminal)."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    # Tracebacks without local variables: the frames of a call's story hold the digits a caller pressed.
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    exceptions: Processor = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    if text:
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        exceptions = structlog.dev.set_exc_info
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            exceptions,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(_StandardError()),  # type: ignore[arg-type]  # it is written to and flushed, no more
        cache_logger_on_first_use=True,
    )
    # Libraries that use the standard library's logging (asyncio, aiohttp, panoramisk): warnings only, in their own plain form.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(shorten_livekit)


def shorten_livekit(record: logging.LogRecord) -> bool:
    """The LiveKit SDK (1.2.1, rtc/room.py) logs a whole event of the room, metadata and keys pressed included, when its handling fails:
    where it failed says enough."""
    if record.exc_info and f"{os.sep}livekit{os.sep}rtc{os.sep}" in record.pathname:
        record.msg, record.args = "the LiveKit SDK failed at an event of a room", ()
    return True


class _StandardError(io.TextIOBase):
    """Where nobody reads any more (`serve 2>&1 | head`, a collector that died), calls go on: what cannot be written is let go."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Values under a secret's name, at any depth, are not shown."""
    return {key: _REDACTED if _is_secret(key) else _clean(value) for key, value in event.items()}


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and key.lower() in _SECRET


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _REDACTED if _is_secret(key) else _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
