import time
from typing import Any

import pytest

from sluice.domain.errors import InvalidRequestError
from sluice.domain.inference import ChatRequest, ChatResult, FinishReason, Message, ResponseFormat, ToolCall, Usage
from sluice.services.structured_output import OutputCheck, check_for, misfit

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def request(schema: dict[str, Any] | None = None, *, form: Any = "json_schema") -> ChatRequest:
    response_format = ResponseFormat(type=form, name="person", schema=PERSON if schema is None else schema)
    return ChatRequest(model="auto", messages=(Message("user", "Who is Ada?"),), response_format=response_format)


def answer(text: str, finish: FinishReason = FinishReason.STOP, **more: Any) -> ChatResult:
    return ChatResult(text=text, finish_reason=finish, usage=Usage(input_tokens=1), **more)


def check(schema: dict[str, Any] | None = None, **more: Any) -> OutputCheck:
    found = check_for(request(schema, **more))
    assert found is not None
    return found


def test_free_text_is_not_checked() -> None:
    assert check_for(ChatRequest(model="auto", messages=(Message("user", "hi"),))) is None


def test_an_answer_that_fits_has_no_problem() -> None:
    assert check().problem(answer('{"name": "Ada", "age": 36}')) is None


def test_a_refusal_is_not_held_to_the_schema() -> None:
    assert check().problem(answer("", refusal="I cannot help with that.")) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Ada is 36.", "not valid JSON"),
        ("", "not valid JSON"),
        ('{"name": "Ada", "age": 36} as asked', "not valid JSON"),
        ('{"name": "Ada"}', '"age" is a required property'),
        ('{"name": "Ada", "age": -1}', "At /age: -1 is less than the minimum"),
        ('{"name": "Ada", "age": NaN}', "not valid JSON"),
        ("[" * 5000 + "]" * 5000, "not valid JSON"),
        ('{"name": 1, "age": "x", "z": 0}', "At /name"),
    ],
)
def test_a_misfit_is_told_in_words_that_help_the_model(text: str, problem: str) -> None:
    assert problem in (check().problem(answer(text)) or "")


def test_only_the_first_problems_are_told_and_none_at_length() -> None:
    problem = check({"type": "array", "items": {"type": "string"}}).problem(answer(str(list(range(100)))))
    assert problem is not None
    assert len(problem.splitlines()) == 5
    long = check({"const": "y" * 10_000}).problem(answer('"x"'))
    assert len(long or "") <= 300


@pytest.mark.parametrize("finish", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER, FinishReason.TOOL_CALLS])
def test_an_unfinished_answer_is_not_judged(finish: FinishReason) -> None:
    assert check().problem(answer('{"name": "A', finish)) is None


def test_an_answer_that_asks_for_a_tool_is_not_judged() -> None:
    calls = (ToolCall(id="1", name="look_up", arguments="{}"),)
    assert check().problem(answer("", tool_calls=calls)) is None


@pytest.mark.parametrize("text", ['```json\n{"a": 1}\n```', '```\n{"a": 1}\n```', '\n ```json\n{"a": 1}```\n'])
def test_a_fence_around_the_json_is_taken_off(text: str) -> None:
    assert check({"required": ["a"]}).tidied(answer(text)).text == '{"a": 1}'
    assert check({"required": ["a"]}).problem(answer(text)) is None


@pytest.mark.parametrize(
    "text", ['{"a": 1}', "no JSON", "```json {}```", "```json\n{}\n``` or\n```\n{}\n```", "```py\n1\n```"]
)
def test_anything_else_is_left_as_it_is(text: str) -> None:
    assert check().tidied(answer(text)).text == text


@pytest.mark.parametrize(("text", "fits"), [("{}", True), ('{"a": [1]}', True), ("[]", False), ("1", False)])
def test_json_object_asks_for_an_object_of_any_kind(text: str, fits: bool) -> None:
    assert (check(form="json_object").problem(answer(text)) is None) is fits


def test_the_repair_shows_the_model_its_answer_and_what_is_wrong_with_it() -> None:
    asked = request()
    repair = check().repair(asked, answer("Ada."), "It is not valid JSON.")
    assert [message.role for message in repair.messages] == ["user", "assistant", "user"]
    assert repair.messages[1].content == "Ada."
    assert "It is not valid JSON." in repair.messages[2].content
    assert repair.response_format == asked.response_format


def test_the_repair_of_an_empty_answer_has_no_empty_turn() -> None:
    assert [m.role for m in check().repair(request(), answer(" "), "x").messages] == ["user", "user"]


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def doubling(links: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {
        f"d{link}": {"allOf": [{"$ref": f"#/$defs/d{link + 1}"}] * 2} for link in range(links)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{links}": {"type": "object"}}}


def chained(links: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {f"d{link}": {"$ref": f"#/$defs/d{link + 1}"} for link in range(links)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{links}": {"type": "object"}}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, "not a valid JSON Schema"),
        ({"properties": {"a": {"minimum": "one"}}}, "not a valid JSON Schema"),
        ({"pattern": "("}, "not a valid JSON Schema"),
        ({"pattern": "(?=a)b"}, "not a valid JSON Schema"),
        ({"$ref": "#/$defs/missing"}, "not a valid JSON Schema"),
        ({"$schema": "https://example.com/mine"}, "not a valid JSON Schema"),
        ({"$ref": "https://example.com/schema.json"}, "refer to a part of itself"),
        ({"$ref": "file:///etc/passwd"}, "refer to a part of itself"),
        ({"$dynamicRef": "#node"}, "refer to a part of itself"),
        ({"description": "x" * 70_000}, "64 KiB"),
        (nested(40), "48 levels"),
        (doubling(60), "multiply"),
        (chained(2000), "chain"),
    ],
)
def test_a_schema_that_is_wrong_or_dangerous_is_refused_by_the_name_of_its_field(
    schema: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequestError, match=words) as refused:
        check(schema)
    assert (refused.value.param, refused.value.code) == ("response_format", "invalid_json_schema")


@pytest.mark.parametrize(
    "schema",
    [
        {},
        nested(15),
        chained(50),
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"},
        {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
        {"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}},
        {"properties": {"a/b": {}, "c~d": {"$ref": "#/properties/a~1b"}}},
    ],
)
def test_an_ordinary_schema_is_taken(schema: dict[str, Any]) -> None:
    assert check(schema).problem(answer("{}")) is None


def test_a_pattern_that_would_backtrack_for_ever_takes_no_time() -> None:
    judge = check({"type": "string", "pattern": "^(a+)+$"})
    start = time.perf_counter()
    assert judge.problem(answer('"' + "a" * 5000 + 'b"')) is not None
    assert time.perf_counter() - start < 1


def test_the_error_for_a_second_misfit_quotes_nothing() -> None:
    error = misfit("bedrock/one")
    assert (error.code, error.param, error.target, error.retryable) == (
        "invalid_model_output",
        "response_format",
        "bedrock/one",
        False,
    )
