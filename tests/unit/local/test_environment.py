from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from local import cloud, environment, terraform
from local.instance import Instance

if TYPE_CHECKING:
    import pytest

HOSTILE = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "SSL_CERT_FILE": "/etc/roots.pem",
    "AWS_PROFILE": "production",
    "AWS_ENDPOINT_URL_S3": "https://elsewhere.example",
    "AWS_SESSION_TOKEN": "real",
    "PYTHONPATH": "/elsewhere",
    "TF_CLI_ARGS": "-destroy",
    "TF_WORKSPACE": "prod",
    "TF_VAR_name": "other",
}


def test_a_process_gets_path_home_and_tls_roots_and_nothing_else_of_the_callers(instance: Instance) -> None:
    clean = environment.base_environment(instance, "cloud", HOSTILE)
    assert {name: clean[name] for name in ("PATH", "HOME", "SSL_CERT_FILE")} == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "SSL_CERT_FILE": "/etc/roots.pem",
    }
    assert not clean.keys() & (HOSTILE.keys() - {"PATH", "HOME", "SSL_CERT_FILE"})


def test_terraform_cannot_reach_a_real_account(instance: Instance) -> None:
    clean = terraform.environment(instance, HOSTILE)
    assert clean["AWS_ENDPOINT_URL"] == instance.cloud_url
    assert clean["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"} & clean.keys()
    assert not [name for name in clean if name.startswith(("TF_CLI_ARGS", "TF_WORKSPACE", "TF_VAR_"))]


def test_a_cli_configuration_that_is_absent_is_dropped(instance: Instance, tmp_path: Path) -> None:
    there = tmp_path / "terraformrc"
    assert "TF_CLI_CONFIG_FILE" not in terraform.environment(instance, {"TF_CLI_CONFIG_FILE": str(there)})
    there.touch()
    assert terraform.environment(instance, {"TF_CLI_CONFIG_FILE": str(there)})["TF_CLI_CONFIG_FILE"] == str(there)


def test_instances_differ_in_everything_their_clouds_write_or_listen_to(tmp_path: Path) -> None:
    first, second = (
        dict(cloud.spec(Instance.named(name, tmp_path, {}), Path("python")).environment) for name in ("default", "test")
    )
    different = {name for name in first if first[name] != second[name]}
    assert different == {
        "GATEWAY_PORT",
        "TMPDIR",
        "STATE_DIR",
        "S3_DATA_DIR",
        "AWS_XRAY_DAEMON_ADDRESS",
        environment.MARKER,
    }


def test_the_cloud_enforces_iam_forgets_on_exit_and_listens_on_this_machine_only(instance: Instance) -> None:
    variables = cloud.spec(instance, Path("python")).environment
    assert (variables["AUTH"], variables["PERSIST_STATE"], variables["BIND_HOST"]) == ("true", "0", "127.0.0.1")
    # MiniStack gives functions their endpoint; a second source would only drift.
    assert "AWS_ENDPOINT_URL" not in variables


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "internal.example")
    monkeypatch.delenv("no_proxy", raising=False)
    environment.bypass_proxy_for_loopback()
    environment.bypass_proxy_for_loopback()
    assert os.environ["NO_PROXY"] == "internal.example,127.0.0.1,localhost"
    assert os.environ["no_proxy"] == "127.0.0.1,localhost"
