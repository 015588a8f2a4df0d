"""Chat templates: the prompt's place in them, and the tokens that a server would read."""

import copy

import pytest
import tiny
import transformers
from helpers import raises
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers.utils.chat_template_utils import render_jinja_template

from sklopa._tokens.template import Template, chat_template
from sklopa._tokens.texts import TextReader

LOOP = "{% for m in messages %}<u>@</u>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
ONE_TEXT = LOOP.replace("@", "{{ m['content'] }}")
TRIMMED = LOOP.replace("@", "{{ m['content'] | trim }}")
EACH = "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
EACH += "{% for part in m['content'] %}{{ part['text']@ }}{% endfor %}{% endif %}"
PARTS = LOOP.replace("@", EACH.replace("@", ""))
TRIMMED_PARTS = LOOP.replace("@", EACH.replace("@", " | trim"))
TEXTS = ["good", " a b ", "", "  ", "red\n", "\n blue {x} \\n"]


class Words:
    """A tokenizer that has nothing but a chat template."""

    def __init__(self, template):
        self.chat_template = template

    def apply_chat_template(self, messages, **options):
        assert options == {"tokenize": False, "add_generation_prompt": True}
        (text,), _ = render_jinja_template(
            [messages], chat_template=self.chat_template, add_generation_prompt=True
        )
        return text


def as_served(template, by_parts, parts):
    """What vLLM makes of the parts of a message, by the two ways that it has."""
    if by_parts:
        content = [{"type": "text", "text": part} for part in parts]
    else:
        content = "\n".join(part for part in parts if part)
    return Words(template).apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )


KINDS = [(ONE_TEXT, False), (TRIMMED, False), (PARTS, True), (TRIMMED_PARTS, True)]


@pytest.mark.parametrize(("template", "by_parts"), KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_the_text_around_a_prompt_is_the_servers(template, by_parts, text):
    found = chat_template(Words(template), "{text}")
    assert found.before == "<u>"
    assert found.render(text, "<Z>") == as_served(template, by_parts, ["<Z>", text])
    assert found.message(text) == text


@pytest.mark.parametrize(("template", "by_parts"), KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_without_a_prompt_it_is_the_template_around_the_text_alone(template, by_parts, text):
    found = chat_template(Words(template), "{text}", prompted=False)
    assert found.before is None
    assert found.render(text) == as_served(template, by_parts, [text])


def test_pairs_and_braces_are_filled_in_once():
    found = chat_template(Words("{x}" + PARTS), "{text}\n{text_pair}")
    assert found.render(("{text_pair}", "b"), "<Z>") == "{x}<u><Z>{text_pair}\nb</u><a>"
    assert str(found) == "{x}<u>{text}\n{text_pair}</u><a>"


def test_a_tokenizer_without_a_template_gives_none():
    assert chat_template(Words(None), "{text}") is None


@pytest.mark.parametrize("broken", ["no message", ONE_TEXT + ONE_TEXT,
                                    LOOP.replace("@", "{{ m['content'] | lower }}")])  # fmt: skip
def test_a_template_that_does_not_repeat_the_message_is_refused(broken):
    with raises(ValueError, "chat template", "once and unchanged", "chat_template=None"):
        chat_template(Words(broken), "{text}")


# ---------------------------------------------------------------------- tokens


def spaced(scheme):
    """A tokenizer that writes a space in front of a text: of its start, or of each section."""
    characters = [chr(i) for i in range(33, 127)] + ["▁"]
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", "<s>", *characters])}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    if scheme == "legacy":
        core.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>"
    )


@pytest.mark.parametrize("scheme", ["first", "always", "never", "legacy"])
@pytest.mark.parametrize("before", ["", "<s>u: ", "u:", "<s>"])
@pytest.mark.parametrize("text", ["ab c", " a", "", "<s>a", "<prompt_embeds>"])
def test_both_sides_are_cut_into_tokens_as_parts_of_one_text(scheme, before, text):
    tokenizer = spaced(scheme)
    template = Template("{text}", special_tokens=False, before=before, joint="", behind=" a:")
    # A server knows its tokens in what a user says.
    reader = TextReader(
        tokenizer, name=object(), max_tokens=None, with_types=False, template=template,
        special_tokens=True,
    )  # fmt: skip
    ((found,), _) = reader.read([text])
    server = copy.deepcopy(tokenizer)  # as vLLM marks the place, whatever its mark is called
    server.add_special_tokens({"additional_special_tokens": ["<mark>"]})
    whole = server(f"{before}<mark>{text} a:", add_special_tokens=False)["input_ids"]
    at = whole.index(server.convert_tokens_to_ids("<mark>"))
    assert found.prompt_at == at
    assert found.ids.tolist() == whole[:at] + whole[at + 1 :]
    assert len(tokenizer) == len(server) - 1  # the estimator's own is as it was


def test_token_types_move_with_their_tokens():
    template = Template("{text}", special_tokens=False, before="the ", behind=" it")
    reader = TextReader(
        tiny.tokenizer(), name=object(), max_tokens=None, with_types=True, template=template
    )
    ((found,), _) = reader.read(["good film"])
    assert (found.types.tolist(), found.prompt_at, len(found)) == ([0] * 4, 1, 4)
