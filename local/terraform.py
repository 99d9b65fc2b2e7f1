"""Drives Terraform on the same `infra/` root that production uses, against an instance's local cloud.

Its state is in the S3 backend, in the local cloud itself: state and resources live and die together.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import psutil

from local.cloud import STATE_BUCKET
from local.environment import REGION, aws_environment, base_environment
from local.errors import LocalError
from local.files import read_json, write_json
from local.instance import Instance
from local.plugins import find_plugin_folder, usual_places
from local.prerequisites import Terraform, find_terraform
from local.processes import tail, terminate

__all__ = ["Driver", "Run", "environment"]

PROCESS_NAME = "terraform"
# Most of an apply is the provider waiting for queues and rules to settle, so many resources go side by side.
_PARALLELISM = 40
_INTERRUPT_SECONDS = 10.0

_INIT_HINT = "the AWS provider comes from the public registry, or from a mirror folder named by TF_PLUGIN_DIR"

_BACKEND = {
    "bucket": STATE_BUCKET,
    "key": "sluice/terraform.tfstate",
    "region": REGION,
    "use_lockfile": "true",
    "use_path_style": "true",
}


@dataclass
class Run:
    """What one streamed Terraform command said. Outputs marked sensitive are left out by Terraform itself."""

    exit_code: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    planned: int = 0
    done: int = 0
    busy: set[str] = field(default_factory=set)
    outputs: dict[str, Any] = field(default_factory=dict)

    def read(self, event: Mapping[str, Any]) -> None:
        """Take in one event of Terraform's machine-readable output."""
        match event:
            case {"type": "change_summary", "changes": {"operation": "plan", **changes}}:
                self.planned = sum(count for count in changes.values() if isinstance(count, int))
            case {"type": "apply_start" | "apply_complete", "hook": {"action": "read"}}:
                # A data source that had to wait for a resource; not among those planned.
                pass
            case {"type": "apply_start", "hook": {"resource": {"addr": str() as address}}}:
                self.busy.add(address)
            case {"type": "apply_complete" | "apply_errored", "hook": {"resource": {"addr": str() as address}}}:
                self.busy.discard(address)
                self.done += 1
            case {"type": "diagnostic", "diagnostic": {"severity": "error"} as diagnostic}:
                self.errors[_describe(diagnostic)] += 1
            case {"type": "outputs", "outputs": dict() as outputs}:
                self.outputs = {name: entry["value"] for name, entry in outputs.items() if "value" in entry}

    @property
    def report(self) -> tuple[str, ...]:
        """The errors, line by line; one that every function has is told once, with its count."""
        told = (text + (f"  ({count} times)" if count > 1 else "") for text, count in self.errors.items())
        return tuple(line for text in told for line in text.splitlines())

    @property
    def summary(self) -> str:
        """What it changed, in a few words."""
        if not self.done:
            return "nothing to change"
        return f"{self.done} resource{'' if self.done == 1 else 's'} changed"

    @property
    def progress(self) -> str:
        """How far it is, in a few words."""
        waiting = min(self.busy, default="")
        return f"{self.done} of {self.planned} resources" + (f", waiting for {waiting}" if waiting else "")


def _describe(diagnostic: Mapping[str, Any]) -> str:
    place = diagnostic.get("range") or {}
    where = f" ({place['filename']}:{place['start']['line']})" if place else ""
    where = where or (f" ({diagnostic['address']})" if diagnostic.get("address") else "")
    detail = str(diagnostic.get("detail", "")).strip().splitlines()
    return "\n".join([f"{diagnostic.get('summary', 'error')}{where}", *(f"  {line}" for line in detail)])


def environment(instance: Instance, source: Mapping[str, str]) -> dict[str, str]:
    """Terraform's environment: ours plus the few Terraform settings that are about the machine, not the run."""
    kept = {name: source[name] for name in ("TF_LOG", "TF_LOG_PATH", "TF_PLUGIN_CACHE_DIR") if source.get(name)}
    kept |= {name: value for name, value in source.items() if name.lower().endswith("_proxy")}
    cli_config = source.get("TF_CLI_CONFIG_FILE", "")
    # Terraform stops at a CLI configuration that is named but absent.
    if cli_config and Path(cli_config).is_file():
        kept["TF_CLI_CONFIG_FILE"] = cli_config
    return {
        **base_environment(instance, PROCESS_NAME, source),
        **kept,
        **aws_environment(instance),
        "TF_DATA_DIR": str(instance.terraform_data),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
    }


