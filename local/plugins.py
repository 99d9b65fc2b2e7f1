"""Where Terraform's AWS provider comes from when the public registry is out of reach: a filesystem mirror."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from local.errors import LocalError

__all__ = ["find_plugin_folder", "usual_places"]

_PROVIDER = Path("registry.terraform.io", "hashicorp", "aws")


def find_plugin_folder(environment: Mapping[str, str], places: Iterable[Path], platform: str) -> Path | None:
    """The folder to pass to `terraform init -plugin-dir`: TF_PLUGIN_DIR, else the first of `places` that fits.

    A place fits when it holds the AWS provider for `platform` (like linux_amd64), packed or unpacked. None means: ask
    the registry. Raises LocalError when TF_PLUGIN_DIR is set and does not fit.
    """
    if chosen := environment.get("TF_PLUGIN_DIR"):
        if not _holds_provider(Path(chosen), platform):
            raise LocalError(
                f"TF_PLUGIN_DIR={chosen} holds no {_PROVIDER.as_posix()} for {platform}",
                "point it at a mirror made by `terraform providers mirror`, or unset it",
            )
        return Path(chosen).resolve()
    return next((place for place in places if _holds_provider(place, platform)), None)


def usual_places(home: Path, optional: Path = Path("/opt")) -> Iterable[Path]:
    """Terraform's own implied mirrors, then the folders one level below `/opt`."""
    yield home / ".terraform.d" / "plugins"
    yield home / "Library" / "Application Support" / "io.terraform" / "plugins"
    yield Path("/usr/local/share/terraform/plugins")
    yield Path("/usr/share/terraform/plugins")
    yield from sorted(optional.glob("*"))


def _holds_provider(place: Path, platform: str) -> bool:
    provider = place / _PROVIDER
    try:
        unpacked = provider.glob(f"*/{platform}/terraform-provider-aws*")
        packed = provider.glob(f"terraform-provider-aws_*_{platform}.zip")
        return any(unpacked) or any(packed)
    except OSError:
        return False
