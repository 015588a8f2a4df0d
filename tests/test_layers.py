"""The layout holds: imports go down only, heavy imports stay lazy, pieces stay small."""

import ast
import inspect
from pathlib import Path

import pytest

import sklopa

PACKAGE = Path(sklopa.__file__).parent
MODULES = {path.stem: ast.parse(path.read_text()) for path in PACKAGE.glob("*.py")}

# A module imports only from levels below its own.
LEVELS = [
    {"_version", "errors"},
    {"_vision_families"},
    {"_registry", "_families", "_parameters", "_targets", "_progress",
     "_device", "_batch", "_demo", "_http", "_images", "_disk", "_deep", "_archive_files",
     "_recompute", "_turns", "_sandbox_filter", "_sandbox_watch",
     "_metric_rows", "_pass_at_k", "_linear_start", "datasets"},
    {"_archive_reading", "_backbone", "_cache", "_foundation", "_pooling", "_prompt", "_batching",
     "_memory", "_rows", "_objectives", "_sandbox_child", "_sandbox"},
    {"_tokens", "_texts", "_pixels", "_code_metrics"},
    {"_frozen", "metrics"},
    {"_vision"},
    {"_heads", "_loading", "_verbalizer", "_decoding"},
    {"_instance", "_embedding_table"},
    {"_network", "_training"},
    {"_language", "_shared_batches"},
    {"_building"},
    {"_preparing", "_inference", "_plain", "_ablation"},
    {"_archive", "_checkpoint"},
    {"_hub", "_restoring"},
    {"_base", "_prompt_embeds"},
    {"_fitting"},
    {"_headed"},
    {"_classifying", "_regressor", "_generator", "_multi_task", "_server_answers"},
    {"_classifier", "_image_classifier", "_prompt_client"},
    {"_opening", "serving"},
    {"__init__"},
]  # fmt: skip
LEVEL_OF = {module: i for i, level in enumerate(LEVELS) for module in level}
# The light side: what `import sklopa` reads. torch and transformers come with `fit`.
LIGHT = {
    "__init__", "_base", "_fitting", "_headed", "_classifying", "_classifier", "_generator",
    "_opening", "_regressor", "_backbone", "_registry", "_parameters", "_texts", "_targets",
    "_progress", "_cache", "_disk", "_demo", "_families", "_vision_families", "_images",
    "_image_classifier", "datasets", "errors", "serving",
    "_prompt_client", "_multi_task", "_http",
}  # fmt: skip


def own_imports(tree):
    """Modules of the package that a module imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sklopa":
            rest = node.module.split(".")[1:]
            yield from rest[:1] or [a.name for a in node.names if a.name in MODULES]


def test_every_module_has_a_level():
    assert set(MODULES) == set(LEVEL_OF)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down_only(module):
    wrong = [name for name in own_imports(MODULES[module]) if LEVEL_OF[name] >= LEVEL_OF[module]]
    assert not wrong


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_light_modules_import_nothing_heavy_at_the_top(module):
    for node in MODULES[module].body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {"torch", "transformers"}


def test_transformers_is_imported_where_models_load_and_nowhere_else():
    def imports_it(tree):
        return any(
            (isinstance(n, ast.ImportFrom) and (n.module or "").startswith("transformers"))
            or (isinstance(n, ast.Import) and any(a.name == "transformers" for a in n.names))
            for n in ast.walk(tree)
        )

    assert {name for name, tree in MODULES.items() if imports_it(tree)} == {"_loading", "_decoding"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_pieces_stay_small(module):
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < 60, node.name


def test_public_names_are_those_of_the_table_of_contents():
    public = {name for name in vars(sklopa) if not name.startswith("_")}
    modules = {name for name in public if inspect.ismodule(getattr(sklopa, name))}
    assert public - modules == set(sklopa.__all__) - modules - {"__version__"}
