"""``python -m local.models --port N``: load the models, then serve them on 127.0.0.1.

Prints one line with the address when ready. Exits with 2 and one line on a wrong argument, 1 when
the port is taken or a model cannot be loaded.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys

from local.models import server
from local.models.settings import LOOPBACK, Settings, SettingsError


def main() -> int:
    """Run the server; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local.models", description="Serve the local models on 127.0.0.1.")
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 lets the system choose")
    arguments = parser.parse_args()
    try:
        settings = Settings.parse(arguments.port, os.environ)
    except SettingsError as wrong:
        parser.error(str(wrong))
    # Before wordllama is imported: it would set up logging its own way.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return _run(settings)


def _run(settings: Settings) -> int:
    try:
        bound = server.bind(settings.port)
    except OSError as taken:
        print(f"local models: port {settings.port} cannot be used: {taken.strerror}", file=sys.stderr)
        return 1
    # Imported after the port is ours, so that a taken one is told at once.
    from local.models.app import LoadedModels, create_app

    try:
        models = LoadedModels.load(settings)
    except OSError as broken:
        print(f"local models: a model cannot be loaded: {broken}", file=sys.stderr)
        return 1
    # From here on a connection is accepted, if only answered once uvicorn runs: whoever reads the line may call.
    bound.listen()
    print(f"local models ready on http://{LOOPBACK}:{bound.getsockname()[1]}", flush=True)
    server.serve(create_app(models), bound)
    return 0


if __name__ == "__main__":
    sys.exit(main())
