"""One frozen model, many tasks: on a server that knows of none, or in one process."""

from sklopa.serving.client import Agreement, PromptClient
from sklopa.serving.multi_task import MultiTaskPredictor

__all__ = ["Agreement", "MultiTaskPredictor", "PromptClient"]
