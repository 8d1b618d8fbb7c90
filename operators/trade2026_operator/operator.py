"""One operator from its start to its end: wait to lead, watch, work, and stop when another may lead."""

import asyncio
import logging
import os
import time
from dataclasses import replace

import kopf

from trade2026 import __version__
from trade2026_operator.arguments import Arguments
from trade2026_operator.cache import Cache
from trade2026_operator.desired import Builder
from trade2026_operator.endpoints import Endpoints
from trade2026_operator.events import Events
from trade2026_operator.handlers.progress import Progress, session_of
from trade2026_operator.handlers.watches import CHILDREN, WATCHED, WITH_KEDA, missed_by, registry_of, settings
from trade2026_operator.helm.charts import read_chart
from trade2026_operator.helm.releases import CHART
from trade2026_operator.helm.render import Capabilities, HelmCli, Remembering
from trade2026_operator.kube import HttpKube, KubeError, access_of
from trade2026_operator.leader import Lease
from trade2026_operator.metrics import Metrics
from trade2026_operator.orders import Orders
from trade2026_operator.queue import Key, WorkQueue
from trade2026_operator.reconcile.objects import Ref
from trade2026_operator.slo.api_service import ApiService, Wanted
from trade2026_operator.slo.openmetrics import demand_lines
from trade2026_operator.slo.scaler import Asking, Scaler
from trade2026_operator.strategies import know
from trade2026_operator.strategy_worker import StrategyWorker
from trade2026_operator.tracing import Tracing
from trade2026_operator.worker import Worker

log = logging.getLogger(__name__)

WORKERS = 4
STUCK_SECONDS = 60.0
"""A loop that has not turned for so long is stuck."""
_BEAT_SECONDS = 1.0
_TOGETHER_SECONDS = 0.4
"""What is in one file has come by then."""


