"""Adapters that open after a conversion only, and the words that lead there: other types, and changed bases.

Some initialisations took s·B₀·A₀ out of the base and trained on what was left, so that B·A alone is no update of the
base that the config names. LoftQ quantised the rest too, and KaSA trains more.
"""

from surgery.errors import AdapterError

# the types of PEFT whose update is a matrix that is added to the weight, as PEFT can decompose it
CONVERTIBLE = (
    "C3A",
    "DELORA",
    "FOURIERFT",
    "GRALORA",
    "LOHA",
    "LOKR",
    "MISS",
    "PSOFT",
    "RANDLORA",
    "TINYLORA",
    "UNILORA",
    "VBLORA",
    "VERA",
    "WAVEFT",
)
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
_COMMAND = "surgery convert ADAPTER --out NEW_FOLDER"
_OPTIONS = {
    FROM_BASE: "--base MODEL, the one that training started from",
    FROM_INITIAL: "--initial FOLDER, the adapter as it was saved before training",
    FROM_RESIDUAL: "--residual-base FOLDER, the model that it was trained on as peft's unload() gives it back",
}


def refuse_type(kind: object, opened: tuple[str, ...]) -> None:
    """Raise `AdapterError` for a type of PEFT that is none of those `opened`, with the way out that there is."""
    if kind in opened:
        return
    told = repr(kind)[:60]
    if kind in CONVERTIBLE:
        remedy = f"convert it with: {_COMMAND} {_OPTIONS[FROM_BASE].replace('training started from', 'it was trained on')}"
    elif kind == "XLORA":
        remedy = "X-LoRA mixes adapters token by token: open one of its adapters"
    else:
        remedy = "train a LoRA: neither this nor PEFT can turn another type of update into one"
    raise AdapterError(f"the adapter is of type {told}, not {' or '.join(opened)}", remedy)


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
        f"convert it with: {_COMMAND} {options}" if options else "train it as a plain LoRA",
    )
