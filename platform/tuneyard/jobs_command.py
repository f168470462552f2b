"""`tuneyard jobs`: submit, list, logs, stop: Ray's job submission with what a run of ours needs filled in."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneyard.cluster import CHECKOUT
from tuneyard.config import load_config
from tuneyard.errors import ClusterError, ConfigError
from tuneyard.finetune_config import FinetuneConfig
from tuneyard.home import tuneyard_home
from tuneyard.nemo_parallelism import check_nemo_config
from tuneyard.nemo_recipe_values import recipe_values

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
TOKEN_FILE = Path("~/.ray/auth_token")
FORWARDED = ("MLFLOW_TRACKING_URI", "HF_TOKEN")
EPILOG = """\
CONFIG is a file in the checkout: the checkout, without what git ignores, is what the cluster gets.

examples:
  tuneyard jobs submit jobs/configs/gpt_oss_20b_lora.yaml --dry-run
  tuneyard jobs submit jobs/configs/gpt_oss_20b_lora.yaml --set training.epochs=1 --address http://head:8265
  tuneyard jobs logs raysubmit_… --follow
"""


def add_jobs_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `jobs` and what is below it."""
    jobs = commands.add_parser(
        "jobs", help="run jobs on a Ray cluster", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    below = jobs.add_subparsers(required=True, metavar="COMMAND")
    submit = below.add_parser("submit", help="finetune on the cluster; follows the log until the job ends")
    submit.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of a finetuning run, in the checkout")
    submit.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="FIELD=VALUE", help="override; repeatable"
    )
    submit.add_argument("--dry-run", action="store_true", help="print what would be submitted; ask no cluster")
    submit.add_argument("--no-wait", action="store_true", help="return when it is submitted")
    submit.set_defaults(action=_submit)
    _with_address(submit)
    listed = below.add_parser("list", help="jobs of the cluster and how they stand")
    listed.set_defaults(action=_list)
    _with_address(listed)
    logs = below.add_parser("logs", help="what a job printed")
    logs.add_argument("job", metavar="JOB")
    logs.add_argument("--follow", action="store_true", help="until the job ends; its exit code is this command's")
    logs.set_defaults(action=_logs)
    _with_address(logs)
    stop = below.add_parser("stop", help="as Ctrl-C does: checkpoints are kept, the same run name goes on from there")
    stop.add_argument("job", metavar="JOB")
    stop.set_defaults(action=_stop)
    _with_address(stop)


def runtime_env() -> dict[str, Any]:
    """What Ray gives a job of ours: the checkout, the library, and where results go."""
    forwarded = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    return {
        "working_dir": str(CHECKOUT),
        "py_modules": [str(CHECKOUT / "platform" / "tuneyard")],
        "env_vars": {"TUNEYARD_HOME": str(tuneyard_home()), **forwarded},
    }


def needed_resources(config: FinetuneConfig) -> dict[str, Any]:
    """What the run asks the cluster for."""
    workers = config.workers
    each = {"CPU": workers.cpus_per_worker, **({"GPU": 1} if workers.use_gpu else {})}
    return {"workers": workers.num_workers, "each": each}


def _submit(arguments: argparse.Namespace) -> int:
    config = load_config(FinetuneConfig, arguments.config, arguments.overrides)
    if config.training.backend == "nemo":
        check_nemo_config(config)
    entrypoint = _entrypoint(arguments.config, arguments.overrides)
    environment = runtime_env()
    if arguments.dry_run:
        print(json.dumps(_description(config, entrypoint, environment), indent=2))
        return 0
    with _client(arguments.address) as client:
        job = client.submit_job(entrypoint=entrypoint, runtime_env=environment, metadata={"run": config.run.name})
        print(f"[jobs] submitted {job}; stop it with: tuneyard jobs stop {job}", flush=True)
        return 0 if arguments.no_wait else _follow(client, job)


