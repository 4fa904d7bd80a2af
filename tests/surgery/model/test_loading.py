"""What loaders of bases share."""

import os

from tqdm import tqdm

from surgery.model import loading


def test_the_sample_of_a_file_sees_its_name_its_size_and_both_ends(tmp_path):
    file = tmp_path / "base.gguf"
    content = bytearray(os.urandom(3 << 20))
    file.write_bytes(content)
    sample = loading.file_sample(file)
    assert sample[:2] == ["base.gguf", str(3 << 20)]
    assert len(sample) == 18
    assert (sample[2], sample[-1]) == (bytes(content[: 1 << 20]), bytes(content[2 << 20 :]))
    for at in (0, 1_500_000, len(content) - 1):
        content[at] ^= 1
        file.write_bytes(content)
        assert loading.file_sample(file) != sample
        content[at] ^= 1


def test_bars_are_silent_inside_and_as_before_afterwards(capfd):
    with loading.quiet_loading():
        list(tqdm(range(3)))
    assert capfd.readouterr().err == ""
    list(tqdm(range(3), desc="loud"))
    assert "loud" in capfd.readouterr().err
