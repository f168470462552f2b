"""The command `python -m ui`: serves the chat page until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from tuneyard.core.errors import ConfigError, TuneyardError
from ui.server.listening import describe, is_loopback, open_socket, served_hosts

DEFAULT_BASE_URL = "http://127.0.0.1:8000/v1"
DEFAULT_EXAMPLES = ("What can you help me with?", "Why is the sky blue? Answer in two sentences.")

GRADIO_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    # Or Gradio makes a table of the last 10,000 events after each event, with pandas.
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**12),
    # Gradio asks matplotlib at each event which backend it has, if it is installed. Without this it tries all of them.
    "MPLBACKEND": "agg",
}

EPILOG = """\
examples:
  python -m ui                                         chat with the model served on port 8000
  python -m ui --base-url http://127.0.0.1:8000/v1 \\
               --base-url http://127.0.0.1:8001/v1     choose among the models of two endpoints
  python -m ui --system-prompt "You answer for Acme support." --example "Where is my order?"
  OPENAI_API_KEY=... python -m ui --base-url https://api.example.com/v1

The page talks only to the base URLs given here. On loopback everybody uses the server's key; with --sign-in,
and always beyond loopback, each person signs in with an API key of their own.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ui",
        description="A chat page for the models behind one or more OpenAI-compatible endpoints.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--base-url", action="append", type=_base_url, metavar="URL",
        help=f"an endpoint's base URL, ending in /v1; repeat it for more (default: {DEFAULT_BASE_URL})")  # fmt: skip
    add("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s, this machine only)")
    add("--allow-host", action="append", metavar="NAME",
        help="a name by which a proxy passes requests on to this page; repeat it for more")  # fmt: skip
    add("--port", type=int, default=7860, help="the port to listen on; 0 picks a free one (default: %(default)s)")
    add("--system-prompt", default="", metavar="TEXT", help="initial text of the system prompt box")
    add("--temperature", type=_temperature, default=1.0, metavar="T",
        help="initial temperature, 0 to 2 (default: %(default)g)")  # fmt: skip
    add("--title", default="Tuneyard chat", help="the page's title (default: %(default)s)")
    add("--example", action="append", metavar="TEXT", help="a question offered on the empty page; repeat for more")
    add("--api-key-env", default="OPENAI_API_KEY", metavar="NAME",
        help="the environment variable with the API key that all share (default: %(default)s)")  # fmt: skip
    add("--admin-key-env", metavar="NAME",
        help="the environment variable with the administrators' key: everybody at this page then sees all runs, with "
        "text of their data; not with --sign-in")  # fmt: skip
    add("--votes", type=_vote_file, metavar="FILE",
        help="keep the votes of the Compare page in this file, if endpoints keep none; not with --sign-in")  # fmt: skip
    add("--sign-in", action="store_true",
        help="each person signs in with an API key; always so if --host is not loopback")  # fmt: skip
    return parser


def _base_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} must start with http:// or https://, such as {DEFAULT_BASE_URL}")
    return text.rstrip("/")


def _vote_file(text: str) -> Path:
    path = Path(text).expanduser()
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; name a file, such as {path / 'votes.jsonl'}")
    return path.absolute()


def _temperature(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 2:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to 2")


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 after Ctrl-C or SIGTERM, 1 with a one-line message when the page cannot be served."""
    args = build_parser().parse_args(argv)
    # Both end as KeyboardInterrupt. SIGINT too, because a shell starts background commands with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with open_socket(args.host, args.port) as listener:
            print(describe(args.host, listener), flush=True)
            run_page(args, listener)
    except TuneyardError as e:
        print(f"python -m ui: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def run_page(args: argparse.Namespace, listener: socket.socket) -> None:
    """Serves the page on the open socket. Imports Gradio here, after the arguments are parsed."""
    os.environ |= GRADIO_SETTINGS  # read by gradio when it is imported

    from ui.endpoints.chat_client import ChatClient
    from ui.server.page_server import PageOptions, serve_page

    has_sign_in = args.sign_in or not is_loopback(args.host)
    if has_sign_in and args.votes is not None:
        raise ConfigError(
            f"--votes {args.votes}: all visitors would share the votes in this file, and here each signs in. Leave it "
            "out: a deployment with a section `platform` keeps the votes of each API key apart."
        )
    admin_key = _read_admin_key(args.admin_key_env, has_sign_in=has_sign_in)
    shared_key = None if has_sign_in else os.environ.get(args.api_key_env)
    options = PageOptions(
        title=args.title,
        system_prompt=args.system_prompt,
        temperature=args.temperature,
        examples=DEFAULT_EXAMPLES if args.example is None else args.example,
        hosts=served_hosts(args.host, args.allow_host or ()),
        has_sign_in=has_sign_in,
        vote_file=args.votes,
        admin_key=admin_key,
    )
    serve_page(ChatClient(args.base_url or [DEFAULT_BASE_URL], shared_key or "none"), options, listener)


def _read_admin_key(variable: str | None, *, has_sign_in: bool) -> str | None:
    """The key in the variable of --admin-key-env; None without one. Raises ConfigError."""
    if variable is None:
        return None
    if has_sign_in:
        raise ConfigError(
            f"--admin-key-env {variable}: every visitor would see all runs, and here each signs in. Leave it out: who "
            "signs in with the administrators' key sees them."
        )
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"--admin-key-env {variable}: this variable is not set. Set it to the deployment's TUNEYARD_ADMIN_KEY, or "
            "to the content of its $TUNEYARD_HOME/admin_key."
        )
    return key


if __name__ == "__main__":
    sys.exit(main())
