from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from local.connection import Connection, local_values, read_values, resolve, write_values
from local.errors import LocalError
from local.instance import Instance

OUTPUTS = {
    "api_id": "abc123",
    "stage_name": "api",
    "stream_url": "https://0123abcd.lambda-url.us-east-1.on.aws/v1",
    "table_name": "sluice-local",
    "alarm_names": ["x"],
}


def test_the_api_url_and_the_names_come_from_the_outputs(instance: Instance) -> None:
    values = local_values(instance, OUTPUTS)
    assert values["SLUICE_URL"] == "http://127.0.0.1:4566/restapis/abc123/api/_user_request_/v1"
    assert values["OPENAI_BASE_URL"] == values["SLUICE_URL"]
    assert values["SLUICE_MCP_URL"] == values["SLUICE_URL"] + "/mcp"
    assert values["SLUICE_STREAM_URL"] == "http://127.0.0.1:4566/_aws/lambda-url/0123abcd/v1"
    assert values["SLUICE_TABLE"] == "sluice-local"
    assert "SLUICE_BUCKET" not in values


def test_every_queue_has_its_address_and_that_of_its_dead_letters(instance: Instance) -> None:
    urls = {queue: f"http://127.0.0.1:4566/000000000000/sluice-local-{queue}" for queue in ("async", "chunks")}
    dead = {queue: f"{url}-dlq" for queue, url in urls.items()}
    values = local_values(instance, {**OUTPUTS, "queue_urls": urls, "dlq_urls": dead})
    assert {name: value for name, value in values.items() if name.endswith(("_QUEUE_URL", "_DLQ_URL"))} == {
        "SLUICE_ASYNC_QUEUE_URL": urls["async"],
        "SLUICE_ASYNC_DLQ_URL": dead["async"],
        "SLUICE_CHUNKS_QUEUE_URL": urls["chunks"],
        "SLUICE_CHUNKS_DLQ_URL": dead["chunks"],
    }


def test_links_to_files_do_not_look_like_the_api(instance: Instance) -> None:
    assert instance.links_url == "http://localhost:4566"
    assert not local_values(instance, OUTPUTS)["SLUICE_URL"].startswith(instance.links_url)


def test_a_root_without_an_api_is_explained(instance: Instance) -> None:
    with pytest.raises(LocalError, match="no output 'api_id'"):
        local_values(instance, {})


def test_the_env_file_is_private_and_reads_the_same_line_by_line_and_in_a_shell(instance: Instance) -> None:
    values = {**local_values(instance, OUTPUTS), "SLUICE_API_KEY": "sk-sluice-aB_-9", "ODD": "a b$c'd"}
    write_values(instance, values)
    assert stat.S_IMODE(instance.environment_file.stat().st_mode) == 0o600
    assert read_values(instance.environment_file) == values
    script = f'. "{instance.environment_file}"; printf "%s|%s" "$SLUICE_URL" "$ODD"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == f"{values['SLUICE_URL']}|a b$c'd"
    plain = dict(line.split("=", 1) for line in instance.environment_file.read_text().splitlines())
    assert plain["SLUICE_URL"] == values["SLUICE_URL"]


def test_rewriting_the_env_file_leaves_nothing_else_behind(instance: Instance) -> None:
    for key in ("one", "two"):
        write_values(instance, {"SLUICE_API_KEY": key})
    assert [path.name for path in instance.state.iterdir()] == ["env"]
    assert read_values(instance.environment_file) == {"SLUICE_API_KEY": "two"}


def test_lines_that_assign_nothing_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=1\nnot a line\nlower=2\nB='unclosed\nC=\n")
    assert read_values(file) == {"A": "1", "C": ""}
    assert read_values(tmp_path / "absent") == {}


def test_the_callers_environment_wins_for_the_default_instance_only(instance: Instance, tmp_path: Path) -> None:
    write_values(instance, {"SLUICE_URL": "http://local/v1"})
    real = {"SLUICE_URL": "https://abc.execute-api.eu-west-1.amazonaws.com/api/v1"}
    assert resolve(instance, {}).instance is instance
    assert resolve(instance, real) == Connection(real, "the environment", None)
    # What `. .local/env` exported is the local platform, with the local credentials.
    assert resolve(instance, {"SLUICE_URL": "http://local/v1"}).instance is instance
    test = Instance.named("test", tmp_path, {})
    write_values(test, {"SLUICE_URL": "http://test/v1"})
    assert resolve(test, real).values["SLUICE_URL"] == "http://test/v1"


def test_no_platform_at_all_is_explained(instance: Instance) -> None:
    with pytest.raises(LocalError, match="no platform to talk to"):
        resolve(instance, {})


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://abc.execute-api.eu-west-1.amazonaws.com/api/v1", "eu-west-1"),
        ("https://api.example.com/v1", "us-east-1"),
    ],
)
def test_requests_are_signed_for_the_region_of_the_api(url: str, region: str) -> None:
    assert Connection({"SLUICE_URL": url}, "the environment", None).region == region


def test_a_missing_value_says_where_it_was_looked_for() -> None:
    with pytest.raises(LocalError, match="SLUICE_ASYNC_DLQ_URL is not set in the environment"):
        Connection({}, "the environment", None).require("SLUICE_ASYNC_DLQ_URL")
