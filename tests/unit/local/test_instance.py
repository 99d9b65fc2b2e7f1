from __future__ import annotations

from pathlib import Path

import pytest

from local.errors import LocalError
from local.instance import Instance, Ports


def test_two_instances_share_neither_folder_nor_port(tmp_path: Path) -> None:
    default = Instance.named("default", tmp_path, {})
    test = Instance.named("test", tmp_path, {})
    assert default.state == tmp_path / ".local"
    assert test.state == tmp_path / ".local" / "test"
    ports = [*vars(default.ports).values(), *vars(test.ports).values()]
    assert len(set(ports)) == 6
    assert default.venvs == test.venvs


def test_a_port_variable_moves_its_own_instance_only(tmp_path: Path) -> None:
    environment = {"SLUICE_CLOUD_PORT": "5566"}
    assert Instance.named("default", tmp_path, environment).cloud_url == "http://127.0.0.1:5566"
    assert Instance.named("test", tmp_path, environment).cloud_url == "http://127.0.0.1:14566"


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "4566 ", "٤٥٦٦"])
def test_a_port_variable_that_is_no_port_is_explained(tmp_path: Path, text: str) -> None:
    with pytest.raises(LocalError, match=r"SLUICE_CLOUD_PORT=.* is not a port"):
        Instance.named("default", tmp_path, {"SLUICE_CLOUD_PORT": text})


def test_an_unknown_instance_is_explained(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="no local instance called 'prod'"):
        Instance.named("prod", tmp_path, {})


def test_ports_chosen_at_up_are_found_by_later_commands(tmp_path: Path) -> None:
    Instance.named("default", tmp_path, {"SLUICE_CLOUD_PORT": "5566"}).remember_ports()
    assert Instance.named("default", tmp_path, {}).ports == Ports(5566, 4577, 4578)
    assert Instance.named("default", tmp_path, {"SLUICE_CLOUD_PORT": "6566"}).ports.cloud == 6566


def test_a_broken_ports_file_is_as_good_as_none(tmp_path: Path) -> None:
    instance = Instance.named("default", tmp_path, {})
    instance.remember_ports()
    instance.ports_file.write_text('{"cloud": "x"')
    assert Instance.named("default", tmp_path, {}).ports == Ports(4566, 4577, 4578)
