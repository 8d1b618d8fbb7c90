"""Who trades: clients that retry with the same id, and a risk officer; each keeps a journal of what was answered."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation import stack
from tests.simulation.world import Reply, World

from trade2026.domain.orders import OrderType

_TRIES_MAX = 6
_PAUSE_SECONDS = 0.12
_TICK = 0.01


@dataclass
class Journal:
    """What the outside world was told."""

    orders: dict[tuple[str, str], str] = field(default_factory=dict)
    """By account and client order id, the order id that was acknowledged: accepted or refused."""
    accepted: set[str] = field(default_factory=set)
    canceled: set[str] = field(default_factory=set)
    """Orders whose cancellation was acknowledged."""
    stops: list[tuple[str, str, str]] = field(default_factory=list)
    """Kills, halts and releases that the order service has acknowledged: what, scope, reason."""
    answers: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Answers that say as of which event they are, with the path that was asked."""
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Answers that contradict each other."""

    def note(self, *words: object) -> None:
        """Write a line."""
        self.lines.append(" ".join(map(str, words)))

    def acknowledged(self, account: str, client_order_id: str, order_id: str) -> None:
        """An order was answered for, once or again."""
        before = self.orders.setdefault((account, client_order_id), order_id)
        if before != order_id:
            self.faults.append(f"{account}/{client_order_id} was {before}, then {order_id}")


class Client:
    """Trades one account."""

    def __init__(self, world: World, journal: Journal, account: str, rng: Random, actions: int) -> None:
        self.world, self.journal, self.account, self.rng, self.actions = world, journal, account, rng, actions
        self.order_ids: list[str] = []
        self._count = 0
        self._price = {instrument.symbol: 45_000.0 for instrument in stack.INSTRUMENTS}

    async def run(self) -> None:
        """Do one thing after the other."""
        rng = self.rng
        acts = (
            (self.submit, 50),
            (self.submit_batch, 6),
            (self.submit_list, 10),
            (self.amend, 9),
            (self.cancel, 12),
            (self.cancel_all, 2),
            (self.look, 12),
            (self.look_up, 6),
        )
        for _ in range(self.actions):
            await asyncio.sleep(rng.expovariate(1 / _PAUSE_SECONDS))
            act = rng.choices([act for act, _ in acts], [weight for _, weight in acts])[0]
            await act()

    # ── orders ──────────────────────────────────────────────────────────────────────────────

    def order(self, symbol: str | None = None, side: str | None = None, **fixed: Any) -> dict[str, Any]:
        """An order of any type, near the market."""
        rng = self.rng
        self._count += 1
        symbol = symbol or rng.choice(stack.INSTRUMENTS).symbol
        side = side or rng.choice(("buy", "sell"))
        market = self._price[symbol]
        order_type = rng.choices(list(OrderType), [4, 10, 3, 2, 2, 3])[0]
        quantity = rng.choice((0.01, 0.5, 1, 2.5, 4, 30)) if rng.random() < 0.2 else rng.choice((0.05, 0.3, 1, 2))
        order: dict[str, Any] = {
            "symbol": symbol,
            "side": side,
            "account": self.account,
            "client_order_id": f"{self.account}-{self._count}",
            "quantity": f"{quantity:.2f}",
            "order_type": str(order_type),
            "strategy": rng.choice(("", "mm", "trend")),
        }
        away = rng.choice((-0.004, -0.001, 0.0, 0.001, 0.004)) if rng.random() < 0.95 else 0.5
        toward = 1 if side == "buy" else -1
        if order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.ICEBERG):
            order["price"] = f"{market * (1 + away * toward):.2f}"
        if order_type is OrderType.ICEBERG:
            order["display_quantity"] = order["quantity"] if quantity < 0.1 else f"{max(0.01, quantity / 4):.2f}"
        if order_type in (OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP):
            order["stop_price"] = f"{market * (1 + abs(away) * toward):.2f}"
        if order_type is OrderType.TRAILING_STOP:
            order["trailing_offset"] = f"{market * 0.002:.2f}"
        if order_type is OrderType.LIMIT:
            order["time_in_force"] = rng.choice(("GTC", "GTC", "GTC", "DAY", "IOC", "FOK"))
        return {**order, **fixed}

    async def submit(self) -> None:
        """One order."""
        order = self.order()
        reply = await self._until_answered("POST", "/orders", order)
        self._learn(order, reply.status, reply.body)

    async def submit_batch(self) -> None:
        """Independent orders."""
        orders = [self.order() for _ in range(self.rng.randint(2, 5))]
        reply = await self._until_answered("POST", "/orders/batch", {"orders": orders})
        for order, result in zip(orders, reply.body.get("results", []), strict=False):
            self._learn(order, result.get("status"), result)

    async def submit_list(self) -> None:
        """OCO, OTO or bracket."""
        kind = self.rng.choice(("OCO", "OTO", "BRACKET"))
        symbol, side = self.rng.choice(stack.INSTRUMENTS).symbol, self.rng.choice(("buy", "sell"))
        other = "sell" if side == "buy" else "buy"
        orders = [self.order(symbol, side), self.order(symbol, side if kind == "OCO" else other)]
        if kind != "OCO":
            orders.append(self.order(symbol, other))
        reply = await self._until_answered("POST", "/orders/list", {"kind": kind, "orders": orders})
        if reply.status == 200:
            for order, view in zip(orders, reply.body["orders"], strict=True):
                self._learn(order, 200, view)

    def _learn(self, order: dict[str, Any], status: Any, body: dict[str, Any]) -> None:
        order_id = body.get("order_id", "")
        if status == 422 and "reject_code" not in body:
            order_id = ""
        self.journal.note(self.account, order["client_order_id"], status, order_id, body.get("code", ""))
        if not order_id or body.get("code") == "client_order_id_reused":
            return
        self.journal.acknowledged(self.account, order["client_order_id"], order_id)
        if not body.get("reject_code"):
            self.journal.accepted.add(order_id)
            self.order_ids.append(order_id)

    async def amend(self) -> None:
        """New terms for one of the last orders."""
        if self.order_ids:
            order_id = self.rng.choice(self.order_ids[-6:])
            body = {"quantity": f"{self.rng.choice((0.5, 1, 2, 3)):.2f}"}
            reply = await self.world.ask("oms", "PATCH", f"/orders/{order_id}", body)
            self.journal.note("amend", order_id, reply.status)

    async def cancel(self) -> None:
        """Cancel one of the last orders."""
        if self.order_ids:
            order_id = self.rng.choice(self.order_ids[-6:])
            reply = await self._until_answered("DELETE", f"/orders/{order_id}")
            if reply.status == 200:
                self.journal.canceled.add(order_id)
            self.journal.note("cancel", order_id, reply.status)

    async def cancel_all(self) -> None:
        """Cancel what is open in the account."""
        body = {"scope": f"account:{self.account}", "reason": "enough"}
        reply = await self._until_answered("POST", "/orders/cancel-all", body)
        self.journal.note("cancel-all", self.account, reply.status)

    # ── questions ───────────────────────────────────────────────────────────────────────────

    async def look(self) -> None:
        """Ask somebody what the account holds."""
        service = self.rng.choice(("oms", "risk", "ptrc", "pnl"))
        await self._ask_as_of(service, f"/positions/{self.account}")
        await self._ask_as_of("risk", f"/exposure?scope=account:{self.account}")
        symbol = self.rng.choice(stack.INSTRUMENTS).symbol
        ticker = await self.world.ask("gateway", "GET", f"/ticker/{symbol}")
        if ticker.status == 200 and ticker.body.get("last"):
            self._price[symbol] = float(ticker.body["last"])

    async def _ask_as_of(self, service: str, path: str) -> None:
        reply = await self.world.ask(service, "GET", path)
        if reply.status == 200:
            self.journal.answers.append((f"{service} {path}", reply.body))

    async def look_up(self) -> None:
        """Ask for an order that was acknowledged: it must be there."""
        if self.order_ids:
            order_id = self.rng.choice(self.order_ids)
            reply = await self.world.ask("oms", "GET", f"/orders/{order_id}")
            if reply.status == 404:
                self.journal.faults.append(f"{order_id} was acknowledged, then it is unknown: {reply.body}")

    async def _until_answered(self, method: str, path: str, body: Any = None) -> Reply:
        """Ask the order service again, the same, until it gives an answer."""
        reply = Reply(0, {})
        for attempt in range(_TRIES_MAX):
            reply = await self.world.ask("oms", method, path, body)
            if reply.status and reply.status not in (429, 503):
                return reply
            self.journal.note("again", method, path, reply.status, reply.body.get("code", ""))
            await asyncio.sleep(0.1 * 2**attempt * self.rng.random())
        return reply


class Officer:
    """Stops scopes and lets them go again, and makes limits tighter."""

    def __init__(self, world: World, journal: Journal, rng: Random, actions: int) -> None:
        self.world, self.journal, self.rng, self.actions = world, journal, rng, actions
        self.stopped: list[str] = []
        self._count = 0

    async def run(self) -> None:
        """Do one thing after the other, and leave everything released."""
        for _ in range(self.actions):
            await asyncio.sleep(self.rng.expovariate(1.0))
            await self.rng.choice((self.stop, self.stop, self.tighten))()
            await asyncio.sleep(self.rng.expovariate(2.0))
            if self.stopped and self.rng.random() < 0.8:
                await self.release(self.stopped.pop())
        while self.stopped:
            await self.release(self.stopped.pop())

    async def stop(self) -> None:
        """Kill or halt a scope, by one of the ways."""
        scopes = [f"account:{account}" for account in stack.ACCOUNTS] + ["strategy:mm", "stack", "venue:SIM"]
        scope, halt = self.rng.choice(scopes), self.rng.random() < 0.4
        self._count += 1
        reason = f"stop {self._count}"
        self.stopped.append(scope)
        service = self.rng.choice(("risk", "oms", "gateway"))
        reply = await self.world.ask(service, "POST", "/kill", {"scope": scope, "reason": reason, "halt": halt})
        self.journal.note("kill", service, scope, halt, reply.status)
        reached = service == "oms" or reply.body.get("reached", {}).get("oms", {}).get("ok", False)
        if reply.status == 200 and service != "gateway" and reached:
            self.journal.stops.append(("halt" if halt else "kill", scope, reason))

    async def release(self, scope: str) -> None:
        """Let a scope trade again, everywhere, until it is confirmed."""
        for _ in range(40):
            reply = await self.world.ask("risk", "POST", "/resume", {"scope": scope, "reason": "go on"})
            self.journal.note("resume", scope, reply.status)
            if reply.status == 200 and all(told["ok"] for told in reply.body["reached"].values()):
                return
            await asyncio.sleep(0.3)

    async def tighten(self) -> None:
        """Make a limit of an account tighter, or one that spans partitions."""
        if self.world.partitions > 1 and self.rng.random() < 0.5:
            scope, limits = self.rng.choice(
                (("stack", {"max_open_orders": 7}), ("strategy:mm", {"max_open_orders": 4}))
            )
        else:
            scope = f"account:{self.rng.choice(stack.ACCOUNTS)}"
            limits = self.rng.choice(({"max_open_orders": 8}, {"max_order_quantity": "3"}, {"max_position": "4"}))
        body = {"scope": scope, "limits": limits, "reason": "nervous"}
        reply = await self.world.ask("risk", "POST", "/limits/tighten", body)
        self.journal.note("tighten", scope, limits, reply.status)
