"""`openrlhf-math tiny-teacher`: serve the programmatic teacher over HTTP."""

import argparse
import os
import socket

from openrlhf_math.errors import UserError


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve the tiny world's programmatic teacher as an OpenAI-compatible endpoint, for "
        "`openrlhf-math distill`. Prints its base URL on the first line and runs until it is stopped.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0: a free one (%(default)s)")
    parser.add_argument(
        "--flawed", type=float, default=0.2, help="share of traces that are bad on purpose, 0 to 1 (%(default)s)"
    )
    parser.add_argument("--delay", type=float, default=0.0, help="seconds a reply takes (%(default)s)")
    parser.add_argument("--api-key-env", metavar="VARIABLE", help="ask clients for the key in that variable (none)")
    return parser


def run(args: argparse.Namespace) -> None:
    if not 0 <= args.flawed <= 1:
        raise UserError(f"--flawed {args.flawed}: give a share between 0 and 1")
    if args.delay < 0:
        raise UserError(f"--delay {args.delay}: give 0 or more seconds")
    if args.api_key_env and not os.environ.get(args.api_key_env):
        raise UserError(f"--api-key-env {args.api_key_env}: that environment variable is not set")
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((args.host, args.port))
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {args.host} --port {args.port}: cannot listen there ({error})") from None
    listening.listen()  # before the address is printed: its reader may connect immediately
    import uvicorn

    from openrlhf_math.data.tiny_world.server import build_app

    app = build_app(args.flawed, os.environ.get(args.api_key_env or "", ""), args.delay)
    print(f"http://{args.host}:{listening.getsockname()[1]}/v1", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
