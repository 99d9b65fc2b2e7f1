"""An instance in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.instance import Instance, Ports, PortVariables


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    variables = PortVariables("SLUICE_CLOUD_PORT", "SLUICE_MODELS_PORT", "SLUICE_XRAY_PORT")
    return Instance("default", tmp_path, tmp_path / ".local", Ports(4566, 4577, 4578), variables)
