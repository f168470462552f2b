"""`tuneyard models`: lists registered models; checks, adopts and copies checkpoints."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from tuneyard.checkpoints.engine_compatibility import ALL_ENGINES, check_for_engine, find_base
from tuneyard.core.command import Commands, add_command

EPILOG = """\
MODEL is name@alias or name/version in the registry, or a checkpoint folder.

examples:
  tuneyard models list
  tuneyard models check acme-support@newest --engine tensorrt_llm
  tuneyard models adopt /models/gpt-oss-20b
  tuneyard models copy support@newest s3://bucket/models/support/1
  tuneyard models trust /mnt/shared/nemo/runs/support/checkpoints/step=100
"""
CHECK_EPILOG = """\
Compares every byte with the manifest, and names, shapes and dtypes of all tensors with those of GPT-OSS. For a
finetuned model it also checks that the experts have the element order of the base. Exit code 1 when something is wrong.

examples:
  tuneyard models check acme-support@newest --engine tensorrt_llm
  tuneyard models check /models/gpt-oss-20b --engine llama_cpp
  tuneyard models check /models/acme --base /models/gpt-oss-20b
"""
ADOPT_EPILOG = """\
Rewrites config.json and tokenizer_config.json so that every supported loader reads them alike, then writes the
manifest. Weights are not changed. Afterwards the folder can be served, and finetuned as model.base.

example:
  hf download openai/gpt-oss-20b --exclude '*/*' --local-dir /models/gpt-oss-20b
  tuneyard models adopt /models/gpt-oss-20b
"""
COPY_EPILOG = """\
The checkpoint is validated first. An interrupted copy continues where it stopped, and the target becomes visible only
when it is complete.

examples:
  tuneyard models copy support@newest s3://bucket/models/support/1
  tuneyard models copy s3://bucket/models/support/1 /models/support
"""
TRUST_EPILOG = """\
NeMo reads its own checkpoints with pickle and imports the classes that they name, so a foreign one can run code.
Tuneyard therefore reads only those that it wrote and whose files have not changed. Run this for a checkpoint that your
own NeMo-Run job wrote, or that you moved. Never run it for one that you downloaded: import its safetensors files.

example:
  tuneyard models trust /mnt/shared/nemo/runs/support/checkpoints/step=100
