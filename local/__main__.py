"""Entry point of `python -m local`: checks the interpreter before anything newer than it can be imported."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a newcomer's python3 may well be older than the project's floor
    sys.exit(
        "error: Sluice needs Python 3.11 or newer, this is "
        + sys.version.split()[0]
        + "\n  hint: install a newer Python and run `make up PYTHON=python3.13`"
    )

try:
    from local.cli import main
except ModuleNotFoundError as missing:
    if (missing.name or "").split(".")[0] == "local":
        raise
    sys.exit(
        "error: the virtual environment is incomplete: it has no module "
        + str(missing.name)
        + "\n  hint: delete .venv and run `make up` again, which rebuilds it"
    )

if __name__ == "__main__":
    sys.exit(main())
