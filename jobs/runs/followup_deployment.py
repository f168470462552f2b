"""The deployment after a run: starts `serve_apps.deploy` with the config that `deploy` names."""

from __future__ import annotations

import signal
import subprocess
import sys

from tuneyard.cluster.connection import disconnect_ray
from tuneyard.core.errors import TrainingError
from tuneyard.core.room_commands import DEPLOY


def deploy_result(config: str, address: str | None, *, detach: bool) -> None:
    """Serves the run's result with the serving config at `config`.

    With `detach` (on a cluster) the deployment stays up and this returns; otherwise it serves until Ctrl-C. Raises
    TrainingError when the deployment fails.
    """
    options = ["--detach"] if detach else []
    options += ["--address", address] if address is not None else []
    disconnect_ray()
    with subprocess.Popen([sys.executable, "-m", DEPLOY, "--config", config, *options]) as child:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            # The child ends when its open streams have ended. Popen's own exit would kill it at once.
            child.send_signal(signal.SIGINT)
            child.wait()
            raise
    if code != 0:
        raise TrainingError(
            f"The model is trained and registered, but its deployment failed (exit code {code}; its messages are "
            "above). Run the same command again to deploy it without training."
        )