"""
MODEL_HELP = "name@alias, name/version or a checkpoint's location"


def add_models_command(commands: Commands) -> None:
    """Adds `models` and its subcommands."""
    models = add_command(commands, "models", "list registered models; check, adopt and copy checkpoints", EPILOG)
    subcommands = models.add_subparsers(required=True, metavar="COMMAND")
    list_ = add_command(subcommands, "list", "list the registry's models, versions and aliases")
    list_.set_defaults(action=_list)
    check = add_command(
        subcommands, "check", "check that a checkpoint is complete, unchanged and fit for an engine", CHECK_EPILOG
    )
    check.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    check.add_argument(
        "--engine",
        choices=ALL_ENGINES,
        default="transformers",
        help="the engine to serve it with (default: %(default)s)",
    )
    check.add_argument(
        "--base",
        type=Path,
        metavar="FOLDER",
        help="the base to compare the experts with (default: the folder that the manifest names, if it exists)",
    )
    check.set_defaults(action=_check)
    adopt = add_command(subcommands, "adopt", "make a downloaded base model usable", ADOPT_EPILOG)
    adopt.add_argument("folder", metavar="FOLDER", type=Path, help="the folder of the download")
    adopt.add_argument("--name", help="name in the manifest (default: the folder's name)")
    adopt.set_defaults(action=_adopt)
    trust = add_command(
        subcommands, "trust", "record a NeMo checkpoint of known origin, so that it can be read", TRUST_EPILOG
    )
    trust.add_argument("folder", metavar="FOLDER", type=Path, help="a checkpoint folder in NeMo 2 format")
    trust.set_defaults(action=_trust)
    copy = add_command(subcommands, "copy", "copy a checkpoint to a folder or an object store", COPY_EPILOG)
    copy.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    copy.add_argument(
        "target", metavar="TARGET", help="a folder or URI that does not exist yet, such as s3://bucket/models/name/1"
    )
    copy.set_defaults(action=_copy)


def _list(_: argparse.Namespace) -> None:
    from tuneyard.checkpoints.registry import ModelRegistry

    registry = ModelRegistry()
    names = registry.names()
    if not names:
        print(f"no models in the registry {registry.uri}")
    for name in names:
        aliases = registry.aliases(name)
        for version in registry.versions(name):
            marks = "".join(f" @{alias}" for alias, number in sorted(aliases.items()) if number == version.version)
            kind = "  (adapter)" if version.tags.get("kind") == "adapter" else ""
            print(f"{name}/{version.version}{marks}  {version.checkpoint}{kind}")


def _check(arguments: argparse.Namespace) -> None:
    from tuneyard.checkpoints.layout.adapter import is_adapter
    from tuneyard.checkpoints.node_cache import local_folder
    from tuneyard.checkpoints.references import resolve_checkpoint
    from tuneyard.checkpoints.validation import validate_hf_checkpoint

    folder = local_folder(resolve_checkpoint(arguments.model))
    if is_adapter(folder):
        _check_adapter(folder, arguments.base)
        return
    manifest = validate_hf_checkpoint(folder)
    engine_checks = check_for_engine(folder, manifest, arguments.engine, arguments.base)
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    print(f"{manifest.name}/{manifest.version} at {folder}")
    print(f"  all bytes of {len(manifest.files)} files ({size_bytes / 2**30:.2f} GiB) match the manifest")
    print(f"  names, shapes and dtypes of {len(manifest.tensors)} tensors are those of a GPT-OSS with this config")
    for line in engine_checks:
        print(f"  {line}")
    print(f"fit for the engine {arguments.engine}")


def _check_adapter(folder: Path, base: Path | None) -> None:
    from tuneyard.checkpoints.layout.adapter import ADAPTER_CONFIG
    from tuneyard.checkpoints.layout.json_files import read_json
    from tuneyard.checkpoints.manifest import read_manifest
    from tuneyard.checkpoints.validation import validate_adapter

    base = base or find_base(read_manifest(folder))
    manifest = validate_adapter(folder, base)
    config = read_json(folder / ADAPTER_CONFIG)
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    print(f"{manifest.name}/{manifest.version} at {folder}")
    print(f"  all bytes of {len(manifest.files)} files ({size_bytes / 2**20:.1f} MiB) match the manifest")
    print(f"  {len(manifest.tensors)} LoRA matrices of rank {config['r']}, alpha {config['lora_alpha']:g}")
    if base is not None:
        print(f"  they fit the weights of {base}, from which they were trained")
    else:
        print("  NOT compared: the base, because it is not here (--base FOLDER)")
    print(f"an adapter, which no engine serves on its own; merge it: python -m jobs.export {folder}")


def _adopt(arguments: argparse.Namespace) -> None:
    from tuneyard.checkpoints.adoption import adopt_checkpoint
    from tuneyard.storage.audit_log import AuditLog

    folder: Path = arguments.folder.resolve()
    manifest = adopt_checkpoint(folder, arguments.name or folder.name)
    AuditLog().append("checkpoint.adopt", str(folder), after=manifest.digest[:16])
    print(f"{manifest.name} can be served and finetuned: {folder} (weights {manifest.digest[:12]})")


def _trust(arguments: argparse.Namespace) -> None:
    from tuneyard.checkpoints.safety.written_folders import record_path, record_written_folder
    from tuneyard.core.errors import CheckpointError

    folder: Path = arguments.folder.resolve()
    if not (folder / "weights").is_dir():
        raise CheckpointError(f"{folder} is not a checkpoint in NeMo 2 format: it has no folder weights/.")
    record_written_folder(folder)
    print(f"recorded {folder} in {record_path(folder)}")


def _copy(arguments: argparse.Namespace) -> None:
    from tuneyard.checkpoints.manifest import MANIFEST_NAME
    from tuneyard.checkpoints.node_cache import local_folder
    from tuneyard.checkpoints.publishing import publish, staged
    from tuneyard.checkpoints.references import resolve_checkpoint
    from tuneyard.checkpoints.validation import validate_checkpoint
    from tuneyard.storage.audit_log import AuditLog
    from tuneyard.storage.location import is_uri

    folder = local_folder(resolve_checkpoint(arguments.model))
    manifest = validate_checkpoint(folder)
    target = arguments.target if is_uri(arguments.target) else str(Path(arguments.target).expanduser().resolve())
    if is_uri(target):
        publish(folder, target)
    else:
        with staged(target) as staging:
            for name in (*manifest.files, MANIFEST_NAME):
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(folder / name, staging / name)
            publish(staging, target)
    AuditLog().append("checkpoint.copy", target, after=manifest.digest[:16], details={"source": arguments.model})
    print(f"{manifest.name}/{manifest.version} is at {target} (weights {manifest.digest[:12]})")
