"""What uploads is told by its environment."""

from typing import Annotated

from msgspec import Meta

from sluice.runtime.settings import FileSettings


class UploadsSettings(FileSettings, frozen=True, kw_only=True):
    """``upload_ttl_seconds``: for how long parts are taken. The bucket keeps them for two days."""

    upload_ttl_seconds: Annotated[int, Meta(ge=60, le=86_400)]
