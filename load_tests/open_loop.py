"""Arrivals as greenlets: each starts when it is due, whatever became of those before it.

A user who waits for an answer before asking again asks less often the slower the platform gets, and the time in which
it did not ask is in no statistics (coordinated omission). So nobody waits here, and the clock of an arrival starts when
it was meant to start, not when this process got round to it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import gevent
import gevent.pool
import urllib3
from gevent import Greenlet

from load_tests.arrivals import Arrival, arrivals
from load_tests.operations import Answer, Client, FailedError, Form, Operation
from load_tests.plan import Plan
from load_tests.record import Outcome, Record

__all__ = ["HttpClient", "Observer", "OpenLoop"]

# Far beyond its knee a platform answers nothing in time, and more of the same tells nothing: a climb ends there.
_HOPELESS_S = 10.0
# Never below: a handful in flight is no queue, however low the rate.
_FEW = 20

Observer = Callable[[Operation, Outcome], None]


class HttpClient:
    """The API over kept-alive connections: as many as are in flight, without retries or redirects that hide a failure.

    `seconds` of one request are its socket's, a limit of the whole operation is the caller's business.
    """

    def __init__(self, url: str, key: str, *, seconds: float) -> None:
        self._url = url.rstrip("/")
        # Without a content type: urllib3 knows that of what it encodes, and the boundary of a form.
        self._headers = {"authorization": f"Bearer {key}"}
        self._http = urllib3.PoolManager(maxsize=10_000, retries=False, timeout=seconds)

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """One request; see `operations.Client`."""
        form: dict[str, str | tuple[str, bytes]] | None = None
        if isinstance(body, Form):
            form = {**body.fields, "file": (body.filename, body.content)}
        try:
            answer = self._http.request(
                method,
                self._url + path,
                headers=self._headers,
                json=None if form else body,
                fields=form,
                redirect=False,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise FailedError(type(error).__name__) from error
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.data)

    def pause(self, seconds: float) -> None:
        """Let the other greenlets run meanwhile."""
        gevent.sleep(seconds)


class _Timed:
    """A client that remembers what the answers say of the platform's own part, in seconds; the last one counts."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.overhead: float | None = None

    def call(self, method: str, path: str, body: object = None) -> Answer:
        answer = self._client.call(method, path, body)
        if said := answer.headers.get("x-sluice-overhead-ms"):
            self.overhead = float(said) / 1e3
        return answer

    def pause(self, seconds: float) -> None:
        self._client.pause(seconds)


class OpenLoop:
    """One of several equal arrival processes that make a plan's load; `share` is its part of the rates."""

    def __init__(
        self, plan: Plan, client: Client, record: Record, observe: Observer, *, number: int = 0, share: float = 1.0
    ) -> None:
        self._plan = plan
        self._client = client
        self._record = record
        self._observe = observe
        self._share = share
        self._times = random.Random(f"{plan.seed}/{number}/times")
        self._chance = random.Random(f"{plan.seed}/{number}/operations")
        self._operations = list(plan.profile.operations.values())
        self._weights = [plan.profile.mix[operation.name] for operation in self._operations]
        self._flying = gevent.pool.Group()
        self._zero = 0.0

    def run(self) -> None:
        """Let everything arrive, then wait for what is in flight. Returns when all of it has ended."""
        self._zero = time.perf_counter()
        for arrival in arrivals(self._plan.profile.stages, share=self._share, chance=self._times):
            gevent.sleep(max(0.0, arrival.at_s - self._now()))
            if self._plan.profile.climbs and self._hopeless(arrival):
                break
            self._start(arrival)
        self._flying.join()

    def _now(self) -> float:
        return time.perf_counter() - self._zero

    def _hopeless(self, arrival: Arrival) -> bool:
        rate = self._plan.profile.stages[arrival.stage].rate * self._share
        return len(self._flying) > max(_FEW, rate * _HOPELESS_S)

    def _start(self, arrival: Arrival) -> None:
        operation = self._chance.choices(self._operations, self._weights)[0]
        self._record.tally(arrival.stage, operation.name).offered += 1
        # A generator of its own: the order in which answers come must not change what is asked next.
        chance = random.Random(self._chance.random())
        self._flying.add(Greenlet.spawn(self._make, operation, arrival, chance))

    def _make(self, operation: Operation, arrival: Arrival, chance: random.Random) -> None:
        sent = self._now()
        client = _Timed(self._client)
        failure = _attempt(operation, client, chance, seconds=arrival.at_s + operation.deadline_s - sent)
        ended = self._now()
        outcome = Outcome(
            latency=ended - arrival.at_s,
            service=ended - sent,
            overhead=client.overhead,
            achieved=ended <= self._plan.latest_end(arrival.stage, operation),
            failure=failure,
        )
        self._record.tally(arrival.stage, operation.name).end(outcome)
        self._observe(operation, outcome)


def _attempt(operation: Operation, client: Client, chance: random.Random, *, seconds: float) -> str:
    """Carry an operation out. Returns the reason of its failure, or an empty text."""
    try:
        with gevent.Timeout(max(0.0, seconds)):
            operation.run(client, chance)
    except gevent.Timeout:
        return f"not done within {operation.deadline_s:g} s"
    except FailedError as failed:
        return str(failed)
    except (LookupError, TypeError) as error:
        # The answer is JSON, but not of the shape that was asked for.
        return f"an answer of another shape: {type(error).__name__}"
    return ""
