"""The teacher behind an OpenAI-compatible endpoint."""

from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.distill.teachers import Question, Reply
from openrlhf_math.endpoint.client import Client


class Endpoint:
    """See `teachers.Teacher`."""

    def __init__(self, settings: DistillSettings) -> None:
        endpoint = settings.endpoint
        assert endpoint is not None  # as for this teacher
        tokens = endpoint.extra_body.get("max_completion_tokens")
        most = max(settings.max_tokens, tokens if isinstance(tokens, int) else 0)
        self._settings = settings
        self._client = Client(endpoint, most, "what it answered is kept, run the same command again")
        self.lanes, self.troubles = self._client.lanes, self._client.troubles

    async def __aenter__(self) -> "Endpoint":
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.__aexit__(*exception)

    async def answer(self, question: Question) -> Reply:
        """Ask until there is a reply. Raises Failure after the last try, UserError if no attempt can be answered."""
        answer = await self._client.ask(
            {
                "model": self._settings.model,
                "messages": question.messages,
                "max_tokens": self._settings.max_tokens,
                "temperature": self._settings.temperature,
                "top_p": self._settings.top_p,
                "seed": question.seed,
            }
        )
        return Reply(answer.content, answer.reasoning, answer.finish_reason, answer.tokens)
