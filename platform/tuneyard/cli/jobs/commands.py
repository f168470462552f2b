"""`tuneyard jobs`: submits finetuning runs as Ray jobs, or to an API; lists, follows, stops and resumes them."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tuneyard.cluster.job_client import add_address_option, find_job, job_client, job_message, run_name
from tuneyard.core.command import Commands, add_command, add_overrides
from tuneyard.core.room_commands import REHEARSE

if TYPE_CHECKING:
    from tuneyard.cli.jobs.api_jobs import ApiJobs

EPILOG = """\
JOB is a job's id, or a run's name, which means the run's newest job. With --api, JOB is an id of the API, ftjob-….

examples:
  tuneyard jobs rehearse jobs/configs/gpt_oss_20b_lora.yaml
  tuneyard jobs submit jobs/configs/gpt_oss_20b_lora.yaml --dry-run
  tuneyard jobs submit jobs/configs/gpt_oss_20b_lora.yaml --set training.epochs=1 --address http://head:8265
  tuneyard jobs logs -f support-lora
  tuneyard jobs resume support-lora
  tuneyard jobs create chats.jsonl --model gpt-oss-20b --api http://head:8000/v1
  tuneyard jobs list --api http://head:8000/v1
"""
CREATE_EPILOG = """\
Uploads the files and creates a fine-tuning job, as code for OpenAI's API does, and prints its events until it ends. The
API is that of a deployment with the section `platform`. A key, if it needs one, is in TUNEYARD_API_KEY, else
OPENAI_API_KEY. With --wait the exit code is 0 if the job succeeds and 1 if it fails; Ctrl-C leaves the job running.

examples:
  tuneyard jobs create chats.jsonl --model gpt-oss-20b --api http://head:8000/v1
  tuneyard jobs create pairs.jsonl --model gpt-oss-20b --method dpo --epochs 1 --suffix polite --api http://head:8000/v1
"""
PAUSE_EPILOG = """\
Only for jobs of an API. The run ends and keeps its last checkpoint; `tuneyard jobs resume` goes on from there.

example:
  tuneyard jobs pause ftjob-0123 --api http://head:8000/v1
"""
REHEARSE_EPILOG = """\
Reads and checks the run's own config, base, data and storage. Then runs all of it with a small model of the same form,
on a private Ray and CPUs, with the same parallel layout: import, training, a worker killed, export, proof, registration
and the checks of serving. Each step is reported with its time; one that fails, with its cause and the fix.

Files and registry are temporary. With training.backend=nemo, run it in NeMo's environment. Exit code 1 if a step fails.

examples:
  tuneyard jobs rehearse jobs/configs/gpt_oss_20b_lora.yaml
  tuneyard jobs rehearse my.yaml --set workers.num_workers=16 --json
"""
SUBMIT_EPILOG = """\
The cluster gets the checkout, without the files that git ignores. A CONFIG in the checkout is read there, so its
relative paths refer to the cluster's copy. A CONFIG elsewhere is read here and passed with absolute paths.

examples:
  tuneyard jobs submit jobs/configs/gpt_oss_20b_lora.yaml --dry-run
  tuneyard jobs submit jobs/configs/gpt_oss_20b_lora.yaml --set training.epochs=1 --address http://head:8265
  tuneyard jobs submit my.yaml --deploy serve_apps/configs/demo_cpu.yaml     also serve the result

the same without this command:
  RAY_AUTH_MODE=token ray job submit --working-dir . --runtime-env-json '{"py_modules": ["platform/tuneyard"]}' -- \\
      python -m jobs.finetune --config jobs/configs/gpt_oss_20b_lora.yaml
"""
LOGS_EPILOG = """\
With --follow the exit code is 0 if the job succeeds and 1 if it fails. Ctrl-C stops following; the job continues.

examples:
  tuneyard jobs logs support-lora
  tuneyard jobs logs -f support-lora
"""
STATUS_EPILOG = """\
Exit code 1 if the job failed.

example:
  tuneyard jobs status support-lora
"""
STOP_EPILOG = """\
Stops the job as Ctrl-C would. The run's checkpoints are kept; `tuneyard jobs resume` continues from the last one. A job
of an API is cancelled instead, for good; `tuneyard jobs pause` keeps its checkpoints.

