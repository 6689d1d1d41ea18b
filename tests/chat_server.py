"""A chat endpoint on loopback whose replies a test makes up: a real server, for judges."""

from collections.abc import Callable, Mapping

from json_server import JsonServer

# From the body and the headers of a request to the status of the reply and its content.
Answer = Callable[[dict, Mapping[str, str]], tuple[int, str]]


class ChatServer(JsonServer):
    """Answers on `url` while the block runs."""

    def __init__(self, answer: Answer) -> None:
        def reply(path: str, body: dict | None, headers: Mapping[str, str]) -> tuple[int, dict]:
            status, content = answer(body, headers)
            message = {"role": "assistant", "content": content}
            return status, {"choices": [{"message": message, "finish_reason": "stop"}]}

        super().__init__(reply)
