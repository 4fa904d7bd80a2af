"""How rows become tokens, asked for on the pages that measure and prove: template, its arguments, tokenizer."""

from dataclasses import replace
from typing import Any

import streamlit as st

from surgery.adapter import CAUSAL_LM
from surgery.data import (
    APART,
    CLASSIFIERS,
    DATE,
    TEMPLATES,
    TOGETHER,
    TOKENIZERS,
    Encoding,
    parse_date,
    template_arguments,
)

FILE = "file"
TOKENIZER_LABELS = {"adapter": "the adapter's, if any", "base": "the base's"}


def encoding_controls(present: Encoding, key: str, task: str = CAUSAL_LM) -> Encoding:
    """The encoding that the controls name; raises `DataError` for arguments or a day that cannot be read.

    A classifier reads the text alone, so there is its tokenizer to choose and nothing else; `task` is the adapter's.
    Where `present` is of an earlier version, it says so, and the rule of that version stays until it is ticked off.
    """
    with st.expander("How rows become tokens", icon=":material/data_object:"):
        if task in CLASSIFIERS:
            return replace(present, tokenizer=_tokenizer(st, present, key))
        readers = _readers(present, key)
        settings = _template_settings(present, key, chat=readers["template"] != "plain")
        ticks = st.columns(3 if present.tokenised == APART else 2)
        separator = ticks[0].checkbox(
            "Space before answer",
            present.separator,
            key=f"{key}-separator",
            persist_state="session",
            help="As the paper has it, and the demos were trained.",
        )
        eos = ticks[1].checkbox("End token after answer", present.eos, key=f"{key}-eos", persist_state="session")
        apart = present.tokenised == APART and ticks[2].checkbox(
            "Prompt and answer apart",
            True,
            key=f"{key}-apart",
            persist_state="session",
            help="As earlier versions tokenised rows, kept for what was measured so. Without it rows have the ids that "
            "training sees.",
        )
    rule = APART if apart else TOGETHER
    encoding = replace(present, **readers, **settings, separator=bool(separator), eos=bool(eos), tokenised=rule)
    parse_date(encoding.date)
    template_arguments(encoding.template_args)
    return encoding


def _readers(present: Encoding, key: str) -> dict[str, Any]:
    """Which template and which tokenizer."""
    own = present.template if present.template not in TEMPLATES else ""
    cells, kinds = st.columns([1, 2.2, 1.2]), [*TEMPLATES, FILE]
    kind = cells[0].selectbox(
        "Template",
        kinds,
        kinds.index(FILE if own else present.template),
        key=f"{key}-template",
        persist_state="session",
        help="The chat template of the tokenizer; the texts as they stand; or a Jinja file of yours.",
    )
    file = cells[1].text_input(
        "Template file",
        own,
        placeholder="/path/to/template.jinja",
        key=f"{key}-template-file",
        persist_state="session",
        disabled=kind != FILE,
    )
    tokenizer = _tokenizer(cells[2], present, key)
    template = (file or "").strip() if kind == FILE else kind or present.template
    return {"template": template, "tokenizer": tokenizer}


def _tokenizer(cell: Any, present: Encoding, key: str) -> str:
    chosen = cell.selectbox(
        "Tokenizer",
        TOKENIZERS,
        TOKENIZERS.index(present.tokenizer),
        format_func=TOKENIZER_LABELS.__getitem__,
        key=f"{key}-tokenizer",
        persist_state="session",
        help="That of the adapter's folder where it has one, or that of the base model.",
    )
    return str(chosen or present.tokenizer)


def _template_settings(present: Encoding, key: str, *, chat: bool) -> dict[str, Any]:
    """What a chat template is given beside the messages."""
    cells = st.columns([2.2, 2.2, 1])
    common: dict[str, Any] = {"persist_state": "session", "disabled": not chat}
    arguments = cells[0].text_input(
        "Template arguments",
        present.template_args,
        placeholder='{"enable_thinking": false}',
        key=f"{key}-template-args",
        help="A JSON object.",
        **common,
    )
    system = cells[1].text_input(
        "System prompt",
        present.system,
        placeholder="of conversations that have none",
        key=f"{key}-system",
        **common,
    )
    day = cells[2].text_input(
        "Day",
        present.date,
        placeholder=DATE,
        key=f"{key}-date",
        help="That a template prints which reads the clock, so that the tokens are the same on every day.",
        **common,
    )
    return {
        "template_args": (arguments or "").strip(),
        "system": system or "",
        "date": (day or "").strip() or DATE,
    }
