"""The parts of the application, and their routes on a gateway's FastAPI application."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI

from serve_apps.api.openapi_document import install_document
from serve_apps.platform_app.batches.part import BatchesPart
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.evals.part import EvalsPart
from serve_apps.platform_app.files.part import FilesPart
from serve_apps.platform_app.fine_tuning.building import TuningCluster, build_fine_tuning
from serve_apps.platform_app.part import Part
from serve_apps.platform_app.runs.part import RunsPart
from serve_apps.platform_app.runs.run_reader import RunReader
from serve_apps.platform_app.votes.part import VotesPart
from tuneyard.api.wire.platform_api.batches import CreateBatchRequest

MULTIPART_PATHS = ("/v1/files", "/v1/uploads/[^/]+/parts")
"""Routes whose bodies are multipart/form-data; see BrowserGuard."""


def build_parts(
    context: PlatformContext, cluster: TuningCluster | None = None, runs: RunReader | None = None
) -> list[Part]:
    """Every part of the application, for one process. Jobs and tuned models run on `cluster`, and `runs` reads all
    runs; by default those of this process' cluster.

    Raises ConfigError for a base of jobs whose config is not valid.
    """
    return [
        FilesPart(context),
        *build_fine_tuning(context, cluster or TuningCluster.of_this_process(context)),
        BatchesPart(context),
        EvalsPart(context),
        VotesPart(context),
        RunsPart(context, runs),
    ]


def add_platform_routes(api: FastAPI, parts: Sequence[Part], context: PlatformContext) -> None:
    """Adds the routes of all parts to an application that create_gateway_api made with MULTIPART_PATHS."""
    for part in parts:
        part.add_routes(api, context.gate)
    install_document(api, (CreateBatchRequest,))
