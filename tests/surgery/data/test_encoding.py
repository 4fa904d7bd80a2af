"""Settings of an encoding, as they are kept and as earlier versions understood theirs."""

from hypothesis import given
from hypothesis import strategies as st

from surgery.data import APART, TOGETHER, Encoding, encoding_record, parse_encoding


@given(st.builds(Encoding, st.sampled_from(["chat", "plain"]), st.booleans(), st.booleans(), st.integers(1, 99),
                 st.sampled_from([TOGETHER, APART]), st.sampled_from(["", "be brief"])))  # fmt: skip
def test_an_encoding_survives_its_record_and_the_earlier_rule_is_written_as_it_was(encoding):
    record = encoding_record(encoding)
    assert parse_encoding(record) == encoding
    if encoding.tokenised == APART and not encoding.system and encoding.tokenizer == "base":
        assert list(record) == ["template", "separator", "eos", "max_length"]
