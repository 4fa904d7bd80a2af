"""The tokenizer that training saved beside an adapter, as the bytes of its files; nothing in them is run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from surgery.errors import AdapterError
from surgery.files import read_limited

_TEMPLATE, _OLD_TEMPLATE, _CONFIG = "chat_template.jinja", "chat_template.json", "tokenizer_config.json"
# each of them is enough for a tokenizer of its own
_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
TOKENIZER_FILES = (
    *_VOCABULARIES,
    "merges.txt",
    _CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    _TEMPLATE,
    _OLD_TEMPLATE,
)
_MOST_BYTES = 64 << 20  # of one file; the largest in use, of a quarter of a million tokens, have half of it


@dataclass(frozen=True)
class TokenizerFiles:
    """What lies beside an adapter of a tokenizer: bytes by file name, and the file that could not be read."""

    contents: Mapping[str, bytes] = field(default_factory=dict)
    unread: str = ""

    @property
    def has_vocabulary(self) -> bool:
        """Whether this is a whole tokenizer; otherwise it is at most a chat template."""
        return any(name in self.contents for name in _VOCABULARIES)

    @property
    def chat_template(self) -> str | None:
        """The chat template; None where there is none. Raises `AdapterError` for one that cannot be read."""
        try:
            if _TEMPLATE in self.contents:
                return self.contents[_TEMPLATE].decode()
            for name in (_OLD_TEMPLATE, _CONFIG):
                found = json.loads(self.contents.get(name, b"{}"))
                template = found.get("chat_template") if isinstance(found, dict) else None
                if isinstance(template, list):  # several by name
                    template = next((each["template"] for each in template if each["name"] == "default"), None)
                if template:
                    return str(template)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise AdapterError(
                "the chat template in the adapter's folder cannot be read",
                "restore the file, or use the base's (--tokenizer base)",
            ) from error
        return None

    @property
    def given(self) -> bool:
        """Whether there is anything that stands for a tokenizer or a template."""
        return bool(self.unread) or self.has_vocabulary or self.chat_template is not None


def read_tokenizer_files(folder: Path) -> TokenizerFiles:
    """The files of a tokenizer in an adapter's folder. One that cannot be read is named in `unread`: to edit
    an adapter takes no tokenizer."""
    contents, unread = {}, ""
    for name in TOKENIZER_FILES:
        try:
            contents[name] = read_limited(folder / name, _MOST_BYTES)
        except FileNotFoundError:
            continue
        except OSError as error:
            unread = f"{name}: {error.strerror}"
    return TokenizerFiles(contents, unread)
