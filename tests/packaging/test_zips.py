"""What is in the zips, and that each works on its own: in a bare interpreter, with nothing but its layers."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra.packaging.dependencies import BOTOCORE_SERVICES
from tests.packaging.conftest import FUNCTIONS, ROOT, Deployed, Package

_MEGABYTE = 1024 * 1024

# Every variable that any function reads; which function gets which is Terraform's to say, and tested there.
_ENVIRONMENT = {
    "ASYNC_DLQ_URL": "http://127.0.0.1/000000000000/dead-letters",
    "ASYNC_QUEUE_URL": "http://127.0.0.1/000000000000/queue",
    "ATTEMPT_TIMEOUT_SECONDS": "25",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "sluice-test-function",
    "AWS_REGION": "us-east-1",
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    "BUCKET_NAME": "sluice-test",
    "EVENT_BUS_NAME": "sluice-test",
    "KEY_CACHE_SECONDS": "60",
    "LOG_LEVEL": "INFO",
    "MAX_ATTEMPTS": "3",
    "MAX_RECEIVE_COUNT": "5",
    "PROVIDER_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:providers-abcdef",
    "QUEUE_URL": "http://127.0.0.1/000000000000/queue",
    "REQUEST_LOG_TTL_DAYS": "90",
    "RESULT_TTL_DAYS": "7",
    "RETRY_BASE_SECONDS": "1",
    "SLUICE_ENVIRONMENT": "test",
    "STATE_MACHINE_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:chain",
    "TABLE_NAME": "sluice-test",
}

# Imports the handler, and says which of the modules that came from the zips had to be compiled.
_IMPORT = """
import importlib, json, os, sys
name, *paths = sys.argv[1:]
sys.path[:0] = paths
module = importlib.import_module(f"functions.{name}.handler")
ours = [m for m in sys.modules.values() if (getattr(m, "__file__", None) or "").startswith(tuple(paths))]
uncached = [m.__name__ for m in ours if m.__file__.endswith(".py") and not os.path.exists(m.__cached__ or "")]
print(json.dumps({"callable": callable(module.handler), "file": module.__file__, "uncached": uncached}))
"""

_CLIENTS = """
import sys
sys.path.insert(0, sys.argv[1])
import boto3
session = boto3.Session(region_name="eu-central-1", aws_access_key_id="test", aws_secret_access_key="test")
for service in sys.argv[2:]:
    print(session.client(service).meta.endpoint_url)
"""


def bare(script: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run `script` in an interpreter without site-packages, user settings or inherited environment."""
    command = [sys.executable, "-I", "-S", "-B", "-c", script, *arguments]
    done = subprocess.run(command, env=environment or {}, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_a_zip_for_every_function_and_both_layers(package: Package) -> None:
    functions = [f"functions/{name}.zip" for name in FUNCTIONS]
    assert list(package.zips) == [*functions, "layers/dependencies.zip", "layers/sluice.zip"]
    assert len(functions) >= 10


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_imports_with_its_layers_alone(deployed: Deployed, function: str) -> None:
    environment = {**_ENVIRONMENT, "SLUICE_SERVICE": function, "LAMBDA_TASK_ROOT": str(deployed.task(function))}
    answer = json.loads(bare(_IMPORT, function, *deployed.path(function), environment=environment))
    assert answer["callable"]
    assert answer["file"] == str(deployed.task(function) / "functions" / function / "handler.py")
    assert answer["uncached"] == []


def test_a_function_carries_no_other_function(package: Package) -> None:
    for name, path in package.zips.items():
        if name.startswith("functions/"):
            folder = name.removesuffix(".zip") + "/"
            strangers = [member for member in zipfile.ZipFile(path).namelist() if not member.startswith(folder)]
            assert strangers == [], name


def test_a_function_cannot_import_another(deployed: Deployed) -> None:
    first, second, *_ = FUNCTIONS
    probe = "import sys, importlib.util; sys.path[:0] = sys.argv[2:]; print(importlib.util.find_spec(sys.argv[1]))"
    assert bare(probe, f"functions.{second}", *deployed.path(first)).strip() == "None"


def test_the_first_party_layer_is_the_source_without_the_fakes(package: Package) -> None:
    root = ROOT / "layers" / "sluice"
    sources = {path.relative_to(root).as_posix() for path in root.rglob("*.py") if "testing" not in path.parts}
    members = {name for name in zipfile.ZipFile(package.zips["layers/sluice.zip"]).namelist() if name.endswith(".py")}
    assert members == sources
    assert not [name for name in members if "/testing/" in name]


def test_zips_have_neither_times_nor_users_nor_modes_of_the_builder(package: Package) -> None:
    for path in package.zips.values():
        entries = zipfile.ZipFile(path).infolist()
        assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
        assert {(entry.extra, entry.create_system) for entry in entries} == {(b"", 3)}


def test_a_function_with_its_layers_fits_into_lambda(package: Package) -> None:
    sizes = {
        name: sum(entry.file_size for entry in zipfile.ZipFile(path).infolist()) for name, path in package.zips.items()
    }
    layers = sum(size for name, size in sizes.items() if name.startswith("layers/"))
    largest = max(size for name, size in sizes.items() if name.startswith("functions/"))
    assert layers + largest < 250 * _MEGABYTE
    # botocore alone is more when nothing is taken out of it.
    assert layers < 40 * _MEGABYTE


def test_the_third_party_layer_has_no_trace_of_its_installation(package: Package) -> None:
    names = zipfile.ZipFile(package.zips["layers/dependencies.zip"]).namelist()
    records = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    assert [name for name in names if Path(name).name in records or name.startswith("python/bin/")] == []
    assert all(name.startswith("python/") for name in names)


def test_botocore_knows_the_services_in_use_and_no_others(package: Package) -> None:
    prefix = "python/botocore/data/"
    names = zipfile.ZipFile(package.zips["layers/dependencies.zip"]).namelist()
    services = {
        name.removeprefix(prefix).split("/")[0] for name in names if name.startswith(prefix) and name.count("/") > 3
    }
    assert services == set(BOTOCORE_SERVICES)


def test_a_client_of_every_kept_service_can_be_made(deployed: Deployed) -> None:
    services = sorted(BOTOCORE_SERVICES)
    endpoints = bare(_CLIENTS, str(deployed.layers / "python"), *services).split()
    assert len(endpoints) == len(services)
    assert all(url.startswith("https://") and "eu-central-1" in url for url in endpoints), endpoints


def test_the_tracing_sdk_can_be_imported_outside_lambda(deployed: Deployed) -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); import aws_xray_sdk.core; print('ok')"
    environment = {"AWS_DEFAULT_REGION": "us-east-1"}
    assert bare(script, str(deployed.layers / "python"), environment=environment).strip() == "ok"
