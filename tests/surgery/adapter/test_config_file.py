"""The config's file: refused where it is no JSON object, exported in the encoding that PEFT reads."""

import json

import peft
import pytest

from surgery.adapter import open_adapter, refuse_changed
from surgery.edits import make_edit
from surgery.export import edit_between, export
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.conftest import PEFT_CONFIG
from tests.surgery.adapter.conftest import refusal


@pytest.mark.parametrize(
    "raw",
    [b"", b"not json", b"[]", b"null", b'"LORA"', b"\xff\xfe{}", b'{"r": ' + b"9" * 5000 + b"}", b"[" * 100_000],
    ids=["empty", "text", "list", "null", "string", "utf16", "endless-number", "endless-nesting"],
)
def test_a_config_that_is_no_json_object_is_refused(raw, one, write_adapter):
    assert "adapter_config.json" in refusal(write_adapter(one, raw_config=raw))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_config_in_another_encoding_is_exported_in_the_one_that_peft_reads(
    encoding, one, write_adapter, tmp_path
):
    settings = {**PEFT_CONFIG, "target_modules": ["o_proj"], "base_model_name_or_path": "näme/größe"}
    text = json.dumps(settings, ensure_ascii=False)
    folder = write_adapter(one, raw_config=text.encode(encoding))
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    export(adapter, spectra, make_edit(spectra, Rank(keep=1), scope="all"), tmp_path / "out")
    assert peft.LoraConfig.from_pretrained(str(tmp_path / "out")).base_model_name_or_path == "näme/größe"
    assert (tmp_path / "out" / "adapter_config.json").read_text(encoding="utf-8") == text
    assert any("UTF-8" in change for change in adapter.changes)
    # the export is the same adapter edited, and the files are still those that were opened
    assert edit_between(adapter, spectra, open_adapter(tmp_path / "out")) is not None
    refuse_changed(adapter)
