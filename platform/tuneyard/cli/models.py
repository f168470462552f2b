"""`tuneyard models`: what is registered, and whether a checkpoint is right."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from tuneyard.checkpoints.engine_compatibility import ENGINES, check_for_engine
from tuneyard.checkpoints.layout.gpt_oss import ARCHITECTURE, read_json
from tuneyard.checkpoints.layout.portable import make_checkpoint_portable
from tuneyard.checkpoints.manifest import MANIFEST_NAME, CheckpointManifest, write_manifest
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.publishing import publish, staged
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.command import Commands, add_command
from tuneyard.core.errors import CheckpointError
from tuneyard.storage.folder import is_uri

EPILOG = """\
MODEL is name@alias or name/version in the registry, or a checkpoint folder.

examples:
  tuneyard models list
  tuneyard models check acme-support@newest --engine tensorrt_llm
  tuneyard models check /models/acme --base /models/gpt-oss-20b
  tuneyard models adopt /models/gpt-oss-20b
  tuneyard models copy support@newest s3://bucket/models/support/1
"""


def add_models_command(commands: Commands) -> None:
    """Adds `models` and what is below it."""
    models = add_command(commands, "models", "registered models and their checkpoints", EPILOG)
    below = models.add_subparsers(required=True, metavar="COMMAND")
    listed = below.add_parser("list", help="models, versions and aliases in the registry")
    listed.set_defaults(action=_list)
    check = below.add_parser("check", help="every byte, name, shape and field of a checkpoint; exit 1 if one is wrong")
    check.add_argument("model", metavar="MODEL")
    check.add_argument("--engine", choices=ENGINES, default="transformers", help="what must serve it")
    check.add_argument(
        "--base",
        type=Path,
        metavar="FOLDER",
        help="what it was tuned from, to compare the experts with; default: as the manifest says, if it is there",
    )
    check.set_defaults(action=_check)
    adopt = below.add_parser(
        "adopt", help="make a download servable: config fields for all loaders, then the manifest that proves it"
    )
    adopt.add_argument("folder", metavar="FOLDER", type=Path)
    adopt.add_argument("--name", help="default: the folder's")
    adopt.set_defaults(action=_adopt)
    copy = below.add_parser("copy", help="a checkpoint to or from an object store: proved, resumed, visible when whole")
    copy.add_argument("model", metavar="MODEL")
    copy.add_argument("target", metavar="TARGET", help="folder or URI (s3://bucket/models/name/1), not there yet")
    copy.set_defaults(action=_copy)


def _check(arguments: argparse.Namespace) -> None:
    from tuneyard.checkpoints.references import resolve_checkpoint

    folder = local_folder(resolve_checkpoint(arguments.model))
    manifest = validate_hf_checkpoint(folder)
    proved = check_for_engine(folder, manifest, arguments.engine, arguments.base)
    size = sum(entry.size_bytes for entry in manifest.files.values())
    print(f"{manifest.name}/{manifest.version} at {folder}")
    print(f"  every byte of {len(manifest.files)} files ({size / 2**30:.2f} GiB) is what the manifest says")
    print(f"  names, shapes and dtypes of {len(manifest.tensors)} tensors are those of a GPT-OSS of its config")
    for line in proved:
        print(f"  {line}")
    print(f"fit for the engine {arguments.engine}")


def _copy(arguments: argparse.Namespace) -> None:
    from tuneyard.checkpoints.references import resolve_checkpoint

    folder = local_folder(resolve_checkpoint(arguments.model))
    manifest = validate_hf_checkpoint(folder)
    target = arguments.target if is_uri(arguments.target) else str(Path(arguments.target).expanduser().resolve())
    if is_uri(target):
        publish(folder, target)
    else:
        with staged(target) as staging:
            shutil.copytree(folder, staging, dirs_exist_ok=True)
            publish(staging, target)
    print(f"{manifest.name}/{manifest.version} is at {target} (weights {manifest.digest[:12]})")


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
            print(f"{name}/{version.version}{marks}  {version.checkpoint}")


def _adopt(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.folder.resolve()
    manifest = adopt_checkpoint(folder, arguments.name or folder.name)
    print(f"{manifest.name} can be served and tuned from: {folder} (weights {manifest.digest[:12]})")


def adopt_checkpoint(folder: Path, name: str) -> CheckpointManifest:
    """Gives a downloaded base its manifest, after config.json and tokenizer_config.json were made to mean the same to
    transformers 4.57 and 5.x. Its weights are not changed.

    Raises CheckpointError when it has a manifest, consists of links into a cache, or is no GPT-OSS.
    """
    if (folder / MANIFEST_NAME).exists():
        raise CheckpointError(f"{folder}: has a manifest already. Check it: tuneyard models check {folder}")
    linked = [path.name for path in folder.glob("*.json") if path.is_symlink()]
    if linked:
        raise CheckpointError(
            f"{folder}: {linked[0]} is a link into a cache that others use. Download into a folder of its own: "
            "hf download openai/gpt-oss-20b --exclude 'original/*' 'metal/*' --local-dir FOLDER"
        )
    # Before anything is rewritten: it may be another model altogether.
    architecture = read_json(folder / "config.json").get("architectures")
    if architecture != [ARCHITECTURE]:
        raise CheckpointError(f"{folder}: architectures is {architecture!r}, Tuneyard takes [{ARCHITECTURE!r}] only.")
    make_checkpoint_portable(folder)
    write_manifest(folder, kind="base", name=name, version="1")
    try:
        return validate_hf_checkpoint(folder)
    except CheckpointError:
        (folder / MANIFEST_NAME).unlink()
        raise
