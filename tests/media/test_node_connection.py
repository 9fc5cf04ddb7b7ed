"""One connection to a node, in the moment of its end."""

import asyncio
from pathlib import Path

import pytest
import uvloop

from bridge.errors import NodeGone
from bridge.media import messages as m
from bridge.media.node_connection import NodeConnection


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_given_a_connection_that_has_just_broken_when_something_is_asked_then_the_node_is_gone(tmp_path: Path, new_loop: object) -> None:
    """Before anybody has read its end. uvloop raises a RuntimeError for a word to a closed transport, which would end the call."""

    async def ask() -> None:
        path = str(tmp_path / "node.sock")
        left = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            left.set()

        server = await asyncio.start_unix_server(serve, path)
        reader, writer = await asyncio.open_unix_connection(path)
        connection = NodeConnection(reader, writer)
        writer.transport.abort()
        with pytest.raises(NodeGone):
            await connection.ask(m.Ping, 1.0)
        await left.wait()
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]  # a parameter of pytest's is of any type
        runner.run(ask())
