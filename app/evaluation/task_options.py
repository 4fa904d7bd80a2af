"""How a benchmark's prompts are made beyond its definition, and whose definitions there are: few fields in an expander."""

import shlex
from pathlib import Path
from typing import Any

import streamlit as st

from app.encoding_form import TOKENIZER_LABELS
from surgery.data import TOKENIZERS
from surgery.errors import DataError
from surgery.files import named_folders


def ask_for_options(chat: bool) -> dict[str, Any]:
    """The further settings of a task's plan. `chat` tells whether prompts go into the chat template."""
    with st.expander("Own tasks, system instruction, thoughts", icon=":material/tune:"):
        folder = _folder()
        cells = st.columns([2, 1.6, 1.2, 1.2], vertical_alignment="bottom")
        system = cells[0].text_input(
            "System instruction",
            key="evaluate-system",
            persist_state="session",
            help="lm-eval's: before every prompt, as the system turn of the chat template where that is on.",
        )
        arguments = cells[1].text_input(
            "Template arguments",
            key="evaluate-template-args",
            persist_state="session",
            disabled=not chat,
            placeholder='{"enable_thinking": false}',
            help="Of the chat template, as a JSON object.",
        )
        end = cells[2].text_input(
            "End of thought",
            key="evaluate-think-end",
            persist_state="session",
            placeholder="</think>",
            help="Of a generated text counts what follows the last of it: a text, or the number of a token.",
        )
        tokenizer = cells[3].selectbox(
            "Tokenizer",
            TOKENIZERS,
            format_func=TOKENIZER_LABELS.__getitem__,
            key="evaluate-task-tokenizer",
            persist_state="session",
        )
    return {
        "tokenizer": tokenizer or TOKENIZERS[0],
        "include_path": folder or None,
        "system": system,
        "template_args": arguments if chat else "",
        "think_end": end.strip() or None,
    }


def trusted(folder: str | None) -> bool:
    """Whether the Python that the definitions in this folder name may run; on a confined server it never may."""
    return bool(folder) and named_folders() is None and bool(st.session_state.get(_trust_key(folder)))


def _folder() -> str:
    cells = st.columns([3.6, 1.4], vertical_alignment="bottom")
    folder = cells[0].text_input(
        "Folder of your own tasks",
        key="evaluate-include",
        persist_state="session",
        placeholder="empty: lm-eval's alone; or a folder with .yaml files of its kind",
    )
    folder = folder.strip()
    if folder and named_folders() is None:
        # the word is for this folder: another one asks anew
        cells[1].toggle(
            "Run its Python",
            key=_trust_key(folder),
            help="Definitions may name Python functions. They run in this process with all that you may do: turn this "
            "on for code that you know.",
        )
    return folder


def _trust_key(folder: str | None) -> str:
    return f"evaluate-trust-{folder}"


def local_files(text: str) -> dict[str, str] | None:
    """`split=path` pairs; one path alone is the split that questions come from."""
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise DataError(f"the local files {text!r} cannot be read ({error})", "close the quotes") from error
    if not parts:
        return None
    found = {}
    for part in parts:
        split, equals, path = part.partition("=")
        if not equals:
            raise DataError(f"{part!r} names no split", f"write test={Path(part).name} or validation=…")
        found[split] = path
    return found
