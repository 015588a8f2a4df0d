"""The layout holds: imports go down only, heavy imports stay lazy, pieces stay small."""

import ast
import inspect
from pathlib import Path

import pytest

import sklopa

PACKAGE = Path(sklopa.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}

# A folder imports only from those before it.
LAYERS = (
    "errors", "_version", "_public", "datasets", "_sandbox", "_inputs", "metrics", "_cache",
    "_tokens", "_batches", "_backbone", "_loading", "_embedding", "_prompt", "_heads", "_network",
    "_tasks", "_storage", "_onnx", "serving", "_training", "inspection",
    "_estimators", "_earlier",
)  # fmt: skip
# The light side: what `import sklopa` reads. torch and transformers come with `fit`.
LIGHT = {
    *(name for name in MODULES if name.startswith(("_inputs.", "_estimators.", "metrics."))),
    *(name for name in MODULES if name.startswith("inspection.")),
    "__init__", "_earlier", "_cache.process", "_cache.disk", "_loading.description",
    "_loading.registry", "_loading.packaged", "_network.design", "_network.fitted",
    "_tokens.template", "_tokens.texts", "_tokens.tokens", "_tokens.truncation",
    "_onnx.feeds", "_onnx.predictor", "_onnx.preparation", "_onnx.read", "_onnx.tokenizer",
    "_onnx.weights",
    "_storage.trust", "_storage.single_values", "_storage.record", "_storage.files",
    "_storage.lock", "_training.progress", "datasets", "errors", "serving.__init__",
    "serving.client",
    "serving.multi_task", "serving.http",
}  # fmt: skip


def own_imports(tree):
    """Modules of the package that a module imports, at any depth."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        first, *rest = (node.module or "").split(".")
        if first == "sklopa":
            yield from [".".join(rest)] if rest else [a.name for a in node.names]


def folder_of(module):
    return module.split(".")[0]


def test_every_folder_has_its_place():
    assert {folder_of(name) for name in MODULES} == {*LAYERS, "__init__"}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__"}))
def test_imports_go_down_only(module):
    own = folder_of(module)
    used = {folder_of(name) for name in own_imports(MODULES[module])} & set(LAYERS) - {own}
    assert not [name for name in used if LAYERS.index(name) > LAYERS.index(own)]


def test_no_two_modules_import_each_other():
    def reachable(start):
        found, todo = set(), [start]
        while todo:
            names = {*own_imports(MODULES.get(todo.pop(), ast.parse("")))} - found
            found |= names
            todo += names
        return found

    assert not [name for name in MODULES if name in reachable(name)]


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_light_modules_import_nothing_heavy_at_the_top(module):
    for node in MODULES[module].body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {"torch", "transformers", "matplotlib"}


def test_transformers_is_imported_where_models_load_and_nowhere_else():
    def imports_it(tree):
        return any(
            (isinstance(n, ast.ImportFrom) and (n.module or "").startswith("transformers"))
            or (isinstance(n, ast.Import) and any(a.name == "transformers" for a in n.names))
            for n in ast.walk(tree)
        )

    assert {name for name, tree in MODULES.items() if imports_it(tree)} == {
        "_loading.live",
        "_heads.writing",
    }


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
