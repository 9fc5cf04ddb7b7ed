"""A scripted REST interface of Asterisk: keeps PJSIP objects as Asterisk does, and fails as told."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.pbx.asterisk.credentials import PREFIX

DYNAMIC = "/ari/asterisk/config/dynamic/res_pjsip/{kind}/{name}"


class FakeAri:
    """Keeps objects as Asterisk does; fails as told."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, str]] = {
            ("endpoint", "operators-own"): {},
            ("global", "global"): {"endpoint_identifier_order": "ip,request_uri,username,anonymous"},
        }
        self.asked: list[tuple[str, str, str]] = []
        self.fault: Callable[[str, str, str], web.Response | None] = lambda method, kind, name: None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        kind, name = request.match_info["kind"], request.match_info["name"]
        self.asked.append((request.method, kind, name))
        if (failed := self.fault(request.method, kind, name)) is not None:
            return failed
        if request.method == "PUT":
            self.objects[kind, name] = {each["attribute"]: each["value"] for each in (await request.json())["fields"]}
            return web.json_response([])
        if request.method == "GET":
            found = self.objects.get((kind, name))
            fields = [{"attribute": attribute, "value": value} for attribute, value in (found or {}).items()]
            return web.json_response({"message": "not found"}, status=404) if found is None else web.json_response(fields)
        there = self.objects.pop((kind, name), None) is not None
        return web.Response(status=204) if there else web.json_response({"message": "not found"}, status=404)

    async def endpoints(self, _request: web.Request) -> web.Response:
        self.asked.append(("GET", "endpoint", ""))
        if (failed := self.fault("GET", "endpoint", "")) is not None:
            return failed
        return web.json_response([{"technology": "PJSIP", "resource": name} for kind, name in self.objects if kind == "endpoint"])

    def ours(self) -> set[tuple[str, str]]:
        return {(kind, name.removeprefix(PREFIX)) for kind, name in self.objects if name.startswith(PREFIX)}

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Gives its address."""
        app = web.Application()
        app.router.add_route("*", DYNAMIC, self.handle)
        app.router.add_get("/ari/endpoints/PJSIP", self.endpoints)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
