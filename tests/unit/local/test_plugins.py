from __future__ import annotations

from pathlib import Path

import pytest

from local.errors import LocalError
from local.plugins import find_plugin_folder, usual_places

PROVIDER = "registry.terraform.io/hashicorp/aws"


def unpacked(folder: Path, platform: str = "linux_amd64") -> Path:
    binary = folder / PROVIDER / "5.100.0" / platform / "terraform-provider-aws_v5.100.0_x5"
    binary.parent.mkdir(parents=True)
    binary.touch()
    return folder


def packed(folder: Path, platform: str = "linux_amd64") -> Path:
    archive = folder / PROVIDER / f"terraform-provider-aws_5.100.0_{platform}.zip"
    archive.parent.mkdir(parents=True)
    archive.touch()
    return folder


@pytest.mark.parametrize("make", [unpacked, packed])
def test_the_first_place_that_holds_the_provider_for_this_platform_wins(tmp_path: Path, make: object) -> None:
    assert callable(make)
    places = [
        tmp_path / "absent",
        make(tmp_path / "mac", "darwin_arm64"),
        make(tmp_path / "linux"),
        make(tmp_path / "b"),
    ]
    assert find_plugin_folder({}, places, "linux_amd64") == tmp_path / "linux"


def test_nothing_found_means_the_registry(tmp_path: Path) -> None:
    (tmp_path / "empty" / PROVIDER).mkdir(parents=True)
    assert find_plugin_folder({}, [tmp_path / "empty"], "linux_amd64") is None


def test_the_variable_comes_first(tmp_path: Path) -> None:
    chosen = unpacked(tmp_path / "chosen")
    usual = unpacked(tmp_path / "usual")
    assert find_plugin_folder({"TF_PLUGIN_DIR": str(chosen)}, [usual], "linux_amd64") == chosen


def test_a_variable_that_leads_nowhere_is_explained_rather_than_ignored(tmp_path: Path) -> None:
    with pytest.raises(
        LocalError, match=r"TF_PLUGIN_DIR=.* holds no registry.terraform.io/hashicorp/aws for linux_arm64"
    ):
        find_plugin_folder({"TF_PLUGIN_DIR": str(unpacked(tmp_path))}, [], "linux_arm64")


def test_folders_one_level_below_opt_are_the_last_resort(tmp_path: Path) -> None:
    unpacked(tmp_path / "opt" / "tf-plugins")
    unpacked(tmp_path / "opt" / "deeper" / "still")
    places = list(usual_places(tmp_path / "home", tmp_path / "opt"))
    assert places[0] == tmp_path / "home" / ".terraform.d" / "plugins"
    assert places[-2:] == [tmp_path / "opt" / "deeper", tmp_path / "opt" / "tf-plugins"]
    assert find_plugin_folder({}, places[-2:], "linux_amd64") == tmp_path / "opt" / "tf-plugins"
