"""MLflow's page on the project's own store."""

from __future__ import annotations

import os
import sys

from overtone.tracking import store
from overtone.tracking.store import TrackingError


def serve(host: str, port: int) -> None:
    """Become MLflow's server on the project's store until it is ended; a store that is a server has a page of its own.

    Raises:
        TrackingError: nothing was recorded yet.
    """
    uri = store.tracking_uri()
    if uri.startswith(("http://", "https://")):
        print(f"the runs are on a server, which shows them: {uri}")
        return
    if not store.exists():
        raise TrackingError(f"{store.public_uri()}: nothing is recorded yet; `dvc repro` does")
    # Opened once by ourselves, so that a project that was moved names its files where they are.
    store.client()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    print(f"http://{host}:{port} shows the runs; Ctrl-C ends it", flush=True)
    # The jobs are judges of language models: ten processes that nothing here needs.
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.execve(sys.executable, [*command, "--host", host, "--port", str(port)], os.environ | own)
