"""A real vLLM, started from an environment of its own and always ended."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from copy import deepcopy
from pathlib import Path

import transformers

from sklopa import Backbone
from sklopa._loading.live import live_model

PYTHON = "SKLOPA_VLLM_PYTHON"
_START_S, _END_S = 300, 20  # longest wait for a start, and for an end


def save_smollm2(folder):
    """SmolLM2 from its packaged 4-bit file, as float32 in safetensors: what vLLM reads."""
    frozen = live_model(Backbone("HuggingFaceTB/SmolLM2-135M-Instruct", dtype="float32"))
    config = deepcopy(frozen.config)
    del config.quantization_config  # the weights are expanded
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.load_state_dict(frozen.model.state_dict())
    model.save_pretrained(folder)
    frozen.tokenizer.save_pretrained(folder)
    Backbone.release_all()
    return str(folder)


class VLLM:
    """A server of the model in `folder`; `kill` and `start` as often as wanted.

    Parameters
    ----------
    folder : str
    log : Path
    options : more command-line options
    """

    def __init__(self, folder, log, *options):
        python = os.environ.get(PYTHON)
        assert python, (
            f"{PYTHON} must name the Python of an environment with vLLM; .ci/run builds one"
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url, self.log, self.process = f"http://127.0.0.1:{self.port}", Path(log), None
        self.command = [
            python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder,
            "--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(self.port),
            "--dtype", "float32", "--max-model-len", "512", "--enforce-eager", *options,
        ]  # fmt: skip

    def start(self):
        """Start, without waiting until it answers."""
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_NO_USAGE_STATS": "1",
        }  # fmt: skip
        environment.pop("PYTHONPATH", None)  # its packages are its own
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self):
        """Wait until it answers."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"vLLM did not start:\n{self.log.read_text()[-4000:]}")

    def kill(self, how=signal.SIGKILL):
        """End it and all of its own processes, and wait until they are gone."""
        if self.process is None:
            return
        group, self.process, process = self.process.pid, None, self.process
        for signal_ in dict.fromkeys((how, signal.SIGKILL)):
            try:
                os.killpg(group, signal_)
                process.wait(_END_S)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def __enter__(self):
        self.start()
        try:
            self.wait()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exception):
        self.kill(signal.SIGTERM)