class Driver:
    """Terraform for one instance. `variables` are passed as -var; `local.tfvars` of the root is always read."""

    def __init__(self, instance: Instance, variables: Mapping[str, str], root: Path | None = None) -> None:
        self.instance = instance
        self.variables = dict(variables)
        self.root = root or instance.infra
        self.environment = environment(instance, os.environ)
        self.log = instance.logs / "terraform.log"

    @cached_property
    def terraform(self) -> Terraform:
        """The Terraform on PATH. Raises LocalError when it is missing or too old."""
        return find_terraform(self.environment)

    def initialise(self) -> bool:
        """`terraform init`, unless already done for the same files, provider and backend. True when it ran."""
        folder = find_plugin_folder(os.environ, usual_places(Path.home()), self.terraform.platform)
        digest = self._init_digest(folder)
        stamp = self.instance.terraform_data / "initialised.json"
        if read_json(stamp) == {"digest": digest} and self._provider_is_there():
            return False
        stamp.unlink(missing_ok=True)
        backend = [f"-backend-config={name}={value}" for name, value in _BACKEND.items()]
        # The committed lock file holds every platform's checksums; a run must not change a tracked file.
        arguments = ["-input=false", "-no-color", "-reconfigure", "-lockfile=readonly", *backend]
        if folder:
            arguments.append(f"-plugin-dir={folder}")
        self._run_plain("init", arguments, _INIT_HINT)
        write_json(stamp, {"digest": digest})
        return True

    def apply(self, progress: Callable[[str], None]) -> Run:
        """Apply without asking; `progress` gets a few words now and then. Raises LocalError with Terraform's errors."""
        return self._change("apply", progress)

    def destroy(self, progress: Callable[[str], None]) -> Run:
        """Destroy everything in the state. Raises LocalError with Terraform's errors."""
        return self._change("destroy", progress)

    def plan(self) -> int:
        """Print a plan. Returns 0 when it is empty and 2 when it is not; raises LocalError when planning fails."""
        # Reading needs no lock, and a plan that was killed must not leave one behind.
        colour = [] if sys.stdout.isatty() else ["-no-color"]
        arguments = ["-input=false", "-detailed-exitcode", "-lock=false", *colour, *self._inputs()]
        code = subprocess.run(self._command("plan", arguments), env=self.environment, check=False).returncode
        if code not in (0, 2):
            raise LocalError("the plan failed", "see Terraform's own words above")
        return code

    def _change(self, verb: str, progress: Callable[[str], None]) -> Run:
        options = ["-json", "-auto-approve", "-input=false", f"-parallelism={_PARALLELISM}"]
        run = self._stream(verb, [*options, *self._inputs()], progress)
        if run.exit_code != 0:
            raise LocalError(
                f"terraform {verb} failed",
                f"mend what is named above and run `{self.instance.up_command}` again, which starts from an empty "
                f"cloud; all output: {self.log}",
                run.report[:30] or tail(self.log, 10),
            )
        return run

    def _stream(self, verb: str, arguments: list[str], progress: Callable[[str], None]) -> Run:
        run = Run()
        with self._open_log(verb) as log:
            process = subprocess.Popen(
                self._command(verb, arguments),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                # Out of the terminal's reach: Terraform gets one SIGINT, from us, as a second one makes it give up.
                start_new_session=True,
            )
            with process:
                try:
                    _follow(process, run, log, progress)
                except BaseException:
                    _interrupt(process)
                    raise
            run.exit_code = process.returncode
        return run

    def _run_plain(self, verb: str, arguments: list[str], hint: str) -> None:
        with self._open_log(verb) as log:
            command = self._command(verb, arguments)
            result = subprocess.run(
                command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            log.write(result.stdout + result.stderr)
        if result.returncode != 0:
            details = tuple(line for line in result.stderr.splitlines() if line.strip(" │╷╵"))
            raise LocalError(f"terraform {verb} failed", f"{hint}; all output: {self.log}", details[:20])

    def _open_log(self, verb: str) -> IO[str]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        mode = "w" if verb == "init" or not self.log.exists() else "a"
        return self.log.open(mode, encoding="utf-8")

    def _command(self, verb: str, arguments: list[str]) -> list[str]:
        return [self.terraform.path, f"-chdir={self.root}", verb, *arguments]

    def _inputs(self) -> list[str]:
        values = self.root / "environments" / "local.tfvars"
        file = [f"-var-file={values}"] if values.is_file() else []
        return file + [f"-var={name}={value}" for name, value in sorted(self.variables.items())]

    def _init_digest(self, folder: Path | None) -> str:
        digest = hashlib.sha256(f"{self.terraform}{folder}{_BACKEND}{self.root}".encode())
        for path in sorted([*self.root.rglob("*.tf"), self.root / ".terraform.lock.hcl"]):
            if path.is_file():
                digest.update(str(path).encode() + path.read_bytes())
        return digest.hexdigest()

    def _provider_is_there(self) -> bool:
        # With -plugin-dir it is a link, which breaks when the mirror is removed.
        binaries = self.instance.terraform_data.glob("providers/*/*/*/*/*/terraform-provider-*")
        return any(binary.exists() for binary in binaries)


def _follow(process: subprocess.Popen[str], run: Run, log: IO[str], progress: Callable[[str], None]) -> None:
    for line in process.stdout or ():
        try:
            event = json.loads(line)
        except ValueError:
            event = {"@message": line.rstrip()}
        log.write(f"{event.get('@timestamp', '')[11:19]} {event.get('@message', '')}\n")
        known = Counter(run.errors)
        run.read(event)
        log.writelines(f"{error}\n" for error in run.errors - known)
        log.flush()
        progress(run.progress)


def _interrupt(process: subprocess.Popen[str]) -> None:
    """Ask Terraform to stop, then make it and its providers."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.Error:
        return
    process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(family, timeout=_INTERRUPT_SECONDS)
    terminate(alive, seconds=2.0)
