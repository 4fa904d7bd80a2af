"""How a cut adapter lies in its file: the rank of every module, what is left out, and what it takes.

PEFT gives modules ranks of their own by `rank_pattern` and `alpha_pattern`. Servers that read one rank and one alpha
take the padded form: all modules at one rank, what is missing filled with zeros.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from surgery.adapter import Adapter, ConvSite, EmbeddingSite, Factors, Site
from surgery.edits import Edit, ModuleEdit, make_edit
from surgery.errors import ExportError
from surgery.policies import Rank
from surgery.spectra import Spectra, null_components

# vLLM's list, the 1 since 0.14; before the list it was any of the powers of two up to 512 and 320
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# what a smaller form writes anew in the config
SET_BY_FORM = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "exclude_modules")


@dataclass(frozen=True)
class Smaller:
    """The form of a smaller export. `pad` None leaves every module its own rank, 0 pads all to the largest one."""

    pad: int | None = None


@dataclass(frozen=True)
class Layout:
    """Ranks in the file by module, 0 for one that is left out.

    `zeros` are modules that nothing is left of and that PEFT creates whatever the config says: they have rank 1 and
    no update. `parameters` and `bytes` are those of the factors; `before` and `bytes_before` the unedited ones'.
    """

    ranks: Mapping[str, int]
    zeros: tuple[str, ...]
    padded: bool
    parameters: int
    bytes: int
    before: int
    bytes_before: int

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(name for name, rank in self.ranks.items() if rank == 0)

    @property
    def largest(self) -> int:
        return max(self.ranks.values())

    @property
    def saved(self) -> float:
        """The share of the factors' bytes that is gone."""
        return 1 - self.bytes / self.bytes_before


@dataclass(frozen=True)
class Saving:
    """A cut that keeps a `share` of Σσ² over all modules: each at its own rank, and padded to the largest."""

    share: float
    ragged: Layout
    padded: Layout


def kept_components(module: ModuleEdit) -> list[int]:
    """The components that an edit leaves above zero and above rounding, by number."""
    live = (module.sigma_after > 0) & ~null_components(module.sigma)
    return [int(k) for k in live.nonzero()[0]]


def edited_layout(adapter: Adapter, edit: Edit, form: Smaller) -> Layout:
    """The layout of an edited adapter in a smaller file; modules out of the edit's scope keep their rank.

    Raises `ExportError` for a padded form of AdaLoRA, and for a padded rank below the largest one that is left.
    """
    kept = {name: len(kept_components(module)) for name, module in edit.modules.items()}
    return layout_of(adapter, kept, form)


def layout_of(adapter: Adapter, kept: Mapping[str, int], form: Smaller) -> Layout:
    """`edited_layout`, from how many components are kept of each module; modules that it lacks keep their rank."""
    if adapter.kind == "AdaLoRA":
        return _of_triplets(adapter, kept, form)
    shared: dict[str, int] = {}  # PEFT gives one rank to all that one path of the config rules
    for name, factors in adapter.modules.items():
        own = min(kept.get(name, factors.rank), factors.rank)
        shared[factors.ruled_by] = max(own, shared.get(factors.ruled_by, 0))
    empty = [name for name, factors in adapter.modules.items() if shared[factors.ruled_by] == 0]
    out = _can_be_left_out(adapter, empty)
    zeros = tuple(name for name in empty if name not in out)
    ranks = {
        name: 0 if name in out else max(shared[factors.ruled_by], 1) for name, factors in adapter.modules.items()
    }
    if form.pad is not None:
        rank = _padded_rank(max(ranks.values()), form.pad)
        ranks = {name: rank if own else 0 for name, own in ranks.items()}
    return Layout(ranks, zeros, form.pad is not None, *_totals(adapter, ranks))


def _of_triplets(adapter: Adapter, kept: Mapping[str, int], form: Smaller) -> Layout:
    """AdaLoRA's own form: fewer triplets, each with a mark in the config, down to none in a module that stays."""
    if form.pad is not None:
        raise ExportError(
            "AdaLoRA marks the triplets that each module keeps, and has no padded form",
            "write each module at its own rank (without --pad)",
        )
    modules = adapter.modules.items()
    ranks = {name: min(kept.get(name, factors.rank), factors.rank) for name, factors in modules}
    if not any(ranks.values()):  # an adapter without a triplet does not open
        ranks[next(iter(ranks))] = 1
    return Layout(ranks, tuple(name for name, rank in ranks.items() if not rank), False, *_totals(adapter, ranks))


