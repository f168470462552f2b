"""Secrets of a submitted job, which travel as a Python package and become environment variables where the job runs.

Ray shows a job's command line, metadata and runtime environment to everyone who may list jobs, so no secret may be
there.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

SECRETS_PACKAGE = "tuneyard_job_secrets"
"""The package that `cluster.job_secrets` adds to a job; its file SECRETS_FILE holds the variables as JSON."""

SECRETS_FILE = "secrets.json"


def load_job_secrets() -> None:
    """Sets the environment variables in the job's package; does nothing where there is no such package.

    Called by the commands that run as jobs, and by Ray in each worker process of a job.
    """
    spec = importlib.util.find_spec(SECRETS_PACKAGE)
    if spec is not None and spec.origin is not None:
        os.environ |= json.loads(Path(spec.origin).with_name(SECRETS_FILE).read_text(encoding="utf-8"))
