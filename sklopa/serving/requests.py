"""What a server is asked to do for each kind of estimator, and how its answer is read."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklopa._backbone.lm_head import end_ids
from sklopa._heads.writing import Decoding
from sklopa.errors import InvalidParameter
from sklopa.serving import answers
from sklopa.serving.answers import Nonsense
from sklopa.serving.chat_writer import ChatWriter
from sklopa.serving.prompt_writer import PromptWriter

# Said in full, since a server fills gaps with the settings that the model was published with.
_PLAIN = {
    "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}  # fmt: skip
GREEDY = _PLAIN | {"temperature": 0.0, "top_p": 1.0}


class Continuation:
    """Texts that go on behind the prompt, as `LoPAGenerator.predict` writes them.

    Parameters
    ----------
    writer : PromptWriter, or ChatWriter for requests with messages
    decoding : Decoding
    seed : int, where texts are drawn at random
    n_samples : int
    """

    def __init__(
        self,
        writer: PromptWriter | ChatWriter,
        decoding: Decoding,
        seed: int = 0,
        n_samples: int = 1,
    ) -> None:
        if decoding.num_beams > 1:
            raise InvalidParameter(
                f"{writer.fitted.owner}: num_beams={decoding.num_beams} cannot be served, since a "
                "server keeps no beams for prompts that are embeddings. Call "
                "set_params(num_beams=1)."
            )
        self.n_tokens, self.n_samples = decoding.max_new_tokens, n_samples
        self.options: dict[str, Any] = GREEDY | {
            "max_tokens": decoding.max_new_tokens,
            "stop": list(decoding.stop),
        }
        self.is_chat = isinstance(writer, ChatWriter)
        if isinstance(writer, PromptWriter):  # in a chat the server's own end tokens count
            self.options["stop_token_ids"] = end_ids(writer.frozen)
        if decoding.do_sample:
            self.options |= {
                "temperature": decoding.temperature,
                "top_p": decoding.top_p,
                "n": n_samples,
                "seed": seed,
            }

    def read(self, answer: Any) -> list[str]:
        """The texts of one row."""
        read = answers.chat_texts if self.is_chat else answers.texts
        return read(answer, self.n_samples)


class LabelWords:
    """Log-probabilities of the label words of a verbaliser, (C,) a row."""

    n_tokens = 1

    def __init__(self, writer: PromptWriter | ChatWriter) -> None:
        self.word_ids = writer.fitted.network.design.word_ids or ()
        self.is_chat = isinstance(writer, ChatWriter)
        self.options: dict[str, Any] = GREEDY | {
            "max_tokens": 1,
            "logprobs": True if self.is_chat else len(self.word_ids),
            "logprob_token_ids": list(self.word_ids),
            "return_tokens_as_token_ids": True,
        }

    def read(self, answer: Any) -> np.ndarray:
        """One value a class, equal to the logits up to a number that is the same for all."""
        read = answers.chat_log_probabilities if self.is_chat else answers.log_probabilities
        found = read(answer)
        names = [f"token_id:{i}" for i in self.word_ids]
        for name in names:
            if name not in found:
                raise Nonsense(
                    f"no probability for label word {name}",
                    "reading chosen words needs a vLLM that knows logprob_token_ids, so update it",
                )
        return np.array([found[name] for name in names], dtype=np.float32)
