"""The ``openai`` package's own tests for the routes that Sluice serves, run against the platform.

They come with the package's source distribution, which pip downloads and checks against the hash that
``requirements/dev.txt`` pins; nothing of it is kept in the repository. What is documented as unsupported is named, with
its reason, in ``openai_suite/sluice_openai_suite.py``. The models that they ask for are aliases of the local cloud.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.support import ROOT, Platform

CACHE = ROOT / ".local" / "cache" / "openai-suite"
PLUGIN = Path(__file__).parent / "openai_suite"
FILES = ("chat/test_completions.py", "test_completions.py", "test_embeddings.py", "test_models.py")
# Without a key the suite's tests fail all the same, and so would prove nothing by failing.
LEAST_PASSED = 100


def run(*command: str | Path, env: dict[str, str] | None = None, timeout_s: int = 600) -> str:
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def suite() -> Path:
    """The unpacked source distribution of the pinned version."""
    pinned = re.search(
        r"^openai==(?P<version>\S+) \\\n(?:    --hash=\S+(?: \\)?\n)+",
        (ROOT / "requirements" / "dev.txt").read_text(),
        re.MULTILINE,
    )
    assert pinned
    folder = CACHE / f"openai-{pinned['version']}"
    if not (folder / "tests" / "conftest.py").is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        requirements = CACHE / "requirements.txt"
        requirements.write_text(pinned[0])
        download = ("download", "--quiet", "--no-deps", "--no-binary", "openai", "--require-hashes")
        run(sys.executable, "-m", "pip", *download, "--dest", CACHE, "-r", requirements)
        with tarfile.open(CACHE / f"openai-{pinned['version']}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    return folder


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter that has what the suite needs and none of our own plugins."""
    run("sh", "local/setup.sh", "openai-suite")
    return ROOT / ".local" / "venvs" / "openai-suite" / "bin" / "python"


def outcomes(report: Path) -> Counter[str]:
    """How many test cases ended how."""
    cases = ET.parse(report).iter("testcase")
    return Counter(child.tag if (child := next(iter(case), None)) is not None else "passed" for case in cases)


def test_the_clients_own_tests_pass(platform: Platform, suite: Path, python: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "AWS_", "PYTHON"))}
    env |= {
        "TEST_API_BASE_URL": platform.url,
        "SLUICE_TEST_API_KEY": platform.key,
        "PYTHONPATH": str(PLUGIN),
        "NO_PROXY": "127.0.0.1,localhost",
    }
    options = ("-q", "-p", "sluice_openai_suite", "-p", "no:cacheprovider", "-o", "addopts=", f"--junitxml={report}")
    files = [suite / "tests" / "api_resources" / file for file in FILES]
    run(python, "-m", "pytest", *options, f"--rootdir={suite}", *files, env=env)
    counted = outcomes(report)
    # "skipped" is how the report calls an expected failure.
    assert set(counted) == {"passed", "skipped"}
    assert counted["passed"] >= LEAST_PASSED
