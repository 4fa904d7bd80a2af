"""AdaLoRA with fewer triplets: PEFT loads what is left, down to none, and gives the truncated update."""

import json

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.edits import EditPlan
from surgery.export import Smaller, export
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.helpers.adalora import save_adalora
from tests.helpers.models import characters, relative, tiny_llama, with_peft
from tests.helpers.rounding import logits_apart


@pytest.mark.parametrize("policy", [Rank(keep=1), Rank(cut="para", share=0.7), Rank(keep=0)], ids=str)
def test_peft_gives_the_truncated_update_of_fewer_triplets(policy, tmp_path):
    adapter = open_adapter(save_adalora(tiny_llama(), tmp_path / "ada", ["q_proj", "v_proj"]))
    spectra = decompose(adapter)
    edit = EditPlan(policy, "all").apply(spectra, None)
    same = export(adapter, spectra, edit, tmp_path / "same")
    small = export(adapter, spectra, edit, tmp_path / "small", form=Smaller())
    assert small.layout is not None
    kept = {name: int((module.sigma_after > 0).sum()) for name, module in edit.modules.items()}
    if not any(kept.values()):
        kept[next(iter(kept))] = 1  # a triplet of zeros, without which nothing opens
    assert {name: small.layout.ranks[name] for name in kept} == kept
    ids = torch.tensor([characters("3+4=")])
    with torch.no_grad():
        found, expected = (with_peft(tiny_llama(), each.folder)(input_ids=ids).logits for each in (small, same))
    assert relative(found, expected) < logits_apart(tiny_llama())
    config = json.loads((small.folder / "adapter_config.json").read_text())
    ranks = [kept.get(name, factors.rank) for name, factors in adapter.modules.items()]
    assert sorted(map(sum, config["rank_pattern"].values())) == sorted([*ranks, *(0 for _ in adapter.pruned)])
    for name, spectrum in decompose(open_adapter(small.folder)).items():
        whole = edit.modules[name].sigma_after if name in edit.modules else spectra[name].sigma
        left = np.sort(whole[whole > 0])[::-1]
        np.testing.assert_allclose(spectrum.sigma[: left.size], left, rtol=1e-5)