example:
  tuneyard jobs stop support-lora
"""
RESUME_EPILOG = """\
Submits the run again with its config and storage, after a failure or a stop. The code is this checkout's; credentials
are those of this shell.

example:
  tuneyard jobs resume support-lora
"""


def add_jobs_command(commands: Commands) -> None:
    """Adds `jobs` and its subcommands."""
    jobs = add_command(commands, "jobs", "submit and manage finetuning runs on a Ray cluster", EPILOG)
    subcommands = jobs.add_subparsers(required=True, metavar="COMMAND")
    submit = add_command(subcommands, "submit", "run a finetuning config on the cluster", SUBMIT_EPILOG)
    submit.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of a finetuning run")
    add_overrides(submit)
    submit.add_argument(
        "--dry-run", action="store_true", help="check the config and print what would be submitted; contact no cluster"
    )
    submit.add_argument(
        "--deploy", metavar="CONFIG", help="serve the result with this deployment config (sets the field deploy)"
    )
    _add_wait_option(submit)
    add_address_option(submit)
    submit.set_defaults(action=_submit)
    _add_create(subcommands)
    rehearse = add_command(
        subcommands, "rehearse", "check a run and try all its steps with a small model, on CPUs", REHEARSE_EPILOG
    )
    rehearse.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of a finetuning run")
    add_overrides(rehearse)
    rehearse.add_argument(
        "--keep", action="store_true", help="keep the files of the rehearsal, and print where they are"
    )
    rehearse.add_argument(
        "--json", action="store_true", help="print the report as JSON; its lines go to standard error"
    )
    rehearse.set_defaults(action=_rehearse)
    list_ = add_command(subcommands, "list", "list the cluster's jobs with their states")
    _add_server_options(list_)
    list_.set_defaults(action=_list)
    status = add_command(
        subcommands, "status", "show a job's state, step, loss, tokens per second and time left", STATUS_EPILOG
    )
    _add_job_arguments(status)
    status.set_defaults(action=_status)
    logs = add_command(subcommands, "logs", "print a job's log", LOGS_EPILOG)
    _add_job_arguments(logs)
    logs.add_argument("-f", "--follow", action="store_true", help="print new lines until the job ends")
    logs.set_defaults(action=_logs)
    stop = add_command(subcommands, "stop", "stop a job", STOP_EPILOG)
    _add_job_arguments(stop)
    stop.set_defaults(action=_stop)
    pause = add_command(subcommands, "pause", "pause a job of an API", PAUSE_EPILOG)
    pause.add_argument("job", metavar="JOB", help="a job's id")
    _add_api_option(pause, required=True)
    pause.set_defaults(action=_pause)
    resume = add_command(subcommands, "resume", "continue a run from its last checkpoint", RESUME_EPILOG)
    _add_job_arguments(resume)
    _add_wait_option(resume)
    resume.set_defaults(action=_resume)


def _add_job_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="a job's id, or a run's name")
    _add_server_options(parser)


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    add_address_option(parser)
    _add_api_option(parser, required=False)


def _add_api_option(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--api",
        metavar="URL",
        required=required,
        help="base URL of a fine-tuning API, such as http://head:8000/v1"
        + ("" if required else ": use its jobs instead of Ray's"),
    )


def _add_create(subcommands: Commands) -> None:
    create = add_command(subcommands, "create", "upload chats and create a job of a fine-tuning API", CREATE_EPILOG)
    create.add_argument("train", type=Path, metavar="FILE", help="JSONL file of chats, or of preference pairs for dpo")
    create.add_argument("--model", required=True, metavar="NAME", help="the base to fine-tune, as the API names it")
    create.add_argument("--heldout", type=Path, metavar="FILE", help="JSONL file to measure with (validation_file)")
    create.add_argument("--method", choices=("supervised", "dpo"), default="supervised", help="default: %(default)s")
    create.add_argument("--epochs", type=int, metavar="N", help="n_epochs (default: the API chooses)")
    create.add_argument("--suffix", metavar="TEXT", help="part of the tuned model's name")
    _add_wait_option(create)
    _add_api_option(create, required=True)
    create.set_defaults(action=_create)


def _add_wait_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="print the log until the job ends (default); --no-wait returns after submitting",
    )


def _submit(arguments: argparse.Namespace) -> int:
    from tuneyard.cli.jobs.submission import submit_run

    return submit_run(arguments)


def _rehearse(arguments: argparse.Namespace) -> None:
    from tuneyard.cluster.connection import CHECKOUT

    options = [option for override in arguments.overrides for option in ("--set", override)]
    options += [f"--{name}" for name in ("keep", "json") if getattr(arguments, name)]
    present = [path for path in [os.environ.get("PYTHONPATH")] if path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT / "platform"), str(CHECKOUT), *present])}
    # Replaces this process, so that Ctrl-C and the exit code are those of the rehearsal.
    python = [sys.executable, *(f"-W{option}" for option in sys.warnoptions)]
    os.execve(sys.executable, [*python, "-m", REHEARSE, "--config", str(arguments.config), *options], environment)


def _open_api(arguments: argparse.Namespace) -> ApiJobs:
    from tuneyard.cli.jobs.api_jobs import ApiJobs

    return ApiJobs(arguments.api)


def _create(arguments: argparse.Namespace) -> int:
    with _open_api(arguments) as jobs:
        return jobs.create(
            arguments.train,
            arguments.heldout,
            model=arguments.model,
            method=arguments.method,
            epochs=arguments.epochs,
            suffix=arguments.suffix,
            wait=arguments.wait,
        )


def _pause(arguments: argparse.Namespace) -> None:
    with _open_api(arguments) as jobs:
        jobs.pause(arguments.job)


def _resume(arguments: argparse.Namespace) -> int:
    if arguments.api is not None:
        with _open_api(arguments) as jobs:
            return jobs.resume(arguments.job, wait=arguments.wait)
    from tuneyard.cli.jobs.submission import resume_run

    return resume_run(arguments)


def _list(arguments: argparse.Namespace) -> None:
    if arguments.api is not None:
        with _open_api(arguments) as jobs:
            jobs.print_list()
        return
    with job_client(arguments.address) as client:
        found = client.list_jobs()
        if not found:
            print("no job was submitted to this cluster")
        for job in sorted(found, key=lambda job: job.start_time or 0):
            # Jobs that are no finetuning run are shown with their module: `python -m MODULE …`.
            name = run_name(job) or " ".join(shlex.split(job.entrypoint)[2:3])
            print(f"{job.submission_id}  {job.status:<10}  {name}  {job_message(job)}".rstrip())


def _status(arguments: argparse.Namespace) -> int:
    if arguments.api is not None:
        with _open_api(arguments) as jobs:
            return jobs.print_status(arguments.job)
    from tuneyard.cluster.job_logs import last_progress

    with job_client(arguments.address) as client:
        job = find_job(client, arguments.job)
        log = client.get_job_logs(job.submission_id)
    now_ms = time.time() * 1000
    duration_s = ((job.end_time or now_ms) - (job.start_time or now_ms)) / 1000
    print(f"{job.submission_id}  {job.status}  {run_name(job)}  {duration_s:.0f} s")
    print(f"  {job.entrypoint}")
    for text in (last_progress(log), job_message(job)):
        if text:
            print(f"  {text}")
    return 1 if job.status == "FAILED" else 0


def _logs(arguments: argparse.Namespace) -> int:
    if arguments.api is not None:
        with _open_api(arguments) as jobs:
            return jobs.print_events(arguments.job, follow=arguments.follow)
    from tuneyard.cluster.job_logs import follow

    with job_client(arguments.address) as client:
        job = find_job(client, arguments.job).submission_id
        if arguments.follow:
            return follow(client, job)
        print(client.get_job_logs(job), end="")
    return 0


def _stop(arguments: argparse.Namespace) -> None:
    if arguments.api is not None:
        with _open_api(arguments) as jobs:
            jobs.cancel(arguments.job)
        return
    with job_client(arguments.address) as client:
        job = find_job(client, arguments.job).submission_id
        is_stopping = client.stop_job(job)
    print(f"[jobs] {job} {'is being stopped' if is_stopping else 'had ended already'}")
