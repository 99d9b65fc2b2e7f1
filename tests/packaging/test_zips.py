"""What is in the zips, and that each works on its own: in a bare interpreter, with nothing but its layers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra.packaging.dependencies import BOTOCORE_SERVICES
from local.models.embeddings import Embedder
from sluice.testing.invocations import url_event
from tests.contract.streaming.runtime_api import RuntimeApi
from tests.packaging.conftest import FUNCTIONS, ROOT, Deployed, Package

_MEGABYTE = 1024 * 1024

# What Lambda executes itself, instead of having it imported.
PROGRAMS = {"sluice.zip": {"bin/stream"}}

# Every variable that any function reads; which function gets which is Terraform's to say, and tested there.
_ENVIRONMENT = {
    **{
        f"{queue}_{kind}_URL": f"http://127.0.0.1/000000000000/{queue}-{kind}".lower()
        for queue in ("ASYNC", "BATCHES", "CHUNKS", "ASSEMBLY", "WEBHOOKS")
        for kind in ("QUEUE", "DLQ")
    },
    "ATTEMPT_TIMEOUT_SECONDS": "25",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "sluice-test-function",
    "AWS_REGION": "us-east-1",
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    "BUCKET_NAME": "sluice-test",
    "CHUNK_LINES_MAX": "10000",
    "CHUNK_SECONDS": "60",
    "EVENT_BUS_NAME": "sluice-test",
    "FILE_TTL_DAYS": "30",
    "FIRST_OUTPUT_TIMEOUT_SECONDS": "20",
    "KEY_CACHE_SECONDS": "60",
    "LOG_LEVEL": "INFO",
    "MAX_ATTEMPTS": "3",
    "MAX_BATCH_BYTES": "200000000",
    "MAX_FILE_BYTES": "5000000000",
    "MAX_LINES": "50000",
    "MAX_LINE_BYTES": "6000000",
    "MAX_RECEIVE_COUNT": "5",
    "PRESIGN_SECONDS": "3600",
    "PROVIDER_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:providers-abcdef",
    "QUEUE_URL": "http://127.0.0.1/000000000000/queue",
    "REQUEST_LOG_TTL_DAYS": "90",
    "RESULT_TTL_DAYS": "7",
    "RETRY_BASE_SECONDS": "1",
    "SLUICE_ENVIRONMENT": "test",
    "STATE_MACHINE_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:chain",
    "TABLE_NAME": "sluice-test",
    "UPLOAD_TTL_SECONDS": "3600",
    "WEBHOOK_TIMEOUT_SECONDS": "10",
    "WINDOW": "8",
}
_STREAMING = "chat_stream"

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

# Imports the handler in Lambda's init phase, and says which of its cached parts are made by then.
_INIT = """
import importlib, json, sys
name, *paths = sys.argv[1:]
sys.path[:0] = paths
module = importlib.import_module(f"functions.{name}.handler")
own = {key: part for key, part in vars(module).items() if getattr(part, "__module__", "") == module.__name__}
print(json.dumps({key: part.cache_info().currsize for key, part in own.items() if hasattr(part, "cache_info")}))
"""

TEXT = "Ein Fluß, a river, 川 🙂"
_EMBED = f"""
import json, sys
sys.path[:0] = sys.argv[1:]
from sluice.adapters.in_process import InProcess
from sluice.domain.inference import EmbeddingRequest, Operation
from sluice.domain.routing import Target
target = Target(name="in/embed", provider="in_process", model="static-embeddings", operations=(Operation.EMBED,))
request = EmbeddingRequest(model="embed", inputs=({TEXT!r},))
answer = InProcess().embed(target, request, timeout_s=10)
import wordllama
print(json.dumps({{"vector": answer.vectors[0], "tokens": answer.tokens_by_input, "package": wordllama.__file__}}))
"""
_EMBED_WITHOUT = (
    _EMBED.replace("answer = ", "try: ").partition("import wordllama")[0] + "except Exception as e: print(e.code)"
)

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


def test_there_is_a_zip_for_every_function_and_every_layer(package: Package) -> None:
    functions = [f"functions/{name}.zip" for name in FUNCTIONS]
    layers = [f"layers/{name}.zip" for name in ("dependencies", "embeddings", "sluice")]
    assert list(package.zips) == [*functions, *layers]
    assert len(functions) >= 10


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_imports_with_its_layers_alone(deployed: Deployed, function: str) -> None:
    environment = {**_ENVIRONMENT, "SLUICE_SERVICE": function, "LAMBDA_TASK_ROOT": str(deployed.task(function))}
    answer = json.loads(bare(_IMPORT, function, *deployed.path(function), environment=environment))
    assert answer["callable"]
    assert answer["file"] == str(deployed.task(function) / "functions" / function / "handler.py")
    assert answer["uncached"] == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_makes_all_it_needs_in_the_init_phase(deployed: Deployed, function: str) -> None:
    environment = {
        **_ENVIRONMENT,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "LAMBDA_TASK_ROOT": str(deployed.task(function)),
        "SLUICE_SERVICE": function,
    }
    made = json.loads(bare(_INIT, function, *deployed.path(function), environment=environment))
    assert made
    assert set(made.values()) == {1}


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


def test_the_streaming_function_runs_as_lambda_starts_it(deployed: Deployed, tmp_path: Path) -> None:
    """The wrapper from the layer, an interpreter that knows nothing else, and a Runtime API: a wrong key is a 401."""
    wrapper = deployed.layers / "bin" / "stream"
    # Lambda unpacks with the modes in the zip; Python's zipfile leaves them out.
    wrapper.chmod(0o755)
    api = RuntimeApi()
    environment = {
        **_ENVIRONMENT,
        "_HANDLER": f"functions.{_STREAMING}.handler.handler",
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "LAMBDA_TASK_ROOT": str(deployed.task(_STREAMING)),
        "PATH": os.environ["PATH"],
        "SLUICE_SERVICE": _STREAMING,
    }
    # Of no virtual environment, so that nothing can be imported but what was unpacked.
    interpreter = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    output = tmp_path / "output"
    with output.open("wb") as log:
        command = [str(wrapper), str(interpreter), "/var/runtime/bootstrap.py"]
        process = subprocess.Popen(command, env=environment, cwd="/", stdout=log, stderr=log)
    try:
        asked = api.invoke(url_event("POST", "/v1/chat/completions", body={}, headers={"authorization": "Bearer x"}))
        asked.wait()
        assert asked.prelude["statusCode"] == 401, output.read_text()
        assert asked.headers["lambda-runtime-function-response-mode"] == "streaming"
    finally:
        process.terminate()
        process.wait(10)
        api.close()


def test_zips_have_neither_times_nor_users_nor_modes_of_the_builder(package: Package) -> None:
    for path in package.zips.values():
        entries = zipfile.ZipFile(path).infolist()
        assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
        modes = {entry.filename: entry.external_attr >> 16 for entry in entries}
        assert {name for name, mode in modes.items() if mode != 0o100644} == PROGRAMS.get(path.name, set())
        assert set(modes.values()) <= {0o100644, 0o100755}
        assert {(entry.extra, entry.create_system) for entry in entries} == {(b"", 3)}


def test_a_function_with_its_layers_fits_into_lambda(package: Package) -> None:
    sizes = {
        name: sum(entry.file_size for entry in zipfile.ZipFile(path).infolist()) for name, path in package.zips.items()
    }
    layers = {name: size for name, size in sizes.items() if name.startswith("layers/")}
    largest = max(size for name, size in sizes.items() if name.startswith("functions/"))
    assert sum(layers.values()) + largest < 250 * _MEGABYTE
    # botocore alone is more when nothing is taken out of it.
    assert sum(layers.values()) - layers["layers/embeddings.zip"] < 40 * _MEGABYTE


@pytest.mark.parametrize("layer", ["dependencies", "embeddings"])
def test_a_third_party_layer_has_no_trace_of_its_installation(package: Package, layer: str) -> None:
    names = zipfile.ZipFile(package.zips[f"layers/{layer}.zip"]).namelist()
    records = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    assert [name for name in names if Path(name).name in records or name.startswith("python/bin/")] == []
    assert all(name.startswith("python/") for name in names)


def test_the_embedding_model_works_in_a_function_that_has_its_layer_and_only_there(deployed: Deployed) -> None:
    sluice, extra = str(deployed.layers / "python"), str(deployed.embeddings / "python")
    answer = json.loads(bare(_EMBED, sluice, extra))
    theirs = Embedder.load()
    assert answer["vector"] == pytest.approx(theirs.embed([TEXT])[0].tolist(), abs=1e-6)
    assert answer["tokens"] == [theirs.count(TEXT)]
    # Its data alone: what else the package needs is not there.
    assert answer["package"] is None
    assert "provider_model_not_found" in bare(_EMBED_WITHOUT, sluice)


def test_botocore_knows_the_services_in_use_and_no_others(package: Package) -> None:
    prefix = "python/botocore/data/"
    names = zipfile.ZipFile(package.zips["layers/dependencies.zip"]).namelist()
    services = {
        name.removeprefix(prefix).split("/")[0] for name in names if name.startswith(prefix) and name.count("/") > 3
    }
    assert services == set(BOTOCORE_SERVICES)


def test_models_of_services_are_plain_and_without_documentation(package: Package) -> None:
    prefix = "python/botocore/data/"
    archive = zipfile.ZipFile(package.zips["layers/dependencies.zip"])
    names = [name for name in archive.namelist() if name.startswith(prefix) and name.count("/") > 3]
    assert [name for name in names if name.endswith(".gz")] == []
    models = [name for name in names if name.endswith("/service-2.json")]
    assert len(models) == len(BOTOCORE_SERVICES)
    for name in models:
        model = json.loads(archive.read(name))
        # botocore cannot do without the texts of these.
        model.pop("clientContextParams", None)
        assert '"documentation": "' not in json.dumps(model), name
        assert model["operations"], name


def test_a_client_of_every_kept_service_can_be_made(deployed: Deployed) -> None:
    services = sorted(BOTOCORE_SERVICES)
    endpoints = bare(_CLIENTS, str(deployed.layers / "python"), *services).split()
    assert len(endpoints) == len(services)
    assert all(url.startswith("https://") and "eu-central-1" in url for url in endpoints), endpoints


def test_what_botocore_reads_of_a_models_documentation_is_still_there(deployed: Deployed) -> None:
    presign = "print(session.client('s3').generate_presigned_url('get_object', Params={'Bucket': 'b', 'Key': 'k'}))"
    made = _CLIENTS.partition("for service")[0]
    assert bare(made + presign, str(deployed.layers / "python")).startswith("https://")


def test_the_tracing_sdk_can_be_imported_outside_lambda(deployed: Deployed) -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); import aws_xray_sdk.core; print('ok')"
    environment = {"AWS_DEFAULT_REGION": "us-east-1"}
    assert bare(script, str(deployed.layers / "python"), environment=environment).strip() == "ok"
