"""How rows become tokens, asked for on the pages that measure and prove: template, its arguments, tokenizer."""

import json
from dataclasses import replace
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery.adapter import CAUSAL_LM, SEQ_2_SEQ_LM
from surgery.data import (
    APART,
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

    task: see `Adapter.task`; only a causal language model reads conversations, so the others have no template.

    Where `present` is of an earlier version, it says so, and the rule of that version stays until it is ticked off.
    """
    if task != CAUSAL_LM:
        return _plain_controls(present, key, task)
    with st.expander("How rows become tokens", icon=":material/data_object:"):
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


def _plain_controls(present: Encoding, key: str, task: str) -> Encoding:
    """The encoding of texts that are read as they stand."""
    given = template_arguments(present.template_args)
    with st.expander("How rows become tokens", icon=":material/data_object:"):
        cells = st.columns([1.2, 1, 1, 1.4], vertical_alignment="bottom")
        tokenizer = _tokenizer(cells[0], present, key)
        languages: dict[str, str] = {}
        for cell, name, label in zip(
            cells[1:3] if task == SEQ_2_SEQ_LM else (),
            ("src_lang", "tgt_lang"),
            ("Language of prompts", "Language of answers"),
            strict=False,
        ):
            code = cell.text_input(
                label,
                str(given.get(name, "")),
                placeholder="the tokenizer's own",
                key=f"{key}-{name}",
                persist_state="session",
                help="A code of the tokenizer's, such as eng_Latn; for translation only.",
            )
            languages |= {name: code.strip()} if code and code.strip() else {}
        eos = present.eos
        if task == SEQ_2_SEQ_LM:
            eos = cells[3].checkbox("End token after answer", eos, key=f"{key}-eos", persist_state="session")
    arguments = json.dumps(languages) if languages else ""
    return replace(present, template="plain", template_args=arguments, tokenizer=tokenizer, eos=bool(eos))


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
    template = (file or "").strip() if kind == FILE else kind or present.template
    return {"template": template, "tokenizer": _tokenizer(cells[2], present, key)}


def _tokenizer(cell: DeltaGenerator, present: Encoding, key: str) -> str:
    chosen = cell.selectbox(
        "Tokenizer",
        TOKENIZERS,
        TOKENIZERS.index(present.tokenizer),
        format_func=TOKENIZER_LABELS.__getitem__,
        key=f"{key}-tokenizer",
        persist_state="session",
        help="That of the adapter's folder where it has one, or that of the base model.",
    )
    return chosen or present.tokenizer


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
