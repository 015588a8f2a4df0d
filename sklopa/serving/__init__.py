"""One frozen model, many tasks: on a server that knows of none, or in one process."""

from sklopa.serving.client import PLAIN_CHAT_TEMPLATE, PromptClient
from sklopa.serving.multi_task import MultiTaskPredictor
from sklopa.serving.verify import Agreement

__all__ = ["PLAIN_CHAT_TEMPLATE", "Agreement", "MultiTaskPredictor", "PromptClient"]
