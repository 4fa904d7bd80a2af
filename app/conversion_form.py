"""The conversion of an adapter that was refused because it opens after one only: asked for, shown at work, its error."""

from dataclasses import replace

import streamlit as st

from app.frame import plain
from app.running import waits_for
from app.state import jobs
from app.state.workspace import current, keep, open_source, refused_source
from surgery.conversion import ENERGY, MLX, Conversion, ConversionPlan, Source, convert, convertible
from surgery.errors import SurgeryError
from surgery.files import proposed_export
from surgery.model import DTYPES, BaseChoice

KIND = "conversion"
_RESULT = "conversion-result"
_FIELDS = {
    "base": ("Base model", "The model that the adapter was trained on: a folder, a GGUF file or a hub id."),
    "initial": ("Initial adapter", "The folder of the adapter as it was saved before its training."),
    "residual_base": ("Residual base", "The folder of the model as the initialisation had changed it."),
}


def offer_conversion() -> None:
    """A form where a conversion makes a LoRA of what was refused last; the work; and what came of it."""
    if waits_for(KIND, "The conversion is under way. Its LoRA opens here when it ends."):
        return
    done: Conversion | None = st.session_state.get(_RESULT)
    if done is not None and current().adapter.source == str(done.folder):
        _show(done)
    source = _convertible(refused_source())
    if source is not None:
        _form(source)


def _convertible(refused: str) -> Source | None:
    try:
        return convertible(refused) if refused else None
    except SurgeryError:
        return None


def _form(source: Source) -> None:
    st.markdown(f"**Make a LoRA of this {plain(source.kind)} adapter**")
    if source.base_name:
        st.caption(f"Its config names the base {plain(source.base_name[:200])}.")
    if len(source.ways) > 1:
        st.caption("One of these is needed:")
    with st.form("convert", border=False):
        plan = _asked_for(source)
        out = st.text_input(
            "New folder",
            str(proposed_export(f"{source.folder.name}-lora")),
            help="Nothing that exists is overwritten.",
        )
        asked = st.form_submit_button("Convert and open", type="primary", icon=":material/transform:")
    if asked:
        _start(source, plan, out.strip())
        st.rerun()


def _asked_for(source: Source) -> ConversionPlan:
    """What the fields of the form say; those that this kind of adapter has no use for are not shown."""
    optional = source.kind == MLX
    said = {way: _text(way, optional) for way in (("base",) if optional else source.ways)}
    dtype = st.selectbox("Dtype of the model", DTYPES, help="It is loaded for the conversion and given up again.")

    def choice(way: str) -> BaseChoice | None:
        return BaseChoice(said[way], dtype=dtype) if said.get(way) else None

    plan = ConversionPlan(str(source.folder), choice("base"), choice("residual_base"), said.get("initial", ""))
    if source.ways == ("base",):
        return replace(plan, energy=_energy())
    if optional and "fine_tune_type" not in source.config:
        scale = st.number_input("Scale", value=None, help="What multiplied the factors' product in training.")
        return replace(plan, scale=scale)
    return plan


def _text(way: str, optional: bool) -> str:
    label, told = _FIELDS[way]
    if optional:
        told = f"{told} Not needed: the conversion is checked on it, and the result names it."
    return str(st.text_input(label, help=told, key=f"convert-{way}", placeholder="optional" if optional else ""))


def _energy() -> float:
    return float(
        st.number_input(
            "Energy to keep",
            min_value=0.01,
            max_value=1.0,
            value=ENERGY,
            format="%.6f",
            help="The share of each update's squared norm that the rank of its LoRA has to hold; 1 keeps all.",
        )
    )


def _start(source: Source, plan: ConversionPlan, out: str) -> None:
    base = plan.residual_base or plan.base  # the one that the LoRA belongs to

    def work(job: jobs.Job, models: jobs.Models) -> Conversion:
        return convert(plan, out, control=job.control)

    def collect(done: Conversion) -> None:
        opened = open_source(str(done.folder))
        if base is not None:
            keep(opened.with_base(base))
        st.session_state[_RESULT] = done

    st.session_state.pop(_RESULT, None)
    jobs.start(KIND, f"Conversion of {source.folder.name}", work, collect)


def _show(done: Conversion) -> None:
    text = f"Converted from {plain(done.kind)}, read back and compared: `{done.folder}`. "
    if done.error == 0:
        text += f"Its {len(done.modules)} updates are exactly those of the source"
    else:
        text += (
            f"Its {len(done.modules)} updates together differ by {done.error:.1e} of their norm, the largest by "
            f"{done.largest[1]:.1e}"
        )
    if done.logits is not None:
        text += (
            f"; PEFT's logits by {done.logits.error:.1e} of the largest, on {done.logits.rows} rows of "
            f"{done.logits.what}"
        )
    st.success(f"{text}.", icon=":material/verified:")
    for note in done.notes:
        st.info(plain(note), icon=":material/info:")
