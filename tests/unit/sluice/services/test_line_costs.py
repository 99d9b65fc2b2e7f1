"""The most that a line comes to: never less than what it will be charged, at whichever target."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from sluice.domain.classification import IntentSet, Label
from sluice.domain.errors import InvalidRequestError, NotFoundError, PermissionDeniedError, SluiceError
from sluice.domain.inference import Caller, Operation
from sluice.domain.ledger import Limits
from sluice.domain.pricing import Price, Rates, Tier
from sluice.domain.routing import Alias, Capability, RouteTable, Target
from sluice.domain.tasks import Task
from sluice.runtime.endpoints import CHAT_COMPLETIONS, CLASSIFY, EMBEDDINGS, SCORE, SUMMARIZE, InferenceEndpoints
from sluice.services.admit import bound_of
from sluice.services.line_costs import LineCosts
from sluice.testing.routes import alias, target

CALLER = Caller(key_id="key_1", request_id="batch_1")
BUDGET = msgspec.structs.replace(CALLER, limits=Limits(total_budget_micro_usd=Decimal(1_000)))
MOST = 1_000


def price(read: str, write: str = "0", **more: Any) -> Price:
    return Price(version="1", input_per_mtok=Decimal(read), output_per_mtok=Decimal(write), **more)


CHEAP = target("a/cheap", price=price("0.1", "0.4"))
DEAR = target("a/dear", price=price("3", "15"))
FREE_TO_SAY = target("a/unknown", price=None)
SHORT = msgspec.structs.replace(target("a/short", price=price("50", "50")), max_output_tokens=10)
CALL = target("a/call", price=price("0", per_request_usd=Decimal("0.001")))


class Routes:
    def __init__(self, *entries: Target | Alias) -> None:
        self.loads = 0
        self.replace(*entries)

    def replace(self, *entries: Target | Alias) -> None:
        self.table = RouteTable(
            intent_sets={"parcels": IntentSet(name="parcels", labels=(Label("late"), Label("lost", "gone")))},
            targets={entry.name: entry for entry in entries if isinstance(entry, Target)},
            aliases={entry.name: entry for entry in entries if isinstance(entry, Alias)},
        )

    def load(self) -> RouteTable:
        self.loads += 1
        return self.table


def costs(*targets: Target, operation: Operation = Operation.CHAT, most: int | None = MOST) -> LineCosts:
    both = alias("auto", *(each.name for each in targets), operation=operation)
    return LineCosts(Routes(*targets, both), most_output_tokens=most)


def task(endpoint: str = CHAT_COMPLETIONS, **body: object) -> Task:
    said = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]} if "chat" in endpoint else {}
    return InferenceEndpoints().parse(endpoint, json.dumps(said | body).encode())


def at(target: Target, asked: Task, *, most: int | None = MOST) -> Decimal:
    """What admission holds for the same request at this target."""
    bound = bound_of(asked.request, target, most=most)
    assert target.price is not None
    rates = target.price
    return (
        bound.calls * rates.per_request_usd * 1_000_000
        + bound.input_tokens * rates.input_per_mtok
        + bound.output_tokens * rates.output_per_mtok
    )


@pytest.mark.parametrize("max_tokens", [None, 1, 500])
def test_a_line_is_reckoned_at_the_dearest_target(max_tokens: int | None) -> None:
    asked = task(max_tokens=max_tokens)
    assert costs(CHEAP, DEAR).of(asked, CALLER).most_micro_usd == at(DEAR, asked) > at(CHEAP, asked) > 0


def test_a_target_that_writes_less_may_be_cheaper_for_all_its_price() -> None:
    asked = task()
    assert costs(DEAR, SHORT).of(asked, CALLER).most_micro_usd == at(DEAR, asked) > at(SHORT, asked)


def test_a_target_that_cannot_do_it_does_not_count() -> None:
    asked = task(max_tokens=500)
    assert costs(CHEAP, SHORT).of(asked, CALLER).most_micro_usd == at(CHEAP, asked) < at(SHORT, asked)


@pytest.mark.parametrize(
    "asked",
    [
        task(max_tokens=MOST + 1),
        task(response_format={"type": "json_object"}),
        task(tools=[{"type": "function", "function": {"name": "f"}}]),
    ],
    ids=["too long an answer", "a form", "tools"],
)
def test_what_every_target_will_refuse_costs_nothing(asked: Task) -> None:
    assert costs(CHEAP, DEAR).of(asked, BUDGET).most_micro_usd == 0


def test_the_longest_answer_is_that_of_the_deployment_or_what_is_held_for_one_unsaid() -> None:
    asked = task()
    held = [costs(CHEAP, most=most).of(asked, CALLER).most_micro_usd for most in (MOST, None)]
    assert held == [at(CHEAP, asked, most=MOST), at(CHEAP, asked, most=None)]
    assert held[0] < held[1]


def test_an_answer_in_a_form_may_be_asked_for_again() -> None:
    able = msgspec.structs.replace(DEAR, capabilities=frozenset({Capability.JSON_SCHEMA}))
    plain, formed = task(max_tokens=100), task(max_tokens=100, response_format={"type": "json_object"})
    once, twice = (costs(able).of(each, CALLER) for each in (plain, formed))
    assert twice.bound.calls == 2
    assert twice.bound.output_tokens == 2 * once.bound.output_tokens
    assert twice.most_micro_usd > 2 * once.most_micro_usd


def test_an_embedding_is_reckoned_by_its_texts() -> None:
    asked = task(EMBEDDINGS, model="auto", input=["grün", "blue"])
    assert (
        costs(CHEAP, DEAR, operation=Operation.EMBED).of(asked, CALLER).most_micro_usd
        == at(DEAR, asked)
        == 3 * (8 + 5 + 8 + 4)
    )


def test_a_score_costs_its_call() -> None:
    asked = task(SCORE, model="auto", features=[0.0] * 50)
    scorer = msgspec.structs.replace(CALL, operations=(Operation.SCORE,))
    assert costs(scorer, operation=Operation.SCORE).of(asked, CALLER).most_micro_usd == 1_000


def test_a_summary_is_a_chat() -> None:
    asked = task(SUMMARIZE, model="auto", input="A long text.")
    assert costs(DEAR).of(asked, CALLER).most_micro_usd == at(DEAR, asked)


def test_a_classification_is_reckoned_by_how_each_target_does_it() -> None:
    chats, embeds = (
        target(f"a/{operation}", price=price("1", "2"), operations=(Operation.CLASSIFY, operation))
        for operation in (Operation.CHAT, Operation.EMBED)
    )
    asked = task(CLASSIFY, model="auto", input=["one", "two"], labels=["a", "b"])
    found = costs(embeds, chats, operation=Operation.CLASSIFY).of(asked, CALLER).most_micro_usd
    assert found == at(chats, asked) > at(embeds, asked)


def test_intents_are_reckoned_with_the_labels_that_they_stand_for() -> None:
    embeds = msgspec.structs.replace(DEAR, operations=(Operation.CLASSIFY, Operation.EMBED))
    reckoned = costs(embeds, operation=Operation.CLASSIFY)
    asked = task(CLASSIFY, model="auto", input="one", intents="parcels")
    texts = ("late", "lost: gone", "one")
    assert reckoned.of(asked, CALLER).most_micro_usd == 3 * sum(8 + len(text) for text in texts)
    with pytest.raises(NotFoundError) as raised:
        reckoned.of(task(CLASSIFY, model="auto", input="one", intents="nobody-s"), CALLER)
    assert raised.value.code == "intents_not_found"


def test_the_class_of_batches_is_what_counts_where_a_target_has_one() -> None:
    half = Rates(input_per_mtok=Decimal("1.5"), output_per_mtok=Decimal("7.5"))
    tiers = (Tier(above_input_tokens=1, input_per_mtok=Decimal(6), output_per_mtok=Decimal(30)),)
    dear = msgspec.structs.replace(DEAR, price=price("3", "15", batch=half, tiers=tiers))
    asked = task()
    assert costs(dear).of(asked, CALLER).most_micro_usd == at(DEAR, asked) / 2


def test_a_long_line_is_reckoned_at_the_rates_of_long_prompts() -> None:
    tiers = (Tier(above_input_tokens=5_000, input_per_mtok=Decimal(6), output_per_mtok=Decimal(30)),)
    dear = msgspec.structs.replace(DEAR, price=price("3", "15", tiers=tiers))
    short = task(max_tokens=10)
    long = task(max_tokens=10, messages=[{"role": "user", "content": "x" * 5_000}])
    reckoned = costs(dear)
    assert reckoned.of(short, CALLER).most_micro_usd == at(DEAR, short)
    assert reckoned.of(long, CALLER).most_micro_usd == 2 * at(DEAR, long)
    assert reckoned.of(short, CALLER).most_micro_usd == at(DEAR, short)


def test_without_a_price_nothing_is_held_and_a_budget_says_no() -> None:
    asked = task()
    assert costs(FREE_TO_SAY).of(asked, CALLER).most_micro_usd == 0
    assert costs(FREE_TO_SAY, CHEAP).of(asked, BUDGET).most_micro_usd == at(CHEAP, asked)
    with pytest.raises(PermissionDeniedError) as raised:
        costs(FREE_TO_SAY).of(asked, BUDGET)
    assert raised.value.code == "model_without_price"


@pytest.mark.parametrize(
    ("asked", "caller", "kind", "code"),
    [
        (task(model="nobody/knows"), CALLER, NotFoundError, "model_not_found"),
        (task(), msgspec.structs.replace(CALLER, allowed_models=("fast",)), PermissionDeniedError, "permission_denied"),
        (task(SCORE, model="auto", features=[0.0] * 50), CALLER, InvalidRequestError, "unsupported_operation"),
    ],
)
def test_a_model_that_cannot_be_used_says_why_each_time(
    asked: Task, caller: Caller, kind: type[SluiceError], code: str
) -> None:
    reckoned = costs(CHEAP)
    for _ in range(2):
        with pytest.raises(kind) as raised:
            reckoned.of(asked, caller)
        assert raised.value.code == code
    assert reckoned.of(task(), CALLER).most_micro_usd > 0


def test_new_routes_are_gone_by_at_once() -> None:
    routes = Routes(CHEAP)
    reckoned = LineCosts(routes, most_output_tokens=MOST)
    asked = task(model=CHEAP.name)
    assert reckoned.of(asked, CALLER).most_micro_usd == at(CHEAP, asked)
    routes.replace(msgspec.structs.replace(DEAR, name=CHEAP.name))
    assert reckoned.of(asked, CALLER).most_micro_usd == at(DEAR, asked)


def test_a_line_is_inside_when_every_target_is() -> None:
    inner = msgspec.structs.replace(CHEAP, provider="in_process")
    assert costs(inner).of(task(), CALLER).inside
    assert not costs(inner, DEAR).of(task(), CALLER).inside


def test_more_models_than_are_remembered_are_reckoned_right() -> None:
    reckoned = costs(CHEAP)
    for number in range(2_500):
        with pytest.raises(NotFoundError):
            reckoned.of(task(model=f"no/{number}"), CALLER)
    assert reckoned.of(task(), CALLER).most_micro_usd == at(CHEAP, task())
    assert len(reckoned._known) <= 1_000
