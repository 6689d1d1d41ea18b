"""The solver in the Ray actor, as the app sees it."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import ray

from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.reranker import Progress, Solved
from openrlhf_math.rerank.roles import Gone, Unavailable
from openrlhf_math.rerank.solver import Method
from openrlhf_math.serving.errors import ClientLeft
from openrlhf_math.side_by_side import within

if TYPE_CHECKING:
    from ray.actor import ActorHandle

ANSWERS_WITHIN = 10.0  # seconds


class RemoteReranker:
    """See `app.Backend`."""

    def __init__(self, reranker: "ActorHandle") -> None:
        """reranker: handle of a `Reranker` actor."""
        self._reranker = reranker

    async def stream(self, problem: str, method: Method, limits: Limits) -> AsyncGenerator[Progress | Solved, None]:
        answers: Any = self._reranker.stream.options(num_returns="streaming").remote(problem, method, limits)
        try:
            async for reference in answers:
                yield await reference
        except ray.exceptions.RayActorError as error:
            raise _unavailable(error) from error
        except ray.exceptions.TaskCancelledError:  # with the request in Ray Serve that it worked for
            raise ClientLeft from None
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        finally:
            ray.cancel(answers)  # nothing, where it is done

    async def check(self) -> None:
        try:
            await within(ANSWERS_WITHIN, self._reranker.check.remote())
        except TimeoutError:
            raise Unavailable(f"the reranker has not answered for {ANSWERS_WITHIN:.0f} s") from None
        except ray.exceptions.RayActorError as error:
            raise _unavailable(error) from error
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None


def hopeless(reranker: "ActorHandle") -> str:
    """Why no problem will ever be solved again, a sentence; "" if that is not so. For a process that serves."""
    try:
        ray.get(reranker.check.remote(), timeout=ANSWERS_WITHIN)
    except ray.exceptions.RayTaskError as error:
        return str(error.cause) if isinstance(error.cause, Gone) else ""
    except ray.exceptions.ActorDiedError as error:
        return str(_unavailable(error))
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        pass
    return ""


def _unavailable(error: ray.exceptions.RayActorError) -> Unavailable:
    kind = Gone if isinstance(error, ray.exceptions.ActorDiedError) else Unavailable
    return kind(f"the reranker has died ({type(error).__name__})")
