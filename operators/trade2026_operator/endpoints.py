"""Probes and metrics of the operator, over HTTP."""

from collections.abc import Callable

from aiohttp import web

from trade2026_operator.slo.leader_source import PATH as DEMANDS

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Endpoints:
    """Serves until it is closed.

    Args:
        fault: Why the process ought to be started again; empty while it is well.
        metrics: All of them as text.
        demands: What the metrics server is told, as JSON; None while this one does not lead.
    """

    def __init__(
        self, fault: Callable[[], str], metrics: Callable[[], str], demands: Callable[[], str | None] = lambda: None
    ) -> None:
        self._fault, self._metrics, self._demands = fault, metrics, demands
        self._runners: list[web.AppRunner] = []

    async def listen(self, probes_port: int, metrics_port: int) -> None:
        """Listen on two ports; 0 leaves one out."""
        probes = web.Application()
        probes.add_routes([web.get("/livez", self._live), web.get("/readyz", self._live)])
        metrics = web.Application()
        metrics.add_routes([web.get("/metrics", self._told), web.get(DEMANDS, self._demanded)])
        for app, port in ((probes, probes_port), (metrics, metrics_port)):
            if port:
                runner = web.AppRunner(app, access_log=None)
                await runner.setup()
                await web.TCPSite(runner, port=port).start()
                self._runners.append(runner)

    async def close(self) -> None:
        """Idempotent."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _live(self, request: web.Request) -> web.Response:
        fault = self._fault()
        return web.Response(status=503 if fault else 200, text=fault or "ok")

    async def _demanded(self, request: web.Request) -> web.Response:
        found = self._demands()
        if found is None:
            return web.Response(status=503, text="this one does not lead")
        return web.Response(text=found, content_type="application/json")

    async def _told(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics().encode(), headers={"Content-Type": CONTENT_TYPE})
