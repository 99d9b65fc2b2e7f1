"""The layers of third-party packages: locked wheels, without what no function needs.

botocore ships models of some 400 services, which make up most of its size, and a list of endpoints of 1.2 MB, which the
first client of a process parses whole. Both are cut down to what the functions call. A model is mostly documentation,
compressed; what is left without it lies there plain, so that a client is made of it sooner.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.packaging.errors import PackagingError
from infra.packaging.targets import Target

__all__ = ["BOTOCORE_SERVICES", "explain", "install", "strip"]

# What functions call, and `xray`: outside Lambda the X-Ray SDK makes a client of it when it is imported.
BOTOCORE_SERVICES = frozenset(
    {
        "bedrock-runtime",
        "dynamodb",
        "events",
        "kms",
        "lambda",
        "s3",
        "sagemaker-runtime",
        "secretsmanager",
        "sqs",
        "stepfunctions",
        "sts",
        "xray",
    }
)
# endpoints.json goes by endpoint prefix, which for these differs from the service's name.
_ENDPOINT_PREFIXES = (BOTOCORE_SERVICES - {"stepfunctions", "sagemaker-runtime"}) | {"states", "runtime.sagemaker"}
# Public partitions; the others are isolated networks that this platform is not deployed to.
_PARTITIONS = frozenset({"aws", "aws-cn", "aws-us-gov"})
# Files of an installed distribution that tell about the installation (paths, installer), not about the distribution.
_INSTALLATION_RECORDS = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})
_ELF_AARCH64 = 183

# pip's own words, and what they mean here. The first that is found wins.
_PIP_FAILURES = (
    (r"DO NOT MATCH THE HASHES", "a downloaded file does not match its hash: do not use it; see {requirements}"),
    (
        r"Hashes are required in --require-hashes mode|all requirements must have their versions pinned",
        "a requirement has no hash or no exact version: run `make lock` instead of editing {requirements}",
    ),
    (
        r"ConnectionError|NameResolutionError|Network is unreachable|Max retries exceeded|Timeout|ProxyError|SSLError",
        "the package index cannot be reached: check the network or the pip configuration",
    ),
    (r"No matching distribution found for ([^\s(]+)", "there is no wheel of {0} for Python {python} on this target"),
    (r"No module named pip", "the running Python has no pip: build with the one in .venv (`make package`)"),
)


def install(requirements: Path, folder: Path, target: Target) -> None:
    """Install the locked `requirements` into `folder` for `target`, from wheels only.

    Raises PackagingError when pip fails or a wheel turns out to be for another machine.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    # Built from source, an extension module would be for this machine, and different on every one.
    command += ["--only-binary", ":all:", "--require-hashes", "--no-deps", "--no-compile", "--target", str(folder)]
    if target.platforms:
        command += ["--python-version", target.python, "--implementation", "cp"]
        command += [option for tag in target.platforms for option in ("--platform", tag)]
    done = subprocess.run([*command, "-r", str(requirements)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PackagingError(explain(done.stderr, requirements, target.python))
    _check_machine(folder, target)


def explain(stderr: str, requirements: Path, python: str) -> str:
    """What went wrong, by what pip wrote while it installed `requirements` for that Python ("3.13"), in one line."""
    for pattern, meaning in _PIP_FAILURES:
        if found := re.search(pattern, stderr):
            return meaning.format(*found.groups(), requirements=requirements.name, python=python)
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR")] or stderr.splitlines() or ["no output"]
    return f"pip could not install {requirements.name}: {errors[-1].removeprefix('ERROR: ')}"


def _check_machine(folder: Path, target: Target) -> None:
    """Refuse an extension module that the target could not load."""
    if not target.platforms:
        return
    for path in sorted(folder.rglob("*.so*")):
        with path.open("rb") as file:
            header = file.read(20)
        # ELF header: e_machine is the half-word at offset 18.
        machine = struct.unpack_from("<H", header, 18)[0] if header[:4] == b"\x7fELF" and len(header) == 20 else None
        # What a wheel brings along for its extension modules (OpenBLAS) is of no particular Python.
        is_library = path.parent.parent == folder and path.parent.name.endswith(".libs")
        is_for_python = is_library or f".{target.cache_tag}-" in path.name or ".abi3." in path.name
        if machine != _ELF_AARCH64 or not is_for_python:
            raise PackagingError(f"{path.relative_to(folder)} is not for Python {target.python} on arm64")


def strip(folder: Path) -> None:
    """Remove from an installed layer what is never used at run time, and what differs between two installations."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            # Typing stubs; tests; and bytecode, which is compiled anew for the target.
            if path.name in {"__pycache__", "tests"} or (path.parent == folder and path.name.endswith("-stubs")):
                shutil.rmtree(path)
        elif path.suffix == ".pyi" or (path.name in _INSTALLATION_RECORDS and path.parent.suffix == ".dist-info"):
            path.unlink()
    if (folder / "botocore").is_dir():
        _strip_aws(folder)


def _strip_aws(folder: Path) -> None:
    # Models of boto3's resource interface, of which only clients are used, and sample code.
    shutil.rmtree(folder / "boto3" / "data", ignore_errors=True)
    shutil.rmtree(folder / "boto3" / "examples", ignore_errors=True)
    _strip_botocore(folder / "botocore" / "data")


def _strip_botocore(data: Path) -> None:
    missing = BOTOCORE_SERVICES - {path.name for path in data.iterdir()}
    if missing:
        raise PackagingError(f"this botocore has no model of: {', '.join(sorted(missing))}")
    for service in [path for path in data.iterdir() if path.is_dir()]:
        if service.name not in BOTOCORE_SERVICES:
            shutil.rmtree(service)
            continue
        # Without an explicit version botocore takes the newest.
        *outdated, newest = sorted(path for path in service.iterdir() if path.is_dir())
        for version in outdated:
            shutil.rmtree(version)
        # Read by the documentation generator only.
        (newest / "examples-1.json").unlink(missing_ok=True)
        for model in newest.glob("*.json.gz"):
            _unpack_model(model)
    _trim_endpoints(data / "endpoints.json")


def _unpack_model(path: Path) -> None:
    content = _without_documentation(json.loads(gzip.decompress(path.read_bytes())))
    path.with_suffix("").write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    path.unlink()


def _without_documentation(model: Any) -> Any:
    """The model without the texts of its API reference. A *shape* of that name would be an object, and stays."""
    if isinstance(model, list):
        return [_without_documentation(member) for member in model]
    if not isinstance(model, dict):
        return model
    return {
        # botocore reads the texts of these few itself (ServiceModel.client_context_parameters), for S3 at every call.
        name: value if name == "clientContextParams" else _without_documentation(value)
        for name, value in model.items()
        if not (name == "documentation" and isinstance(value, str))
    }


def _trim_endpoints(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content["partitions"] = [part for part in content["partitions"] if part["partition"] in _PARTITIONS]
    for partition in content["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in services if name in _ENDPOINT_PREFIXES}
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
