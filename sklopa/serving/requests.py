"""What a server is asked to do for each kind of estimator, and how its answer is read."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklopa._heads.writing import end_ids
from sklopa.errors import InvalidParameter, ServerRefused
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
    writer : PromptWriter
    do_sample : bool
    n_samples : int
    """

    def __init__(self, writer: PromptWriter, do_sample: bool, n_samples: int = 1) -> None:
        options, estimator = writer.estimator._decoding(do_sample), writer.estimator
        if options.num_beams > 1:
            raise InvalidParameter(
                f"{type(estimator).__name__}: num_beams={options.num_beams} cannot be served, "
                "since a server keeps no beams for prompts that are embeddings. Call "
                "set_params(num_beams=1)."
            )
        self.n_tokens = options.max_new_tokens
        self.options = GREEDY | {
            "max_tokens": options.max_new_tokens,
            "stop": list(options.stop),
            "stop_token_ids": end_ids(writer.frozen),
        }
        if do_sample:
            self.options |= {
                "temperature": options.temperature,
                "top_p": options.top_p,
                "n": n_samples,
                "seed": int(estimator._seeds()[0]),
            }

    def read(self, answer: dict[str, Any]) -> list[str]:
        """The texts of one row."""
        return [choice["text"] for choice in answer["choices"]]


class LabelWords:
    """Log-probabilities of the label words of a verbaliser, (C,) a row."""

    n_tokens = 1

    def __init__(self, writer: PromptWriter) -> None:
        self.word_ids = writer.estimator._design.word_ids
        self.options = GREEDY | {
            "max_tokens": 1,
            "logprobs": len(self.word_ids),
            "logprob_token_ids": list(self.word_ids),
            "return_tokens_as_token_ids": True,
        }

    def read(self, answer: dict[str, Any]) -> np.ndarray:
        """One value a class, equal to the logits up to a number that is the same for all."""
        found = answer["choices"][0]["logprobs"]["top_logprobs"][0]
        try:
            return np.array([found[f"token_id:{i}"] for i in self.word_ids], dtype=np.float32)
        except KeyError as error:
            raise ServerRefused(
                f"The server gave no probability for label word {error.args[0]}. Reading chosen "
                "words needs a vLLM that knows logprob_token_ids; update the server."
            ) from error
