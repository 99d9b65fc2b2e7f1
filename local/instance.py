"""An instance of the local platform: a folder and three ports. Everything that differs between two instances is here.

`make up` uses the instance `default`; the test suite uses `test` and so never touches what `make up` runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from local.errors import LocalError
from local.files import read_json, write_json

__all__ = ["INSTANCE_VARIABLE", "Instance", "PortVariables", "Ports"]

INSTANCE_VARIABLE = "SLUICE_LOCAL_INSTANCE"
_PORTS_FILE = "ports.json"


@dataclass(frozen=True)
class Ports:
    """The ports of an instance, all on 127.0.0.1.

    `xray` is UDP: functions send their trace segments there. Nothing listens on it unless a test does.
    """

    cloud: int
    models: int
    xray: int

    @classmethod
    def load(cls, path: Path) -> Ports | None:
        """The ports in a JSON file; None when it is missing or broken."""
        match read_json(path):
            case {"cloud": int() as cloud, "models": int() as models, "xray": int() as xray}:
                return cls(cloud, models, xray)
        return None


@dataclass(frozen=True)
class PortVariables:
    """The environment variables that move an instance to other ports."""

    cloud: str
    models: str
    xray: str


# The tests have variables of their own: a port chosen for `make up` must not pull them onto the same port.
_KNOWN = {
    "default": (
        Path(".local"),
        PortVariables("SLUICE_CLOUD_PORT", "SLUICE_MODELS_PORT", "SLUICE_XRAY_PORT"),
        Ports(cloud=4566, models=4577, xray=4578),
    ),
    "test": (
        Path(".local", "test"),
        PortVariables("SLUICE_TEST_CLOUD_PORT", "SLUICE_TEST_MODELS_PORT", "SLUICE_TEST_XRAY_PORT"),
        Ports(cloud=14566, models=14577, xray=14578),
    ),
}


@dataclass(frozen=True)
class Instance:
    """Where one local platform lives. `root` is the repository, `state` the folder that holds all it writes."""

    name: str
    root: Path
    state: Path
    ports: Ports
    port_variables: PortVariables

    @classmethod
    def named(cls, name: str, root: Path, environment: Mapping[str, str]) -> Instance:
        """The instance `default` or `test` of the repository at `root`.

        Its ports come from `environment`, else from what was started last and not taken down, else they are the
        instance's usual ones. Raises LocalError when there is no such instance or a port variable is not a port.
        """
        if name not in _KNOWN:
            raise LocalError(f"there is no local instance called {name!r}", "use --instance default or --instance test")
        folder, variables, usual = _KNOWN[name]
        state = root / folder
        running = Ports.load(state / _PORTS_FILE) or usual
        ports = Ports(
            cloud=_port(environment, variables.cloud, running.cloud),
            models=_port(environment, variables.models, running.models),
            xray=_port(environment, variables.xray, running.xray),
        )
        return cls(name, root, state, ports, variables)

    def remember_ports(self) -> None:
        """Make later commands find the instance on these ports without being told again."""
        write_json(self.ports_file, asdict(self.ports))

    @property
    def ports_file(self) -> Path:
        """The ports in use; exists from `up` to `down`."""
        return self.state / _PORTS_FILE

    @property
    def cloud_url(self) -> str:
        """Endpoint of the local AWS, for every service."""
        return f"http://127.0.0.1:{self.ports.cloud}"

    @property
    def links_url(self) -> str:
        """The same, as links to files name it: another host, so that no client follows one with its API key."""
        return f"http://localhost:{self.ports.cloud}"

    @property
    def models_url(self) -> str:
        """Root of the local model server."""
        return f"http://127.0.0.1:{self.ports.models}"

    @property
    def xray_address(self) -> str:
        """`host:port` (UDP) that the functions send trace segments to."""
        return f"127.0.0.1:{self.ports.xray}"

    @property
    def infra(self) -> Path:
        """The Terraform root."""
        return self.root / "infra"

    @property
    def venvs(self) -> Path:
        """Virtual environments, shared by all instances of one repository."""
        return self.root / ".local" / "venvs"

    @property
    def processes(self) -> Path:
        """Folder of process records, one JSON file each."""
        return self.state / "processes"

    @property
    def logs(self) -> Path:
        """Folder of log files; survives `down`."""
        return self.state / "logs"

    @property
    def temporary(self) -> Path:
        """TMPDIR of the local cloud (unpacked functions and layers), emptied at its start."""
        return self.state / "tmp"

    @property
    def terraform_data(self) -> Path:
        """TF_DATA_DIR."""
        return self.state / "terraform"

    @property
    def environment_file(self) -> Path:
        """Connection details as NAME=value lines."""
        return self.state / "env"

    @property
    def applied_file(self) -> Path:
        """What was applied last, and to which cloud."""
        return self.state / "applied.json"

    @property
    def applying_file(self) -> Path:
        """Marker: exists while Terraform changes the cloud. Found at a start, it means a half-finished apply."""
        return self.state / "applying.json"

    @property
    def lock_file(self) -> Path:
        """Held by whoever changes the instance."""
        return self.state / "lock"

    @property
    def command(self) -> str:
        """What to type before a verb to reach this instance."""
        return "python -m local" + ("" if self.name == "default" else f" --instance {self.name}")

    @property
    def up_command(self) -> str:
        """What to type to start this instance."""
        return "make up" if self.name == "default" else f"{self.command} up"


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise LocalError(f"{name}={text} is not a port", f"set {name} to a number from 1 to 65535, or unset it")
    return int(text)