class Operator:
    """Everything that an operator is made of."""

    def __init__(self, told: Arguments) -> None:
        self.told = told
        self.metrics = Metrics()
        self.access = access_of(told.kubeconfig, os.environ)
        self.kube = HttpKube(self.access, self.metrics.writes)
        self.progress = Progress(time.monotonic)
        self.lease = Lease(self.kube, *told.lease, told.identity)
        self.cache = Cache(self._changed, strategy_changed=self._strategy_changed, changed_soon=self._changed_soon)
        builder = Builder(
            Remembering(HelmCli(told.helm)), read_chart(told.charts / CHART), told.cluster, Capabilities()
        )
        say = Events(self.kube).say
        self.asking = Asking()
        self.api_service = _api_service(self.kube, told)
        ease = told.scaling_ease_seconds
        self.scaler = Scaler(self.kube, self.cache, say, self.asking, others=self._others, ease_seconds=ease)
        orders = Orders(self.kube, seen=self.cache.version)
        self.tracing = Tracing(told.otlp_endpoint, identity=told.identity, version=__version__)
        self.worker = Worker(
            self.kube,
            self.cache,
            builder,
            orders.cancel,
            say,
            metrics=self.metrics,
            planned=self.scaler.planned,
            tracer=self.tracing.tracer,
        )
        self.queue = WorkQueue(self.worker.look)
        # Workers of their own: a strategy whose stack does not answer holds up no stack.
        self.strategies = WorkQueue(StrategyWorker(self.kube, self.cache, builder, orders, say).look)
        self.endpoints = Endpoints(self._fault, self._metrics, self._demands)
        self._leads = False
        self._beat = time.monotonic()
        self.metrics.gauge("trade2026_operator_leads", "Whether this one acts", lambda: self._leads)
        self.metrics.gauge("trade2026_operator_stacks", "Stacks that are kept", lambda: len(self.cache.stacks))
        self.metrics.gauge(
            "trade2026_operator_watch_age_seconds", "Since the most silent watch was heard", lambda: self.progress.age
        )
        self.metrics.gauge(
            "trade2026_operator_strategies", "Strategies that are kept", lambda: len(self.cache.strategies)
        )
        self.metrics.gauge("trade2026_operator_failing", "Stacks that fail", lambda: len(self.queue.failures))

    async def run(self) -> int:
        """Until a signal ends it, or another one may lead; the exit code."""
        beating = asyncio.ensure_future(self._keep_beating())
        try:
            await self.endpoints.listen(self.told.probes_port, self.told.metrics_port)
            await self._know_the_server()
            await self.lease.acquired()
            self._leads = True
            code = await self._lead()
            self._leads = False
            await self.lease.release()
            return code
        finally:
            beating.cancel()
            await self.endpoints.close()
            await self.asking.close()
            await self.kube.close()
            await asyncio.to_thread(self.tracing.close)

    async def _know_the_server(self) -> None:
        """What charts may use depends on its version: a field that it does not know would be refused."""
        while True:
            try:
                found = Capabilities(await self.kube.server_version())
                self.worker.builder = replace(self.worker.builder, capabilities=found)
                return
            except KubeError as error:
                log.warning("the API server does not say its version: %s", error)
                await asyncio.sleep(_BEAT_SECONDS)

    async def _lead(self) -> int:
        if self.api_service is not None:
            await self.api_service.prepare()  # first: stacks that are known are looked at a moment later
        await know(self.kube, "TradingStack", self.cache.stack_seen, self.told.namespaces)
        await know(self.kube, "Strategy", self.cache.strategies.seen, self.told.namespaces)
        clusterwide = not self.told.namespaces
        self.progress.expect(WATCHED)
        children = WITH_KEDA if self.told.cluster.keda_scaler else CHILDREN
        missed = missed_by(self.cache, self.api_service, children)
        watching = asyncio.ensure_future(
            kopf.operator(
                registry=registry_of(
                    self.cache, lambda: session_of(self.access, self.progress, missed), self.api_service, children
                ),
                settings=settings(clusterwide=clusterwide, children=children),
                standalone=True,
                clusterwide=clusterwide,
                namespaces=self.told.namespaces,
            )
        )
        working = [asyncio.ensure_future(queue.work(WORKERS)) for queue in (self.queue, self.strategies)]
        scaling = asyncio.ensure_future(self.scaler.run())
        lost = asyncio.ensure_future(self.lease.lost())
        tasks = {watching, *working, scaling, lost}
        if self.api_service is not None:
            tasks.add(asyncio.ensure_future(self.api_service.keep()))
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self.progress.forget()
        failed = [task.exception() for task in done if not task.cancelled() and task.exception() is not None]
        for error in failed:
            log.error("the operator ends: %r", error)
        return 0 if watching in done and not failed else 1

    def _changed(self, key: Key) -> None:
        self.queue.add(key)

    def _changed_soon(self, key: Key) -> None:
        asyncio.get_running_loop().call_later(_TOGETHER_SECONDS, self.queue.add, key)

    def _strategy_changed(self, key: Key) -> None:
        self.strategies.add(key)

    def _others(self) -> str:
        return self.api_service.others if self.api_service is not None else ""

    def _demands(self) -> str | None:
        return self.scaler.board.text(time.monotonic()) if self._leads else None

    def _metrics(self) -> str:
        return self.metrics.text(demand_lines(self.scaler.board, time.monotonic()))

    def _fault(self) -> str:
        age = time.monotonic() - self._beat
        return f"the loop has not turned for {age:.0f} s" if age > STUCK_SECONDS else self.progress.fault

    async def _keep_beating(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)


def _api_service(kube: HttpKube, told: Arguments) -> ApiService | None:
    """The API of external metrics, where there is a server for it."""
    if told.metrics_server is None:
        return None
    owner = Ref("rbac.authorization.k8s.io/v1", "ClusterRole", "", told.metrics_owner) if told.metrics_owner else None
    wanted = Wanted(*told.metrics_server, owner, told.metrics_withdraw_seconds, told.keda_namespace)
    return ApiService(kube, wanted)
