"""Initialisations that changed the base weights before training: B·A alone is no update of the base that was named.

They took s·B₀·A₀ out of the base and trained on what was left. LoftQ quantised the rest too, and KaSA trains more.
"""

from surgery.errors import AdapterError

FROM_BASE, FROM_INITIAL, FROM_RESIDUAL = "base", "initial", "residual_base"
# what makes a plain LoRA: the base, where B₀ and A₀ are found in it again; the adapter as it was before training,
# where nothing but B₀·A₀ was taken; or the base that was left
_WAYS = {
    "pissa": (FROM_BASE, FROM_INITIAL, FROM_RESIDUAL),
    "pissa_niter": (FROM_INITIAL, FROM_RESIDUAL),
    "olora": (FROM_BASE, FROM_INITIAL, FROM_RESIDUAL),
    "corda": (FROM_INITIAL, FROM_RESIDUAL),
    "lora_ga": (FROM_INITIAL, FROM_RESIDUAL),
    "loftq": (FROM_RESIDUAL,),
    "kasa": (),
}
_OPTIONS = {
    FROM_BASE: "--base MODEL, the one that training started from",
    FROM_INITIAL: "--initial FOLDER, the adapter as it was saved before training",
    FROM_RESIDUAL: "--residual-base FOLDER, the model that it was trained on as peft's unload() gives it back",
}


def ways_from(start: str) -> tuple[str, ...]:
    """What a conversion to a plain LoRA can begin with, for an initialisation in lower case; empty for all others."""
    if start.startswith("pissa_niter"):
        return _WAYS["pissa_niter"]
    return next((ways for name, ways in _WAYS.items() if start == name), ())


def refuse_changed_base(start: str) -> None:
    """Raise `AdapterError` for an initialisation, in lower case, that changed the base weights, with the ways out."""
    if not start.startswith(tuple(_WAYS)):
        return
    options = "; or ".join(_OPTIONS[way] for way in ways_from(start))
    raise AdapterError(
        f"init_lora_weights is {start[:40]!r}: training started from changed base weights",
        f"convert it: surgery convert ADAPTER --out NEW with {options}" if options else "train it as a plain LoRA",
    )
