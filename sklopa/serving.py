"""One frozen model, many tasks: on a server that knows of none, or in one process."""

from sklopa._multi_task import MultiTaskPredictor
from sklopa._prompt_client import Agreement, PromptClient

__all__ = ["Agreement", "MultiTaskPredictor", "PromptClient"]
