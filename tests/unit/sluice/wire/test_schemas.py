import msgspec
import pytest

from sluice.wire.schemas import EVENT_TYPES, GATEWAY_MODELS


@pytest.mark.parametrize("name", [*GATEWAY_MODELS, *EVENT_TYPES])
def test_every_published_struct_has_a_schema_that_says_what_is_required(name: str) -> None:
    kind = {**GATEWAY_MODELS, **EVENT_TYPES}[name]
    schema = msgspec.json.schema(kind)
    assert schema["$defs"][kind.__name__]["required"]


def test_a_model_is_named_as_the_struct_it_comes_from() -> None:
    assert {name: kind.__name__ for name, kind in GATEWAY_MODELS.items()} == {name: name for name in GATEWAY_MODELS}
