"""A set of adapters: what each holds is known, their directions are made when they are asked for, within a bound.

Opening a set looks at every adapter once, one after the other, and keeps σ, shapes and digests. U and V of fifty
adapters of a model of 8 billion parameters are seventeen gigabytes, so they are made anew for whoever asks, and those
used last stay in memory up to a number of bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from jaxtyping import Float64
from numpy import ndarray

from surgery.adapter import Adapter, Factors, open_adapter
from surgery.adapter_sets.holding import Holding
from surgery.adapter_sets.passes import Portion, copied, portions, size_of, whole_spectrum
from surgery.adapter_sets.steps import steps_of
from surgery.errors import AdapterError, DataError
from surgery.files import set_path
from surgery.progress import SILENT, Control
from surgery.spectra import AdapterRow, Look, Spectrum, adapter_folders, look_at

MOST_BYTES = 2 << 30


@dataclass(frozen=True)
class Outline:
    """One module of one member without its directions; `stored` are the bytes of its factors."""

    layer: int | None
    family: str
    shape: tuple[int, int]
    sigma: Float64[ndarray, " rank"]
    stored: int

    @property
    def rank(self) -> int:
        return int(self.sigma.size)

    @property
    def directions(self) -> int:
        """Bytes of U, σ and V."""
        return 8 * self.rank * (sum(self.shape) + 1)


@dataclass(frozen=True)
class Member:
    """One adapter of a set; a refused one has its `refusal` and no modules.

    `name` is its path below the set's root, `training` and `step` where it was saved, if that is known (see `steps_of`),
    `row` what `inspect --many` tells of it, `modules` its modules in their order, `size` the bytes of its tensors.
    """

    name: str
    folder: Path
    row: AdapterRow
    step: int | None = None
    training: str = ""
    modules: Mapping[str, Outline] = field(default_factory=dict)
    size: int = 0

    @property
    def refusal(self) -> str:
        return self.row.refusal

    @property
    def digest(self) -> str:
        return self.row.digest


class AdapterSet:
    """The adapters below `root`.

    members: in the order of their names, those of a training by their steps; refused ones among them.
    most_bytes: of arrays that are held at once.

    `held` tells the bytes that are held and the most that were.
    """

    def __init__(self, root: Path, members: Sequence[Member], most_bytes: int = MOST_BYTES) -> None:
        self.root, self.members = root, tuple(members)
        self.held = Holding(most_bytes)
        self._by_name = {member.name: member for member in self.members}
        self._passing = Lock()

    def __getitem__(self, name: str) -> Member:
        return self._by_name[name]

    @property
    def opened(self) -> tuple[Member, ...]:
        """The members that are not refused."""
        return tuple(member for member in self.members if not member.refusal)

    @property
    def trainings(self) -> dict[str, tuple[Member, ...]]:
        """The checkpoints of each training in the order of their steps, one for each step; refused ones left out."""
        found: dict[str, dict[int, Member]] = {}
        for member in self.opened:
            if member.step is not None:
                # what the trainer left above its checkpoints comes after them, often the last one once more
                found.setdefault(member.training, {}).setdefault(member.step, member)
        return {name: tuple(steps[at] for at in sorted(steps)) for name, steps in found.items() if len(steps) > 1}

    @property
    def alike(self) -> tuple[tuple[Member, ...], ...]:
        """The members in groups that can be compared, the largest first: one shape of base, and modules in common.

        In a group no two members give one module different shapes, and each shares a module with one before it.
        """
        groups: list[tuple[list[Member], dict[str, tuple[int, int]]]] = []
        for member in sorted(self.opened, key=lambda each: -len(each.modules)):
            shapes = {name: outline.shape for name, outline in member.modules.items()}
            for others, known in groups:
                shared = shapes.keys() & known.keys()
                if shared and all(shapes[name] == known[name] for name in shared):
                    others.append(member)
                    known.update(shapes)
                    break
            else:
                groups.append(([member], shapes))
        place = {member.name: at for at, member in enumerate(self.members)}
        ordered = (sorted(others, key=lambda each: place[each.name]) for others, _ in groups)
        return tuple(sorted(map(tuple, ordered), key=lambda group: -len(group)))

    def modules(self, members: Sequence[str] | None = None) -> dict[str, Outline]:
        """Every module that one of the members has, of all where none are named, with its outline in the first of them.

        In the order of the member that has most, others behind.
        """
        wanted = self.opened if members is None else [self._by_name[name] for name in members]
        found: dict[str, Outline] = {}
        for member in sorted(wanted, key=lambda each: -len(each.modules)):
            for name, outline in member.modules.items():
                found.setdefault(name, outline)
        return found

    def spectrum(self, member: str, module: str) -> Spectrum:
        """The spectrum of a member's module: kept from an earlier look, or made.

        Raises `DataError` for a member that is refused and for a module it does not have, and `AdapterError` where its
        files have gone or changed.
        """
        if module not in self._by_name[member].modules:
            raise DataError(f"{member!r} has no module {module!r}", "choose one that it has")
        found: Spectrum | None = self.held.get((member, module))
        return self._made(member, self._adapter(member).modules[module]) if found is None else found

    def by_module(
        self, members: Sequence[str], modules: Sequence[str] | None = None, *, control: Control = SILENT
    ) -> Iterator[tuple[str, tuple[Spectrum | None, ...]]]:
        """Each module with its spectra in the named members, in their order: None in a member that has no such module.

        members: names.
        modules: names, in the order wanted; all that one of the members has where not given.
        control: hears of modules of members, and may stop the pass.

        What is given out is to be let go before the next is asked for, or it is held beside the bound. It is kept where
        all of it fits: of more, a pass would drop each just before the next pass asks for it. One pass goes at a time,
        another waits.

        Raises `Cancelled`, `DataError` where not even one module of all members fits the bound, and `AdapterError`
        where files have gone or changed.
        """
        wanted = list(self.modules(members) if modules is None else modules)
        with self._passing:
            done, total, keep = 0, len(wanted) * len(members), self._fits(members, wanted)
            for portion in self._portions(members, wanted):
                with self.held.aside(portion.size):
                    factors: dict[str, dict[str, Factors]] = {}
                    for member in members:
                        control.heed()
                        factors[member] = self._factors(member, portion.modules)
                    for module in portion.modules:
                        control.heed()
                        yield module, tuple(self._of(member, module, factors[member], keep) for member in members)
                        for each in factors.values():
                            each.pop(module, None)
                        done += len(members)
                        control.progress(done, total)

    def _portions(self, members: Sequence[str], modules: Sequence[str]) -> list[Portion]:
        outlines = [self._by_name[member].modules for member in members]
        factors = {name: sum(each[name].stored for each in outlines if name in each) for name in modules}
        directions = {name: sum(each[name].directions for each in outlines if name in each) for name in modules}
        largest = max((self._by_name[member].size for member in members), default=0)
        return portions(factors, directions, largest, self.held.room)

    def _fits(self, members: Sequence[str], modules: Sequence[str]) -> bool:
        """Whether all directions of these modules can be held while a pass goes over them."""
        outlines = [self._by_name[member].modules for member in members]
        return (
            2 * sum(each[name].directions for each in outlines for name in modules if name in each)
            < self.held.room
        )

    def _factors(self, member: str, modules: Sequence[str]) -> dict[str, Factors]:
        """The factors of a member's modules that are not held as spectra."""
        missing = [
            name
            for name in modules
            if name in self._by_name[member].modules and self.held.get((member, name)) is None
        ]
        return copied(self._adapter(member), missing) if missing else {}

    def _of(self, member: str, module: str, factors: Mapping[str, Factors], keep: bool) -> Spectrum | None:
        if module not in self._by_name[member].modules:
            return None
        if module in factors:
            return self._made(member, factors[module]) if keep else whole_spectrum(factors[module])
        return self.spectrum(member, module)

    def _made(self, member: str, factors: Factors) -> Spectrum:
        spectrum = whole_spectrum(factors)
        self.held.put((member, factors.name), spectrum, size_of(spectrum))
        return spectrum

    def _adapter(self, name: str) -> Adapter:
        """The member's adapter as it was when the set was opened."""
        kept: Adapter | None = self.held.get(name)
        if kept is not None:
            return kept
        member = self._by_name[name]
        adapter = open_adapter(str(member.folder))
        if adapter.digest != member.digest:
            raise AdapterError(
                f"the files of {name!r} have changed since the set was opened", "open the set again"
            )
        self.held.put(name, adapter, member.size)
        return adapter


