"""Which tokenizer reads the rows: the one that training saved beside the adapter, or the base model's.

Both are loaded without the model, so that tokens can be looked at before any weights are read.
"""

import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from surgery.adapter import Adapter, TokenizerFiles
from surgery.data import Encoding
from surgery.errors import AdapterError, BaseModelError, first_line
from surgery.model.base import resolve_unread
from surgery.model.gguf import read_once
from surgery.model.loading import quiet_loading

_CONFIG = "tokenizer_config.json"
# what configs call the longest row, the commonest first; MPT's and Whisper's kinds have names of their own
_LENGTHS = ("max_position_embeddings", "max_seq_len", "max_target_positions")
_BASE = "use the base model's tokenizer (--tokenizer base)"
_PROBE = "The quick brown fox: 3.14 × 2 = 6.28?\n\tif (x) { return “naïve”; }  日本語 🙂"


def tokenizer_alone(location: str, *, revision: str | None = None) -> Any:
    """The tokenizer of a base model, without the model; `location` is as in `load_base`.

    Raises `BaseModelError` where it cannot be found or read.
    """
    from transformers import AutoTokenizer

    source, options = resolve_unread(location, revision)
    try:
        with quiet_loading(), read_once():
            return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:  # files of any origin, as in `load_base`
        raise BaseModelError(
            f"the tokenizer of {location!r} could not be loaded ({first_line(error)})",
            "name a folder with a tokenizer, a .gguf file or a reachable hub id",
        ) from error


def limits_of(location: str, *, revision: str | None = None) -> tuple[int | None, int | None]:
    """Tokens that a base model has rows for, and the longest row that it reads, by its config alone.

    None where it does not say; a model without a config that can be read is refused when it is loaded.
    """
    from transformers import AutoConfig

    source, options = resolve_unread(location, revision)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
        rows = config.get_text_config(decoder=True).vocab_size
    except Exception:  # files of any origin
        return None, None
    return rows if isinstance(rows, int) else None, named_positions(config)


def named_positions(config: Any) -> int | None:
    """The longest row in tokens that a model's config names; None where it names none."""
    text = config.get_text_config(decoder=True)
    named = [getattr(text, name, None) for name in _LENGTHS]
    return next((length for length in named if isinstance(length, int) and length > 0), None)


def positions_of(model: Any) -> int | None:
    """The longest row in tokens that a model reads, by its config and its tables; None where nothing limits it."""
    named = named_positions(model.config)
    lengths = [] if named is None else [named]
    # RoBERTa's kinds leave the places of their tables up to the padding's unused
    for name, table in model.named_modules():
        if name.endswith("position_embeddings") and getattr(table, "padding_idx", None) is not None:
            lengths.append(table.num_embeddings - table.padding_idx - 1)
    return min(lengths, default=None)


def tokenizer_of(
    adapter: Adapter, encoding: Encoding, base: Any, *, vocabulary: int | None, config: Any = None
) -> Any:
    """The tokenizer that an encoding asks for.

    adapter: whose folder may hold a tokenizer, or a chat template for the base's.
    base: the base model's tokenizer.
    vocabulary: rows of the model's embedding; None where they are not known.
    config: of the base model, for a tokenizer that does not name its own kind.

    Raises `AdapterError` for a tokenizer of the adapter's that cannot be loaded or does not fit the model.
    """
    files = adapter.tokenizer
    if encoding.tokenizer == "base" or not files.given:
        return base
    if files.unread:
        raise AdapterError(f"the adapter's tokenizer cannot be read ({files.unread})", f"restore it, or {_BASE}")
    if not files.has_vocabulary:
        with_template = copy.copy(base)
        with_template.chat_template = files.chat_template
        return with_template
    own = _loaded(files, config)
    if not own.chat_template:
        own.chat_template = files.chat_template or base.chat_template
    _refuse_beyond(own, base, vocabulary)
    return own


def tokenizer_notes(own: Any, base: Any) -> tuple[str, ...]:
    """How the tokenizer in use differs from the base model's, in words; empty for the same one."""
    if own is base:
        return ()
    mine, theirs = own.get_vocab(), base.get_vocab()
    added = sorted(mine.keys() - theirs.keys(), key=mine.__getitem__)
    notes = []
    if added:
        notes.append(f"the adapter's tokenizer has {_named(added)} that the base's lacks")
    if any(mine[token] != theirs[token] for token in mine.keys() & theirs.keys()) or _ids(own) != _ids(base):
        notes.append("the adapter's tokenizer gives other ids to the same text than the base's")
    if own.eos_token != base.eos_token:
        notes.append(f"the adapter's tokenizer ends a text with {own.eos_token}, the base's with {base.eos_token}")
    if own.chat_template != base.chat_template:
        where = "has another chat template than" if base.chat_template else "has a chat template, unlike"
        notes.append(f"the adapter's folder {where} the base; the adapter's is used")
    return tuple(notes)


def _loaded(files: TokenizerFiles, config: Any) -> Any:
    """A tokenizer from its files alone: what else lies in their folder is out of its reach."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.contents.items():
            (Path(folder) / name).write_bytes(_tame(content) if name == _CONFIG else content)
        options = {} if config is None else {"config": config}
        try:
            with quiet_loading():
                return AutoTokenizer.from_pretrained(
                    folder, trust_remote_code=False, local_files_only=True, **options
                )
        except BaseException as error:
            # a damaged vocabulary makes the Rust library panic, which is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise AdapterError(
                f"the tokenizer in the adapter's folder cannot be loaded ({first_line(error)})",
                f"restore its files, or {_BASE}",
            ) from error


def _tame(content: bytes) -> bytes:
    """A tokenizer's settings without what names code or other files."""
    try:
        settings = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{_CONFIG} in the adapter's folder is not JSON", f"restore it, or {_BASE}") from error
    if not isinstance(settings, dict):
        raise AdapterError(f"{_CONFIG} in the adapter's folder is no object", f"restore it, or {_BASE}")
    kept = {
        name: value
        for name, value in settings.items()
        if name not in ("auto_map", "name_or_path") and not name.endswith(("_file", "_files"))
    }
    return json.dumps(kept).encode()


def _refuse_beyond(own: Any, base: Any, vocabulary: int | None) -> None:
    """Refuse tokens that the model has no row for, but for those that the base's own tokenizer has as well."""
    if vocabulary is None:
        return
    theirs = base.get_vocab()
    beyond = {token: i for token, i in own.get_vocab().items() if i >= vocabulary and theirs.get(token) != i}
    if beyond:
        raise AdapterError(
            f"the adapter's tokenizer has {_named(sorted(beyond, key=beyond.__getitem__))} "
            f"beyond the {vocabulary:,} of the model",
            f"name the base model it was trained on, or {_BASE}",
        )


def _named(tokens: Sequence[str]) -> str:
    shown = ", ".join(repr(token[:40]) for token in tokens[:3])
    return (
        f"{len(tokens):,} {'token' if len(tokens) == 1 else 'tokens'} ({shown}{', …' if len(tokens) > 3 else ''})"
    )


def _ids(tokenizer: Any) -> list[int]:
    return list(tokenizer(_PROBE).input_ids)
