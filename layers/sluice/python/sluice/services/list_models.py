"""What a key may call: every alias and target, as a catalogue of models."""

import msgspec

from sluice.domain.errors import NotFoundError, PermissionDeniedError
from sluice.domain.inference import Caller
from sluice.domain.ports import RouteSource
from sluice.domain.routing import RouteTable

OWN_ALIASES = "sluice"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A name that callers may use. ``created`` is epoch seconds; ``owner`` the provider's label, ours for an alias."""

    id: str
    created: int
    owner: str


class ListModels:
    """Reads the catalogue from the routes."""

    def __init__(self, routes: RouteSource) -> None:
        self._routes = routes

    def all(self, caller: Caller) -> tuple[Model, ...]:
        """Every model that the caller may use, by name."""
        models = _catalogue(self._routes.load())
        return tuple(models[name] for name in sorted(models) if _allows(caller, name))

    def one(self, model_id: str, caller: Caller) -> Model:
        """The named model.

        :raises NotFoundError: there is none of that name.
        :raises PermissionDeniedError: the key may not use it.
        """
        model = _catalogue(self._routes.load()).get(model_id)
        if model is None:
            raise NotFoundError("This model does not exist.", code="model_not_found", param="model")
        if not _allows(caller, model_id):
            raise PermissionDeniedError(f"This key may not use the model '{model_id}'.", param="model")
        return model


def _allows(caller: Caller, name: str) -> bool:
    return caller.allowed_models is None or name in caller.allowed_models


def _catalogue(table: RouteTable) -> dict[str, Model]:
    targets = {
        name: Model(id=name, created=target.created, owner=name.partition("/")[0])
        for name, target in table.targets.items()
    }
    aliases = {
        name: Model(
            id=name,
            # An alias is as old as the youngest thing it can answer with.
            created=max((targets[t.target].created for t in alias.targets if t.target in targets), default=0),
            owner=OWN_ALIASES,
        )
        for name, alias in table.aliases.items()
    }
    return targets | aliases