def open_set(root: Path | str, *, most_bytes: int = MOST_BYTES, control: Control = SILENT) -> AdapterSet:
    """The adapters at or below a folder, each looked at once.

    root: the folder, or `demo:NAME` of a set that ships; links in it are not followed.
    most_bytes: of arrays that the set holds at once.
    control: hears of adapters, and may stop it.

    Raises `DataError` where there is no adapter, and `Cancelled`. An adapter that cannot be opened is a member with
    its refusal.
    """
    top = set_path(root)
    folders = adapter_folders(top)
    steps = steps_of(folders)
    control.begin("looking at adapters")
    members = []
    for done, (name, folder) in enumerate(folders.items(), start=1):
        control.heed()
        training, step = steps.get(name, ("", None))
        members.append(_member(name, look_at(folder, top), folder, training, step))
        control.progress(done, len(folders))
    names = {member.name: at for at, member in enumerate(members)}
    first: dict[str, int] = {}
    for member in members:
        first.setdefault(member.training or member.name, names[member.name])
    members.sort(key=lambda each: (first[each.training or each.name], each.step or 0, -names[each.name]))
    return AdapterSet(top, members, most_bytes)


def _member(name: str, look: Look, folder: Path, training: str, step: int | None) -> Member:
    if look.adapter is None:
        return Member(name, folder, look.row, step, training)
    outlines = {}
    for module, factors in look.adapter.modules.items():
        spectrum = look.spectra[module]
        stored = factors.B.nbytes + factors.A.nbytes
        outlines[module] = Outline(spectrum.layer, spectrum.family, spectrum.shape, spectrum.sigma.copy(), stored)
    size = sum(tensor.nbytes for tensor in look.adapter.tensors.values())
    return Member(name, folder, look.row, step, training, outlines, size)
