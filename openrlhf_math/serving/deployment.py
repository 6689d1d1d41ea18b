"""The app in Ray Serve."""

import contextlib
from collections.abc import Iterator

from ray import serve

from openrlhf_math.serving.app import build_app
from openrlhf_math.serving.plan import Service
from openrlhf_math.serving.remote import RemoteReranker


@contextlib.contextmanager
def deployed(reranker, service: Service, model: str, host: str, port: int) -> Iterator[None]:
    """Ray Serve answers on host and port while the block runs.

    reranker: handle of a `Reranker` actor. model: whose tokenizer counts prompts.

    One replica, which holds no model and only waits: what works side by side are the samplers and scorers.
    """

    def app():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model)

        def count_tokens(messages) -> int:
            return len(tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False))

        return build_app(RemoteReranker(reranker), service, count_tokens)

    replica = serve.deployment(
        name="solve",
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=4 * service.most_requests,  # the app itself says that it is full
        health_check_period_s=10,
    )(serve.ingress(app)())
    serve.start(http_options={"host": host, "port": port, "keep_alive_timeout_s": 60})
    try:
        serve.run(replica.bind(), name="openrlhf-math", route_prefix="/")
        yield
    finally:
        serve.shutdown()
