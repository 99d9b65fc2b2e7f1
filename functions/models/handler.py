"""GET /v1/models and GET /v1/models/{model}: what the caller's key may use."""

import os
from functools import cache

from functions.models.settings import ModelsSettings
from sluice.runtime import bootstrap
from sluice.runtime.api import ApiRequest, ApiResponse, api_function
from sluice.runtime.settings import load
from sluice.runtime.snapstart import before_snapshot
from sluice.services.list_models import ListModels, Model
from sluice.wire.models import ModelList, ModelObject


@before_snapshot
@cache
def catalogue() -> ListModels:
    """Built once per container."""
    return bootstrap.list_models(load(ModelsSettings, os.environ))


@api_function
def handler(request: ApiRequest) -> ApiResponse:
    """List the models, or describe the one that the path names."""
    model_id = request.path_parameters.get("model")
    if model_id is not None:
        return ApiResponse(200, _render(catalogue().one(model_id, request.authenticated)))
    return ApiResponse(200, ModelList(data=[_render(model) for model in catalogue().all(request.authenticated)]))


def _render(model: Model) -> ModelObject:
    return ModelObject(id=model.id, created=model.created, owned_by=model.owner)
