"""Every block of Python in the READMEs runs as it is printed, one after the other.

They run on a few rows of the data set, and on the real weights.
"""

import re
from pathlib import Path

import matplotlib
import pytest

import sklopa
from sklopa import datasets

ROOT = Path(sklopa.__file__).parents[1]
FEW = 48  # rows in place of all
READMES = ["README.md", "examples/README.md"]


def blocks(name):
    """Line and text of each block."""
    text = (ROOT / name).read_text()
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start(1)), found.group(1)


@pytest.fixture
def few_rows(monkeypatch):
    """The data set with its first rows alone, in whatever form a block asks for it."""
    load = datasets.load_intents

    def load_few(*, return_X_y=False, as_frame=False):
        bunch = load(as_frame=as_frame)
        if as_frame:
            bunch.frame = bunch.frame[:FEW]
        return (bunch.data[:FEW], bunch.target[:FEW]) if return_X_y else bunch

    monkeypatch.setattr(datasets, "load_intents", load_few)


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:.*expanded to torch.float32:UserWarning")
@pytest.mark.parametrize("name", READMES)
def test_blocks_run_as_printed(name, few_rows, tmp_path, monkeypatch):
    pytest.importorskip("gguf", reason="the extra gguf reads the packaged language model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(matplotlib.rcParams, "backend", "agg", raising=False)
    names = {"__name__": "__main__"}
    for line, block in blocks(name):
        exec(compile("\n" * line + block, name, "exec"), names)  # errors name the README's line
    assert "clf" in names


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name):
    path = ROOT / name
    found = re.findall(r"\]\(([^)#]+)(#[^)]*)?\)", path.read_text())
    local = [(target, anchor) for target, anchor in found if not target.startswith("http")]
    assert local
    for target, anchor in local:
        other = path.parent / target
        assert other.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            assert anchor[1:] in {
                re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings
            }


def test_the_first_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_nothing_is_to_be_installed_by_a_name_that_no_registry_has():
    for path in [*ROOT.glob("**/*.md"), *ROOT.glob("examples/*.py"), *ROOT.glob("sklopa/**/*.py")]:
        assert not re.search(r"pip install [^\n]*\bsklopa\b", path.read_text()), path