def _description(config: FinetuneConfig, entrypoint: str, environment: dict[str, Any]) -> dict[str, Any]:
    variables: dict[str, str] = environment["env_vars"]
    recipe = {}
    if config.training.backend == "nemo":
        scheme = "lora" if config.training.method == "lora" else "none"
        name = f"nemo.collections.llm.{config.nemo.recipe}.finetune_recipe(peft_scheme={scheme!r})"
        recipe = {"recipe": name, "recipe_values": recipe_values(config)}
    return {
        "config": config.model_dump(mode="json"),
        **recipe,
        "resources": needed_resources(config),
        "entrypoint": entrypoint,
        "runtime_env": environment | {"env_vars": {name: _shown(name, value) for name, value in variables.items()}},
    }


def _shown(name: str, value: str) -> str:
    return "(set)" if "TOKEN" in name else value


def _entrypoint(config: Path, overrides: list[str]) -> str:
    path = config.resolve()
    if not path.is_relative_to(CHECKOUT):
        raise ConfigError(
            f"{config}: lies outside of the checkout {CHECKOUT}, which is what the cluster gets. Copy it there."
        )
    command = ["python", "-m", "jobs.finetune", "--config", path.relative_to(CHECKOUT).as_posix()]
    for override in overrides:
        command += ["--set", override]
    return shlex.join(command)


def _list(arguments: argparse.Namespace) -> None:
    with _client(arguments.address) as client:
        for job in sorted(client.list_jobs(), key=lambda job: job.start_time or 0):
            name = (job.metadata or {}).get("run", "")
            print(f"{job.submission_id}  {job.status:<10}  {name}  {job.message or ''}")


def _logs(arguments: argparse.Namespace) -> int:
    with _client(arguments.address) as client:
        if arguments.follow:
            return _follow(client, arguments.job)
        print(client.get_job_logs(arguments.job), end="")
    return 0


def _stop(arguments: argparse.Namespace) -> None:
    with _client(arguments.address) as client:
        stopped = client.stop_job(arguments.job)
    print(f"[jobs] {arguments.job} {'is being stopped' if stopped else 'had ended already'}")


def _follow(client: Any, job: str) -> int:
    """Prints the job's log as it grows. The exit code: 0 when the job succeeds."""

    async def tail() -> None:
        async for text in client.tail_job_logs(job):
            print(text, end="", flush=True)

    asyncio.run(tail())
    info = client.get_job_info(job)
    if info.status == "SUCCEEDED":
        return 0
    print(f"[jobs] {job} {str(info.status).lower()}: {info.message}", flush=True)
    return 1


@contextmanager
def _client(address: str | None) -> Iterator[Any]:
    """Ray's client; what goes wrong with it becomes a ClusterError."""
    if _has_token():
        # Ray's clusters ask for their token by default, its client does not send one by default.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import aiohttp
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    where = address or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
    # Ray's client lets RAY_API_SERVER_ADDRESS and RAY_ADDRESS win over the address that it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = where
    try:
        yield JobSubmissionClient(where)
    except AuthenticationError as e:
        raise ClusterError(
            f"Ray's job server at {where} wants the cluster's token. Set RAY_AUTH_TOKEN, or put it into {TOKEN_FILE}; "
            "on the head, `ray get-auth-token` prints it."
        ) from e
    except (ConnectionError, aiohttp.ClientError) as e:
        raise ClusterError(
            f"Ray's job server at {where}: {e}\nGive its dashboard's address with --address or RAY_API_SERVER_ADDRESS. "
            "A job that was submitted goes on."
        ) from e
    except RuntimeError as e:
        raise ClusterError(
            f"Ray's job server at {where}: {e}\n`tuneyard jobs list` names the jobs that it knows."
        ) from e


def _has_token() -> bool:
    return bool({"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()) or TOKEN_FILE.expanduser().exists()


def _with_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address", metavar="URL", help=f"Ray's dashboard; default: RAY_API_SERVER_ADDRESS, else {DEFAULT_ADDRESS}"
    )
