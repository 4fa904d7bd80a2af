"""The adapter inside the running model: y = base(x) + ((x V) ∘ σ) Uᵀ in place of every target.

σ may be replaced at any time, and may carry a leading row axis so that the rows of one batch
belong to different variants. A zero perturbation e of shape (rows, rank) added to σ makes ∂loss/∂e
the per-example sensitivities gₖ = uₖᵀ G vₖ of a whole batch in one backward pass (paper Eq. 4).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor

from surgery.adapter import Adapter, Factors
from surgery.data import CLASSIFIERS, Calibration, Encoding, Row, encode
from surgery.errors import AdapterError, BaseModelError, DataError, PolicyError
from surgery.model.base import LoadedBase
from surgery.model.base_fit import (
    refuse_tied_output,
    refuse_unknown_ids,
    refuse_unknown_token,
    refuse_unrunnable,
    replace_module,
    replicate,
    submodule,
    targets_without_factors,
)
from surgery.model.base_names import base_notes
from surgery.model.device_map import execution_device
from surgery.model.extra_tensors import output_magnitudes, put_extras, update_biases
from surgery.model.heads import refuse_other_head
from surgery.model.renamed import placed
from surgery.model.spectral_layers import Components, SpectralLayer, Watch
from surgery.model.tokenizers import positions_of, tokenizer_of
from surgery.model.vocabulary import lengths
from surgery.model.ways import Layout, Way, decoding_note, scoring_note
from surgery.model.wrapping import wrap
from surgery.spectra import Spectra

if TYPE_CHECKING:
    from surgery.model.probe import Ways


class LiveModel:
    """An adapter attached to a base model in spectral form, until `close`.

    Trained tensors that are not LoRA factors are put in as well, so the model computes what PEFT's
    would. Raises `BaseModelError` when the base model and the adapter do not fit, and `AdapterError`
    for an adapter that can be edited but not run in this form. One thread at a time.
    """

    def __init__(self, base: LoadedBase, adapter: Adapter, spectra: Spectra) -> None:
        refuse_unrunnable(adapter, base.task)
        refuse_other_head(base, adapter)
        if set(spectra) != set(adapter.modules):
            raise AdapterError("the spectra are of other modules than the adapter's", "decompose this adapter")
        if any(isinstance(module, SpectralLayer) for module in base.model.modules()):
            raise BaseModelError("another adapter is attached to this base model", "close it first")
        self.base = base
        self.adapter = adapter
        self.spectra = spectra
        self._components: dict[str, Components] = {}
        self.layers: dict[str, SpectralLayer] = {}  # by the names of modules; one layer holds several experts
        self._moved: set[str] = set()
        self._undo: list[Callable[[], None]] = []
        self._attach()

    def _attach(self) -> None:
        """Put the adapter into the base model, which is left as it was where that fails."""
        try:
            if self.adapter.config.get("layer_replication"):
                self._undo.append(replicate(self.model, self.adapter.config["layer_replication"]))
            adapter = placed(self.model, self.adapter)
            refuse_tied_output(self.model, adapter)
            lacking = targets_without_factors(self.model, adapter)
            for undo in put_extras(self.model, adapter):
                self._undo.append(undo)
            self._wrap(adapter.modules)
            if lacking:
                raise BaseModelError(
                    f"the config targets {len(lacking)} modules of this base model that the file lacks, "
                    f"such as {lacking[0]!r}",
                    "name the base model this adapter was trained on, or use an intact copy of the adapter",
                )
        except BaseException:
            self.close()
            raise

    def _wrap(self, modules: Mapping[str, Factors]) -> None:
        biases, magnitudes = update_biases(self.adapter), output_magnitudes(self.adapter)
        by_module: dict[str, list[str]] = defaultdict(list)
        for name, factors in modules.items():
            by_module[factors.site.module].append(name)
        fallback = getattr(self.model, "dtype", torch.float32)
        for path, names in by_module.items():
            layer = submodule(self.model, path)
            sites = [modules[name].site for name in names]
            bias = biases.get(self.adapter.modules[names[0]].site.module)
            spectra = [self.spectra[name] for name in names]
            magnitude = magnitudes.get(self.adapter.modules[names[0]].site.module)
            wrapped, components = wrap(layer, sites, spectra, fallback, bias=bias, magnitude=magnitude)
            self._undo.append(partial(replace_module, self.model, path, layer))
            for own in set(wrapped.modules()).difference(layer.modules()):
                own.training = self.model.training
            replace_module(self.model, path, wrapped)
            self._components.update(zip(names, components, strict=True))
            self.layers.update(dict.fromkeys(names, wrapped))

    def __enter__(self) -> "LiveModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def model(self) -> Any:
        return self.base.model

    @property
    def device(self) -> torch.device:
        """Where inputs go and logits come from."""
        return execution_device(self.base.model)

    def tokenizer_for(self, encoding: Encoding) -> Any:
        """The tokenizer that an encoding asks for; see `tokenizers.tokenizer_of`, which raises `AdapterError`."""
        return self.tokenizer_named(encoding.tokenizer)

    def tokenizer_named(self, name: str) -> Any:
        """The `base` model's tokenizer, or that of the `adapter` as far as it has one; raises `AdapterError`."""
        return self.base.tokenizer if name == "base" else self.tokenizer

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the adapter's folder where it has one, otherwise the base model's; raises `AdapterError`."""
        return self._own_tokenizer if self.adapter.tokenizer.given else self.base.tokenizer

    @cached_property
    def _own_tokenizer(self) -> Any:
        config = self.base.model.config
        return tokenizer_of(
            self.adapter, Encoding(), self.base.tokenizer, vocabulary=self.vocabulary, config=config
        )

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model's input embedding has a row for; None where the model does not say."""
        return next(iter(lengths(self.base.model)), None)

    def encode(
        self,
        rows: Sequence[Row],
        encoding: Encoding,
        *,
        left_out: Mapping[str, int] | None = None,
        spare: Iterable[Row] = (),
    ) -> Calibration:
        """Rows as token ids for this model; see `data.encode`, which raises `DataError`."""
        tokenizer = self.tokenizer_for(encoding)
        found = encode(
            rows,
            tokenizer,
            encoding,
            left_out=left_out,
            spare=spare,
            positions=self.positions,
            task=self.base.task,
            labels=self.base.labels,
        )
        refuse_unknown_token(found, tokenizer, self.vocabulary)
        return found

    @cached_property
    def positions(self) -> int | None:
        """The longest row that the model can read, in tokens; None where nothing limits it."""
        return positions_of(self.base.model)

    @cached_property
    def _ways(self) -> "Ways":
        from surgery.model.probe import Ways

        return Ways(self)

    @property
    def layout(self) -> Layout:
        """How rows stand in passes over whole rows: the fastest layout that agrees with one row alone.

        Found once, when it is first asked for, from passes over a few short rows; see `Ways`. The live model holds
        the adapter's own σ then, and no perturbation.
        """
        return self._ways.layout

    @property
    def way(self) -> Way:
        """How answers are decoded: the fastest way that agrees with one row alone, found as `layout` is."""
        return self._ways.way

    @property
    def scoring_notes(self) -> tuple[str, ...]:
        """What a reader has to know of how whole rows are read; nothing where it is the fastest way."""
        told = scoring_note(type(self.model).__name__, self.layout, self.base.task)
        return (*base_notes(self.base, self.adapter), *filter(None, [told]))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know of how rows are read and answers decoded."""
        if self.base.task in CLASSIFIERS:
            return self.scoring_notes
        note = decoding_note(type(self.model).__name__, self.way, self.base.task)
        return (*self.scoring_notes, *filter(None, [note]))

    def check_positions(self, longest: int) -> None:
        """Raise `DataError` for rows that are longer, in tokens, than the model can read."""
        if self.positions and longest > self.positions:
            raise DataError(f"a request is {longest} tokens, more than {self.positions}", "shorten it")

    def check_tokens(self, rows: Iterable[Sequence[int]]) -> None:
        """Raise `DataError` for rows with an id that the model, or the base alone, has no embedding for."""
        refuse_unknown_ids(rows, self.vocabulary, attached=bool(self._components))

    def set_sigma(
        self, values: Mapping[str, Float64[ndarray, "*row rank"] | Float[Tensor, "*row rank"]] | None = None
    ) -> None:
        """Put new σ into the named modules and the adapter's own σ into all others."""
        values = values or {}
        for name, sigma in values.items():
            if name not in self._components or np.shape(sigma)[-1:] != self.spectra[name].sigma.shape:
                raise PolicyError(
                    f"σ of shape {np.shape(sigma)} for module {name!r} does not fit this adapter",
                    "use an edit of the adapter that is attached",
                )
        for name in self._moved.difference(values):
            self._put(name, self.spectra[name].sigma)
        for name, sigma in values.items():
            self._put(name, sigma)
        self._moved = set(values)

    def _put(self, name: str, sigma: Float64[ndarray, "*row rank"] | Float[Tensor, "*row rank"]) -> None:
        parts = self._components[name]
        parts.sigma = (sigma if isinstance(sigma, Tensor) else torch.as_tensor(np.asarray(sigma))).to(parts.sigma)

    def perturb(self, names: Iterable[str], rows: int) -> dict[str, Float[Tensor, "row rank"]]:
        """Add a fresh zero perturbation that requires grad to the named modules, and return them."""
        return {name: self._components[name].perturb(rows) for name in names}

    def spread(self, names: Iterable[str]) -> dict[str, list[Float[Tensor, "*place rank"]]]:
        """Let each named module add a zero perturbation of every place in each run to the list of its own returned here.

        The gradient of one is uᵀδ·vᵀx place by place, δ the gradient at the module's output, and with DoRA its norm's.
        """
        return {name: self._components[name].perturb_places() for name in names}

    def watch(self, watches: Mapping[str, Watch]) -> None:
        """Show each watch x V and x of its module whenever that runs; all others are watched no longer.

        Updates on raw parameters, as of stacked experts, have no x V.
        """
        for name, parts in self._components.items():
            parts.watch = watches.get(name)

    def name_of(self, layer: Any) -> str | None:
        """The name of the module that a layer of the running model is; None for one without an update."""
        return next((name for name, own in self.layers.items() if own is layer), None)

    @contextmanager
    def detached(self) -> Iterator[LoadedBase]:
        """The base model without this adapter, for another one meanwhile; the adapter comes back with its own σ."""
        self.close()
        try:
            yield self.base
        finally:
            self._attach()

    @contextmanager
    def alone(self) -> Iterator["LiveModel"]:
        """This live model without its adapter: the plain base, read as with it; it has no σ to set meanwhile."""
        _ = self.notes  # how rows are read is found with the adapter
        with self.detached():
            yield self

    def unperturb(self) -> None:
        for parts in self._components.values():
            parts.unperturb()

    def close(self) -> None:
        """Put everything back; the base model is as it was before."""
        while self._undo:
            self._undo.pop()()
        self._components, self.layers, self._moved = {}, {}, set()
