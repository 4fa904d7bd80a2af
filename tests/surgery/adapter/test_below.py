"""Adapters below a folder."""

import time

from surgery.adapter import adapters_below, below


def put(folder, *paths):
    for path in paths:
        (folder / path).mkdir(parents=True)
        (folder / path / "adapter_config.json").write_text("{}")


def test_adapters_are_found_at_every_level_and_checkpoints_stand_in_their_order(tmp_path):
    put(tmp_path, "run/checkpoint-1000", "run/checkpoint-200", "run/final", "other/a/b", "checkpoint-30")
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights alone").mkdir()
    (tmp_path / "weights alone" / "adapter_model.safetensors").write_bytes(b"")
    assert adapters_below(tmp_path) == (
        "checkpoint-30",
        "other/a/b",
        "run/checkpoint-200",
        "run/checkpoint-1000",
        "run/final",
    )


def test_the_folder_itself_links_and_hidden_folders_are_left_out(tmp_path):
    put(tmp_path, "top", "top/.git/x", "elsewhere/x")
    (tmp_path / "top" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "top" / "round").symlink_to(tmp_path / "top")
    assert adapters_below(tmp_path / "top") == ()


def test_a_config_that_is_a_link_counts_as_in_the_hubs_cache(tmp_path):
    put(tmp_path, "blobs")
    (tmp_path / "cache" / "snapshots" / "a1").mkdir(parents=True)
    (tmp_path / "cache" / "snapshots" / "a1" / "adapter_config.json").symlink_to(tmp_path / "blobs")
    assert adapters_below(tmp_path / "cache") == ("snapshots/a1",)


def test_the_search_ends(tmp_path):
    put(tmp_path, "/".join(["deep"] * 6), "/".join(["deeper"] * 7), *(f"{n:03}" for n in range(300)))
    found = adapters_below(tmp_path)
    assert len(found) == 200
    assert not any(path.startswith("deeper") for path in found)
    many = tmp_path / "many"
    many.mkdir()
    for number in range(20_001):
        (many / f"{number}").touch()
    put(many, "last/one")
    began = time.process_time()
    adapters_below(many)
    assert time.process_time() - began < 1


def test_many_names_are_told_by_the_first_few():
    names = below.in_order(f"n-{n}" for n in range(12))
    assert below.listed(names) == "n-0, n-1, n-2, n-3, n-4 and 7 more"
    assert below.listed(names[:5]) == "n-0, n-1, n-2, n-3, n-4"


def test_a_choice_names_what_opens():
    error = below.choice_below("runs/", "wrong", ["a", "b/c"])
    assert error.choices == ("runs/a", "runs/b/c")
    assert str(error) == "wrong: a, b/c → name one of them, such as runs/b/c"
    assert below.choice_below("runs", "wrong", ["a"]).remedy == "name it: runs/a"
