"""`openrlhf-math serve`: solving over HTTP, OpenAI-compatible."""

import argparse
import ipaddress
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.cli.rerank_flags import (
    add_rerank_flags,
    check_there,
    context_of,
    limits,
    method,
    settings,
    why_unmeasured,
)
from openrlhf_math.colocation.layout import bindable, free_port
from openrlhf_math.data.chat_date import line, settle
from openrlhf_math.errors import UserError, at_least

if TYPE_CHECKING:
    from openrlhf_math.rerank.reranker import RerankerSettings
    from openrlhf_math.serving.plan import Service

CHECK_SECONDS = 15.0
KEY_FLAG = "--endpoint-key-env"  # of --base-url; --api-key-env is of the clients' key

EPILOG = """examples:
  openrlhf-math serve --model Qwen/Qwen2.5-Math-1.5B-Instruct
  openrlhf-math serve --model NAME --base-url http://127.0.0.1:8001/v1     (a model behind an endpoint)
  openrlhf-math serve --model MODEL --scorer qwen2.5-math-prm --scorer-model Qwen/Qwen2.5-Math-PRM-7B \\
      --attempts 16 --confidence 0.95 --seconds 120 --host 0.0.0.0 --port 8000

  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{"messages": [{"role": "user", "content": "What is 17 * 23?"}],
        "openrlhf_math": {"attempts": 8}}'

endpoints: /v1/chat/completions, /v1/models, /health, /metrics

exit codes: 0 ended by a signal, 1 the engines died too often, 2 bad input, 130 ended at once by a second signal
"""


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve one model's answers with Ray Serve: each request is a problem, which gets several\n"
        "attempts, their scores and a vote. The answer is returned as an OpenAI chat completion, with the\n"
        "votes in openrlhf_math. Prints its base URL on the first line and runs until it is stopped.",
        epilog=EPILOG,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on, IPv4 or IPv6 (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0: a free one (%(default)s)")
    parser.add_argument(
        "--api-key-env", metavar="VARIABLE", help="ask clients for the key in that environment variable, as OpenAI does"
    )
    parser.add_argument(
        "--served-name", metavar="NAME", help="of the model, as clients see it (the last part of --model)"
    )
    parser.add_argument(
        "--most-attempts", type=int, default=256, metavar="N", help="maximum attempts of a request (%(default)s)"
    )
    parser.add_argument(
        "--most-requests",
        type=int,
        default=256,
        metavar="N",
        help="requests at once; more get status 429 (%(default)s)",
    )
    add_rerank_flags(parser, seconds=600, key_flag=KEY_FLAG)
    return parser


def run(args: argparse.Namespace) -> int:
    how, each = method(args), limits(args)
    at_least(args.attempts, args, "most_attempts")
    at_least(1, args, "most_requests")
    parts = settings(args, KEY_FLAG)
    tool = getattr(parts.sampler, "tool", None)  # a model behind an endpoint has none
    if tool and tool.form == "template":
        raise UserError("--tool-form template: serve would count prompts without the tool; choose --tool-form block")
    key = _key(args.api_key_env)
    args.host = args.host.removeprefix("[").removesuffix("]")  # of an IPv6 address as in URLs
    if not args.host:
        raise UserError("--host is empty; give an address, or 0.0.0.0 for all")
    port = _free_port(args.host, args.port)
    if not key and not _is_loopback(args.host):
        print(f"--host {args.host}: anyone who can connect can use it; --api-key-env asks for a key", file=sys.stderr)
    from openrlhf_math.rerank.here import is_here
    from openrlhf_math.serving.plan import Service

    here = is_here(parts)
    if not here:
        from openrlhf_math.serving.deployment import check_serve

        check_serve()
    settle(args.chat_date)
    if date := check_there(args):
        print(line(date), file=sys.stderr)
    service = Service(
        name=args.served_name or Path(args.model.rstrip("/")).name,
        method=how,
        limits=each,
        scored=parts.scorer is not None,
        most_attempts=args.most_attempts,
        most_requests=args.most_requests,
        context=args.max_context or (None if args.base_url else context_of(args.model)),
        measured=not why_unmeasured(args),
    )
    if here:
        return _serve_here(args, parts, service, port, key)
    return _serve(args, parts, service, port, key)


def _serve_here(
    args: argparse.Namespace, parts: "RerankerSettings", service: "Service", port: int, key: bytes | None
) -> int:
    """With a part behind an endpoint: in this process."""
    from openrlhf_math.serving.here import serve_here

    count = None
    if not args.base_url:
        from openrlhf_math.serving.plan import token_counter

        count = token_counter(args.model)
    address = (args.host, port)
    why = serve_here(parts, service, address, key, lambda: _print_address(*address), _say_ending, count, CHECK_SECONDS)
    if why:
        print(f"openrlhf-math serve: {why}", file=sys.stderr)
    return 1 if why else 0


def _print_address(host: str, port: int) -> None:
    print(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1", flush=True)


def _serve(
    args: argparse.Namespace, parts: "RerankerSettings", service: "Service", port: int, key: bytes | None
) -> int:
    from openrlhf_math.rerank.launch import started
    from openrlhf_math.serving.deployment import deployed, drain, hopeless

    ended = threading.Event()
    with started(parts) as reranker, deployed(reranker, service, args.model, args.host, port, key):

        def end(*_: object) -> None:
            if ended.is_set():  # the second signal
                raise KeyboardInterrupt
            ended.set()

        for one in (signal.SIGTERM, signal.SIGINT):  # after Ray, which has its own handlers
            signal.signal(one, end)
        _print_address(args.host, port)
        while not ended.wait(CHECK_SECONDS):
            if why := hopeless(reranker):
                print(f"openrlhf-math serve: {why}", file=sys.stderr)
                return 1
        _say_ending()
        drain(reranker, args.host, port)
    return 0


def _say_ending() -> None:
    print("openrlhf-math serve: ending; requests under way get the best answer so far", file=sys.stderr, flush=True)


def _key(variable: str | None) -> bytes | None:
    """The digest of the key that clients must send, None for none. Raises UserError if the variable holds none, or one
    that clients cannot send, or send in different bytes."""
    if variable is None:
        return None
    from openrlhf_math.serving.app import digest

    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"--api-key-env {variable}: that environment variable is not set; export the key in it")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(
            f"--api-key-env {variable}: an HTTP header cannot hold that key; give one in ASCII without blanks"
        )
    return digest(key)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _free_port(host: str, port: int) -> int:
    """Raises UserError if the address cannot be listened on; better before the engines start than after."""
    try:
        return bindable(host, port) if port else free_port(host)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error}); choose another") from None
