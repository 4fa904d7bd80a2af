"""Facts of an adapter against the dense update of each module."""

import numpy as np

from surgery.adapter import open_adapter
from surgery.spectra import decompose, inspection, module_facts, scope_scalars


def test_facts_of_a_module_are_those_of_its_dense_update(small_adapter):
    adapter = open_adapter(small_adapter)
    facts = module_facts(adapter, decompose(adapter))
    assert [fact.name for fact in facts] == list(adapter.modules)
    for fact in facts:
        factors = adapter.modules[fact.name]
        dense = factors.scaling * factors.B.astype(np.float64) @ factors.A.astype(np.float64)
        sigma = np.linalg.svd(dense, compute_uv=False)[:4]
        share = np.cumsum(sigma**2) / np.sum(sigma**2)
        assert (fact.shape, fact.rank, fact.scaling, fact.degenerate) == (dense.shape, 4, 2.0, 0)
        np.testing.assert_allclose([fact.norm, fact.top], [np.linalg.norm(dense), sigma[0]], rtol=1e-9)
        np.testing.assert_allclose(fact.stable_rank, np.sum(sigma**2) / sigma[0] ** 2, rtol=1e-9)
        assert fact.k90 == 1 + int(np.argmax(share >= 0.9))


def test_the_whole_counts_every_module_once(small_adapter):
    adapter = open_adapter(small_adapter)
    spectra = decompose(adapter)
    told = inspection(adapter, spectra)
    assert (told["modules"], told["layers"], told["ranks"], told["dtypes"]) == (6, 2, [4], ["float32"])
    assert told["families"] == {"q_proj": 2, "o_proj": 2, "down_proj": 2}
    assert told["parameters"] == 2 * 4 * ((12 + 10) + (10 + 12) + (10 + 20))
    np.testing.assert_allclose(told["norm"], np.sqrt(sum(np.sum(s.sigma**2) for s in spectra.values())))
    counts = scope_scalars(spectra)
    assert (counts["residual"], counts["all"]) == (4 * 4, 6 * 4)
