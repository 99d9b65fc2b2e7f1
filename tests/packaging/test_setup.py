"""`local/setup.sh`: what it says when something is missing, and when it makes a virtual environment anew.

The interpreter, pip and Terraform are stand-ins that only record how they were called.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

# What the script itself uses.
_TOOLS = ("sh", "cat", "cmp", "cp", "dirname", "ln", "mkdir", "readlink", "rm", "sed", "sleep", "tail")

_PYTHON = """#!/bin/sh
case "$*" in
  *"-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python"; echo venv >>"$CALLS" ;;
  *"-m pip"*) echo "pip $*" >>"$CALLS"; echo "ERROR: out of luck"; exit "${PIP_EXIT:-0}" ;;
  -c*) echo @VERSION@ ;;
  *) cat >/dev/null ;;
esac
"""


@dataclass
class Machine:
    """A checkout with one requirement file, and a PATH with nothing on it but what a test puts there."""

    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "sluice"

    def has_python(self, version: str, name: str = "python3") -> Path:
        return self.has(name, _PYTHON.replace("@VERSION@", version))

    def has_terraform(self, version: str) -> None:
        self.has("terraform", f"#!/bin/sh\necho 'Terraform v{version}'\necho 'on linux_amd64'\n")

    def has(self, name: str, script: str) -> Path:
        path = self.folder / "bin" / name
        path.write_text(script)
        path.chmod(0o755)
        return path

    def setup(self, name: str = "local", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "local/setup.sh", name],
            cwd=self.checkout,
            env={"PATH": str(self.folder / "bin"), "CALLS": str(self.folder / "calls"), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def calls(self) -> list[str]:
        """How the interpreter was called since the last look: "venv" and "pip"."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line.split()[0] for line in lines]


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in _TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    (machine.checkout / "local").mkdir(parents=True)
    shutil.copy(ROOT / "local" / "setup.sh", machine.checkout / "local")
    (machine.checkout / "requirements").mkdir()
    for name in ("local", "dev", "checkov"):
        (machine.checkout / "requirements" / f"{name}.txt").write_text(f"# {name}\n")
    return machine


@pytest.fixture
def machine(bare: Machine) -> Machine:
    bare.has_python("3.12")
    bare.has_terraform("1.11.4")
    return bare


def test_a_missing_terraform_is_one_clear_line(bare: Machine) -> None:
    bare.has_python("3.11")
    done = bare.setup()
    assert done.returncode == 1
    assert done.stderr.startswith("error: Terraform 1.10 or newer is needed, none is on PATH. Get it: https://")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("version", ["0.15.5", "1.5.7", "1.9.8"])
def test_an_old_terraform_is_one_clear_line(bare: Machine, version: str) -> None:
    bare.has_python("3.11")
    bare.has_terraform(version)
    done = bare.setup()
    assert done.returncode == 1
    assert f"Terraform 1.10 or newer is needed, the one on PATH is {version}. Get it: " in done.stderr


@pytest.mark.parametrize("version", ["1.10.0", "1.14.2", "2.0.0"])
def test_a_new_enough_terraform_is_taken(bare: Machine, version: str) -> None:
    bare.has_python("3.11")
    bare.has_terraform(version)
    assert bare.setup().returncode == 0


def test_a_missing_python_is_one_clear_line(bare: Machine) -> None:
    bare.has_terraform("1.11.4")
    done = bare.setup()
    assert done.returncode == 1
    assert done.stderr.startswith("error: Python 3.11 or newer is needed, none is on PATH. Get it: ")
    assert done.stderr.count("\n") == 1


def test_an_old_python_is_one_clear_line(bare: Machine) -> None:
    bare.has_terraform("1.11.4")
    bare.has_python("3.9")
    done = bare.setup()
    assert done.stderr.startswith("error: Python 3.11 or newer is needed, python3 is 3.9. Get it: ")
    assert not (bare.checkout / ".venv").exists()