def _totals(adapter: Adapter, ranks: Mapping[str, int]) -> list[int]:
    """Numbers and bytes of all factors at these ranks, and as they are."""
    sizes = [_size(factors, ranks[name]) for name, factors in adapter.modules.items()]
    before = [_size(factors, factors.rank) for factors in adapter.modules.values()]
    return [sum(size[i] for size in some) for some in (sizes, before) for i in (0, 1)]


def _padded_rank(largest: int, pad: int) -> int:
    if pad and pad < largest:
        raise ExportError(
            f"a module keeps rank {largest}, which is more than the {pad} to pad to", f"pad to {largest} or more"
        )
    return pad or largest


def _size(factors: Factors, rank: int) -> tuple[int, int]:
    """Numbers and bytes of the factors at a rank, AdaLoRA's diagonal among them."""
    sides = [(factors.A.shape[1] * rank, factors.A), (factors.B.shape[0] * rank, factors.B)]
    sides += [(rank, factors.diagonal)] if factors.diagonal is not None else []
    return sum(count for count, _ in sides), sum(count * stored.dtype.itemsize for count, stored in sides)


def _can_be_left_out(adapter: Adapter, empty: Iterable[str]) -> set[str]:
    """Of modules that nothing is left of, those that the config can keep PEFT from creating.

    DoRA's norms, biases and what is wrapped in another adapted layer hold more than the update. At least one module
    stays, because PEFT loads no adapter without any.
    """
    modules = adapter.modules
    ruling = Counter(factors.ruled_by for factors in modules.values())
    out = {
        name
        for name in empty
        if type(modules[name].site) in (Site, EmbeddingSite, ConvSite)
        and modules[name].magnitude is None
        and ruling[modules[name].ruled_by] == 1
        and modules[name].ruled_by == modules[name].site.module
        and ".base_layer." not in modules[name].key_A
        and not any(f".{modules[name].site.module}." in key for key in adapter.extra)
    }
    while True:
        stay = [factors.site.module for name, factors in modules.items() if name not in out]
        # an exclusion by a whole path also holds for a longer path with the same end
        ends = {path.split(".", n)[-1] for path in stay for n in range(1, path.count(".") + 1)}
        clash = {name for name in out if modules[name].site.module in ends}
        if not clash and stay:
            return out
        out -= clash or {next(name for name in modules if name in out)}


def savings(adapter: Adapter, spectra: Spectra, shares: Iterable[float] = (0.9, 0.95, 0.99)) -> list[Saving]:
    """What cuts by one threshold over all modules would save, without anything that was measured.

    Nothing is told of AdaLoRA, which has no padded form.
    """
    if adapter.kind == "AdaLoRA":
        return []
    found = []
    for share in shares:
        edit = make_edit(spectra, Rank(cut="para", share=share), scope="all")
        forms = (edited_layout(adapter, edit, Smaller(pad)) for pad in (None, 0))
        found.append(Saving(share, *forms))
    return found


def servers(found: Layout, scalings: Iterable[float]) -> tuple[str, ...]:
    """What is to be told of who serves this form, as sentences.

    found: the layout.
    scalings: of the modules in the file.
    """
    allowed = next((rank for rank in VLLM_RANKS if rank >= found.largest), None)
    start = (
        f"vLLM takes it from --max-lora-rank {allowed} up: the option is one of {', '.join(map(str, VLLM_RANKS))} "
        "(1 in newer versions)"
        if allowed
        else f"vLLM's largest --max-lora-rank is {VLLM_RANKS[-1]}, and a module has rank {found.largest}"
    )
    ranks = {rank for rank in found.ranks.values() if rank}
    if len(ranks) == 1 and len(set(scalings)) == 1:
        return (
            f"One rank, {found.largest}, and one scaling: PEFT and every server that reads its files take it",
            start,
        )
    return (
        "PEFT loads it by rank_pattern and alpha_pattern; a server whose reader knows one rank and one alpha, as "
        "vLLM's does, is to be given the padded form",
        f"Padded to one rank, {start}" if allowed else start,
    )
