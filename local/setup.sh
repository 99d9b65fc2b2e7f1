#!/bin/sh
# Checks what must be on the machine, then brings a virtual environment up to date. Used by the Makefile:
#
#   sh local/setup.sh local      .venv with what `make up` needs
#   sh local/setup.sh dev        .venv with the tests' and checks' tools as well
#   sh local/setup.sh checkov    .local/venvs/checkov (it pins libraries that the others need newer)
#   sh local/setup.sh openai-suite    .local/venvs/openai-suite (plugins that our own tests must not have)
#   sh local/setup.sh litellm    .local/venvs/litellm (what `make bench` compares itself with)
#
# Everything comes from requirements/<name>.txt, pinned by hash. Nothing changed: nothing done, in a tenth of a second.
# PYTHON names the interpreter; otherwise a suitable one is looked for on PATH.
set -eu

name=$1
requirements=requirements/$name.txt
case $name in
  local | dev) folder=.venv ;;
  *) folder=.local/venvs/$name ;;
esac
records=$folder/.sluice # what this script knows about the environment; inside it, so both go together
here=$(pwd -P)
log=.local/logs/setup-$name.log
lock=.local/setup.lock

problem() {
  echo "error: $*" >&2
  problems=1
}

version_of() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

# Sets $python, preferring versions that every pinned package has a wheel for.
find_python() {
  python= newer= seen=
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    version=$(version_of "$candidate")
    case $version in
      3.11 | 3.12 | 3.13) python=$candidate && return ;;
      3.1[4-9] | 3.[2-9][0-9]) newer=${newer:-$candidate} ;;
      ?*) seen=${seen:-", $candidate is $version"} ;;
    esac
  done
  python=$newer
  missing=", none is on PATH"
  [ -z "${PYTHON:-}" ] || missing=", PYTHON=$PYTHON does not run"
  [ -n "$python" ] || problem "Python 3.11 or newer is needed${seen:-$missing}." \
    "Get it: https://www.python.org/downloads (macOS: brew install python@3.13, Debian and Ubuntu:" \
    "apt install python3 python3-venv), or name one: make PYTHON=/path/to/python3.13 ..."
}

check_terraform() {
  how="Get it: https://developer.hashicorp.com/terraform/install (macOS: brew install hashicorp/tap/terraform)"
  # Terraform complains about a configuration file that is named but missing.
  [ -f "${TF_CLI_CONFIG_FILE:-}" ] || unset TF_CLI_CONFIG_FILE
  version=$(CHECKPOINT_DISABLE=1 terraform version 2>/dev/null | sed -n 's/^Terraform v//p')
  case $version in
    '') problem "Terraform 1.10 or newer is needed, none is on PATH. $how" ;;
    0.* | 1.[0-9] | 1.[0-9].*) problem "Terraform 1.10 or newer is needed, the one on PATH is $version. $how" ;;
  esac
}

# The environment is whole, made here, from these requirements, and with the interpreter that was asked for.
is_fresh() {
  cmp -s "$requirements" "$records/$name.txt" && is_ours
}

is_ours() {
  [ ! -e "$records/installing" ] && [ "$(cat "$records/checkout" 2>/dev/null)" = "$here" ] || return 1
  actual=$(version_of "$folder/bin/python")
  [ -n "$actual" ] && { [ -z "${PYTHON:-}" ] || [ "$actual" = "$(version_of "$PYTHON")" ]; }
}

# A link is made in one step and carries its maker's process id, so a lock whose maker died is recognised.
take_lock() {
  until ln -s $$ "$lock" 2>/dev/null; do
    kill -0 "$(readlink "$lock")" 2>/dev/null || rm -f "$lock"
    sleep 0.2
  done
  trap 'rm -f "$lock"' EXIT
  trap 'exit 130' INT TERM
}

run_logged() {
  "$@" >>"$log" 2>&1 && return
  tail -n 15 "$log" >&2
  return 1
}

create() {
  echo "setup: making $folder with Python $(version_of "$python")"
  rm -rf "$folder"
  run_logged "$python" -m venv "$folder" || {
    rm -rf "$folder"
    problem "$python could not make $folder. On Debian and Ubuntu: apt install python3-venv"
    exit 1
  }
  mkdir -p "$records"
  echo "$here" >"$records/checkout"
}

install() {
  echo "setup: installing $requirements (a minute or so the first time; log: $log)"
  # Found by a later run, it says that this one did not come to its end.
  : >"$records/installing"
  # The user's settings for other projects must not send the packages elsewhere. Bytecode appears when first used.
  unset PIP_USER PIP_TARGET PIP_PREFIX PYTHONHOME PYTHONPATH
  run_logged "$folder/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-compile \
    --require-hashes -r "$requirements" || {
    problem "$requirements could not be installed; the first time a package index must be reachable. Log: $log"
    exit 1
  }
  # One dotted name everywhere: the same two roots as in Lambda.
  [ "$folder" != .venv ] || "$folder/bin/python" - "$here" <<'PATHS'
import pathlib, sys, sysconfig
roots = [sys.argv[1], sys.argv[1] + "/layers/sluice/python"]
pathlib.Path(sysconfig.get_path("purelib"), "sluice-checkout.pth").write_text("\n".join(roots) + "\n")
PATHS
  cp "$requirements" "$records/$name.txt"
  # dev.txt holds everything that local.txt holds, at the same versions.
  [ "$name" != dev ] || cp requirements/local.txt "$records/local.txt"
  rm -f "$records/installing"
}

problems=
find_python
check_terraform
[ -z "$problems" ] || exit 1
is_fresh && exit 0

mkdir -p .local/logs "$(dirname "$folder")"
take_lock
is_fresh && exit 0
: >"$log"
is_ours || create
install
