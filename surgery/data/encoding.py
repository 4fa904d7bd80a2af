"""How rows become token ids: the settings, and how earlier versions understood theirs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from surgery.adapter import CAUSAL_LM

TEMPLATES = ("chat", "plain")
TOGETHER, APART = "together", "apart"
TOKENIZERS = ("adapter", "base")
# what templates with a date of their own fall back to; any fixed day gives the same ids on every day
DATE = "2024-07-26"
_LATER = ("tokenised", "system", "template_args", "date", "tokenizer")


@dataclass(frozen=True)
class Encoding:
    """How a row becomes token ids.

    template: `chat` renders the row with the tokenizer's chat template, a `.jinja` file with that one; `plain`
        takes its texts as they stand, as all models do that are no causal language models.
    separator: a space before the answer, as the paper has it.
    eos: the template's end of turn after the answer, or an end-of-sequence token where no template is used.
    max_length: longer examples are left out, in tokens.
    tokenised: `together`, as training does it, or `apart`: prompt and answer by themselves, the answer ended by
        the tokenizer's own end of sequence, as versions before 2 of the recipe did.
    system: a system prompt for conversations that have none.
    template_args: arguments of the template as a JSON object, such as `{"enable_thinking": false}`; for translation
        the tokenizer's languages, `{"src_lang": "eng_Latn", "tgt_lang": "fra_Latn"}`.
    date: the day that a template prints which reads the clock, ISO 8601.
    tokenizer: `adapter` takes that of the adapter's folder where it has one, `base` that of the base model.
    """

    template: str = "chat"
    separator: bool = False
    eos: bool = True
    max_length: int = 1024
    tokenised: str = TOGETHER
    system: str = ""
    template_args: str = ""
    date: str = DATE
    tokenizer: str = "adapter"

    def read_for(self, task: str) -> "Encoding":
        """This encoding as rows of a task are read: only a causal language model reads a conversation."""
        return self if task == CAUSAL_LM or self.template != "chat" else replace(self, template="plain")


def earlier_encoding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an encoding as earlier versions understood them, who tokenised prompt and answer apart."""
    return {"separator": True, "tokenised": APART, "tokenizer": "base", **settings}


def encoding_record(encoding: Encoding) -> dict[str, Any]:
    """The settings of an encoding; those of the rule of earlier versions as these wrote them."""
    record = asdict(encoding)
    if Encoding(**earlier_encoding({name: record[name] for name in record if name not in _LATER})) == encoding:
        return {name: value for name, value in record.items() if name not in _LATER}
    return record


def parse_encoding(record: Mapping[str, Any]) -> Encoding:
    """The encoding of a record of `encoding_record`."""
    return Encoding(**(record if "tokenised" in record else earlier_encoding(record)))
