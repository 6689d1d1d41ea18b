"""The text of an engine's completion: with its special tokens where these mark the thinking part.

vLLM leaves special tokens out. Of a model whose marks are such tokens (gpt-oss, Magistral, Command A) that would leave
no trace of where its thinking ends, and a draft in it would count as the answer.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from openrlhf_math.data.prompts import Tokenizer
from openrlhf_math.rewards.thinking import TOKENS
from openrlhf_math.tools.attempt import Piece, piece_of

if TYPE_CHECKING:
    from vllm import CompletionOutput


class EngineText:
    def __init__(self, tokenizer: Tokenizer) -> None:
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        self._tokenizer, self._kept = tokenizer, not special.isdisjoint(TOKENS)

    def arguments(self) -> dict[str, Any]:
        """Of vLLM's SamplingParams."""
        return {"skip_special_tokens": False} if self._kept else {}

    def piece(self, completion: "CompletionOutput") -> Piece:
        """`piece_of` a completion, without the text of the token that ended it."""
        return replace(piece_of(completion), text=self.without_end(completion.text, completion))

    def without_end(self, text: str, completion: "CompletionOutput") -> str:
        """The text without that of the token that ended the completion, which is in it where stop texts are kept."""
        ids: Sequence[int] = completion.token_ids
        if not self._kept or completion.finish_reason != "stop" or isinstance(completion.stop_reason, str) or not ids:
            return text
        return text.removesuffix(self._tokenizer.decode([ids[-1]]))
