import msgspec
import pytest

from sluice.wire.schemas import EVENT_TYPES, GATEWAY_MODELS


@pytest.mark.parametrize("name", [*GATEWAY_MODELS, *EVENT_TYPES])
def test_every_published_struct_has_a_schema_that_says_what_is_required(name: str) -> None:
    kind = {**GATEWAY_MODELS, **EVENT_TYPES}[name]
    schema = msgspec.json.schema(kind)
    required = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
    assert schema["$defs"][kind.__name__]["required"] == required
    assert schema["$defs"][kind.__name__]["properties"]


def test_a_model_is_named_as_the_struct_it_comes_from_or_as_what_that_is_the_body_of() -> None:
    own_names = {"ChatRequest": "SimpleChatRequest", "ScoreRequest": "ScoreRequestBody"}
    assert {name: kind.__name__ for name, kind in GATEWAY_MODELS.items()} == {
        name: own_names.get(name, name) for name in GATEWAY_MODELS
    }
