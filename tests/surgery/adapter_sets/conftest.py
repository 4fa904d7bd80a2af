"""A set whose members agree in known ways: two alike but for their last component, a stranger, one with fewer modules, a zero."""

import numpy as np
import pytest

from surgery.adapter_sets import compare_members, open_set
from tests.helpers.adapter_folders import WIDE, factors, write_adapter_at


@pytest.fixture(scope="session")
def related(tmp_path_factory):
    root = tmp_path_factory.mktemp("related")
    first = factors(4, seed=1)
    write_adapter_at(root / "a", first)
    near = {
        key: np.concatenate([each[:3], other[3:]]) if ".lora_A." in key else each
        for (key, each), other in zip(first.items(), factors(4, seed=9).values(), strict=True)
    }
    write_adapter_at(root / "b", near)
    write_adapter_at(root / "c", factors(3, seed=5))
    some = {name: WIDE[name] for name in ("self_attn.q_proj", "mlp.down_proj")}
    write_adapter_at(root / "d", factors(2, seed=6, shapes=some))
    write_adapter_at(root / "zero", {key: 0 * each for key, each in first.items()})
    return open_set(root)


@pytest.fixture(scope="session")
def matrix(related):
    return compare_members(related, [member.name for member in related.opened])