def test_a_named_python_that_does_not_run_is_one_clear_line(machine: Machine) -> None:
    machine.has("shim", "#!/bin/sh\nexit 127\n")
    done = machine.setup(PYTHON="shim")
    assert done.stderr.startswith("error: Python 3.11 or newer is needed, PYTHON=shim does not run. Get it: ")


def test_everything_that_is_missing_is_named_at_once(bare: Machine) -> None:
    assert bare.setup().stderr.count("error: ") == 2


def test_a_newer_python_beside_an_old_one_is_found(bare: Machine) -> None:
    bare.has_terraform("1.11.4")
    bare.has_python("3.9")
    bare.has_python("3.13", "python3.13")
    assert "with Python 3.13" in bare.setup().stdout


def test_a_python_that_wheels_exist_for_is_preferred(bare: Machine) -> None:
    bare.has_terraform("1.11.4")
    bare.has_python("3.15")
    assert "with Python 3.15" in bare.setup().stdout
    shutil.rmtree(bare.checkout / ".venv")
    bare.has_python("3.12", "python3.12")
    assert "with Python 3.12" in bare.setup().stdout


def test_packages_are_installed_by_hash(machine: Machine) -> None:
    assert machine.setup().returncode == 0
    pip = (machine.folder / "calls").read_text().splitlines()[1]
    assert "--require-hashes -r requirements/local.txt" in pip
    assert machine.calls() == ["venv", "pip"]


def test_what_is_up_to_date_is_left_alone(machine: Machine) -> None:
    machine.setup()
    machine.calls()
    done = machine.setup()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.calls() == []


def test_the_development_tools_are_added_to_the_same_environment(machine: Machine) -> None:
    machine.setup("local")
    machine.calls()
    machine.setup("dev")
    assert machine.calls() == ["pip"]
    machine.setup("local")
    assert machine.calls() == []


def test_changed_requirements_are_installed_into_what_is_there(machine: Machine) -> None:
    machine.setup()
    machine.calls()
    (machine.checkout / "requirements" / "local.txt").write_text("# another version\n")
    machine.setup()
    assert machine.calls() == ["pip"]


def test_an_interrupted_installation_starts_over(machine: Machine) -> None:
    failed = machine.setup(PIP_EXIT="1")
    assert failed.returncode == 1
    assert "requirements/local.txt could not be installed" in failed.stderr
    assert "out of luck" in failed.stderr
    machine.calls()
    assert machine.setup().returncode == 0
    assert machine.calls() == ["venv", "pip"]


def test_an_environment_with_a_broken_interpreter_is_made_anew(machine: Machine) -> None:
    machine.setup()
    machine.calls()
    (machine.checkout / ".venv" / "bin" / "python").unlink()
    assert machine.setup().returncode == 0
    assert machine.calls() == ["venv", "pip"]


def test_an_environment_of_a_moved_checkout_is_made_anew(machine: Machine) -> None:
    machine.setup()
    machine.calls()
    (machine.checkout / ".venv" / ".sluice" / "checkout").write_text("/somewhere/else\n")
    machine.setup()
    assert machine.calls() == ["venv", "pip"]


def test_asking_for_another_python_makes_the_environment_anew(machine: Machine) -> None:
    machine.setup()
    machine.calls()
    other = machine.has_python("3.13", "another")
    assert "with Python 3.13" in machine.setup(PYTHON=str(other)).stdout
    machine.calls()
    machine.setup(PYTHON=str(other))
    assert machine.calls() == []


def test_an_environment_that_cannot_be_made_is_explained(machine: Machine) -> None:
    machine.has("python3", '#!/bin/sh\ncase "$*" in *venv*) echo no ensurepip; exit 1 ;; *) echo 3.12 ;; esac\n')
    done = machine.setup()
    assert done.returncode == 1
    assert "no ensurepip" in done.stderr
    assert "apt install python3-venv" in done.stderr


def test_a_lock_whose_holder_died_is_no_obstacle(machine: Machine) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (machine.checkout / ".local").mkdir()
    lock = machine.checkout / ".local" / "setup.lock"
    lock.symlink_to(str(dead.pid))
    assert machine.setup().returncode == 0
    assert not lock.is_symlink()
