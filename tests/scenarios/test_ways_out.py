"""Every refusal names a way out, and the way arrives: each entry makes an input, is refused, does what the remedy says.

An entry yields the call that is refused, is sent the refusal, follows its words and yields the call that arrives.
"""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file, save_file

from surgery import Adapter, decompose, export, make_edit, make_policy, open_adapter
from surgery.adapter import unpack_adapter
from surgery.cli import main
from surgery.errors import ChoiceError, SurgeryError
from surgery.model import load_base
from tests.helpers.models import save_adapter, save_gguf, tiny_llama, with_peft
from tests.helpers.workplace import Workplace

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"


@dataclass(frozen=True)
class Scene:
    """A folder of its own, and a base, an adapter and rows that are not to be changed."""

    folder: Path
    place: Workplace
    printed: pytest.CaptureFixture[str]

    def adapter(self, at: str = "adapter") -> Path:
        """A copy of the adapter that may be changed."""
        return shutil.copytree(self.place.adapter, self.folder / at)

    def command(self, *words: str) -> Callable[[], bool]:
        """A command; what it refuses in a line is raised with the halves of that line."""

        def run() -> bool:
            self.printed.readouterr()
            if main(words) == 0:
                return True
            line = self.printed.readouterr().err.strip().splitlines()[-1]
            raise SurgeryError(*line.removeprefix("surgery: ").split(" → "))

        return run

    def edit(self, *words: str, policy: str = "random_index", out: str = "out") -> Callable[[], bool]:
        """The command that edits the adapter, with further words."""
        return self.command(
            "edit", self.place.adapter, "--policy", policy, "--out", str(self.folder / out), *words
        )

    def knows(self, command: str) -> bool:
        """Whether the command line has this command."""
        try:
            return main([command, "--help"]) == 0
        except SystemExit:
            return True


Steps = Generator[Callable[[], object], SurgeryError, None]
WAYS: dict[str, tuple[str, Callable[[Scene], Steps]]] = {}


def way(remedy: str) -> Callable[[Callable[[Scene], Steps]], None]:
    """Put an entry into the table; its refusal has to say `remedy`."""

    def kept(steps: Callable[[Scene], Steps]) -> None:
        WAYS[steps.__name__] = remedy, steps

    return kept


@pytest.fixture
def scene(place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Scene:
    (tmp_path / "scene").mkdir()
    return Scene(tmp_path / "scene", place, capsys)


def opened(source: Any) -> Callable[[], Adapter]:
    return lambda: open_adapter(source)


def named_in(error: SurgeryError, after: str) -> str:
    """What a remedy names behind the words `after`."""
    return error.remedy.partition(after)[2].strip()


def changed(folder: Path, **settings: Any) -> Path:
    """An adapter with other settings in its config."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | settings))
    return folder


@way("git lfs pull")
def weights_and_config_that_were_not_fetched(scene: Scene) -> Steps:
    folder, stored = scene.adapter(), {}
    for name in (WEIGHTS, CONFIG):
        content = (folder / name).read_bytes()
        stored[sha256(content).hexdigest()] = content
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(content).hexdigest()}\nsize {len(content)}\n"
        (folder / name).write_text(pointer)
    yield opened(folder)
    for name in (WEIGHTS, CONFIG):  # what the pull does with every pointer
        (folder / name).write_bytes(stored[(folder / name).read_text().split("sha256:")[1].split()[0]])
    yield opened(folder)


@way("name one of them, such as ")
def the_parent_of_checkpoints(scene: Scene) -> Steps:
    for step in (20, 100):
        scene.adapter(f"runs/checkpoint-{step}")
    error = yield opened(scene.folder / "runs")
    assert isinstance(error, ChoiceError)
    assert named_in(error, "such as") == str(scene.folder / "runs" / "checkpoint-100") == error.choices[-1]
    yield opened(named_in(error, "such as"))


@way("name it: ")
def a_folder_with_the_adapter_in_a_subfolder(scene: Scene) -> Steps:
    scene.adapter("model/lora")
    error = yield opened(str(scene.folder / "model") + "/")
    yield opened(named_in(error, "name it:"))


@way("name one of them, such as ")
def a_checkpoint_that_is_not_there(scene: Scene) -> Steps:
    for step in (20, 100):
        scene.adapter(f"runs/checkpoint-{step}")
    error = yield opened(scene.folder / "runs" / "checkpoint-1000")
    yield opened(named_in(error, "such as"))


@way("surgery convert ")
def an_mlx_folder(scene: Scene) -> Steps:
    folder = scene.folder / "an mlx folder"
    folder.mkdir()
    told = {"fine_tune_type": "lora", "model": "x", "num_layers": 1, "lora_parameters": {"rank": 2, "scale": 4.0}}
    (folder / CONFIG).write_text(json.dumps(told))
    name = "model.layers.0.self_attn.q_proj.lora_"
    save_file(
        {f"{name}a": np.ones((32, 2), np.float32), f"{name}b": np.ones((2, 32), np.float32)},
        folder / "adapters.safetensors",
    )
    error = yield opened(folder)
    words = shlex.split(named_in(error, "surgery"))
    if not scene.knows(words[0]):
        pytest.skip("this version has no command that converts")
    assert scene.command(*words[:-1], str(scene.folder / words[-1]))()
    yield opened(scene.folder / words[-1])


@way("the folder of the adapter that was merged")
def a_merged_model(scene: Scene) -> Steps:
    adapter = scene.adapter()
    with_peft(tiny_llama(), adapter).merge_and_unload().save_pretrained(scene.folder / "merged")
    yield opened(scene.folder / "merged")
    yield opened(adapter)


@way("--base ")
def a_gguf_model(scene: Scene) -> Steps:
    file = save_gguf(tiny_llama(), scene.folder / "tiny.gguf")
    error = yield opened(file)
    (base,) = shlex.split(named_in(error, "--base"))
    yield lambda: load_base(base) and open_adapter(scene.place.adapter)


@way("the PEFT folder that convert_lora_to_gguf.py made it from")
def a_gguf_lora(scene: Scene) -> Steps:
    writer = gguf.GGUFWriter(scene.folder / "lora.gguf", "llama")
    writer.add_type("adapter")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for write in ("write_header_to_file", "write_kv_data_to_file", "close"):
        getattr(writer, write)()
    yield opened(scene.folder / "lora.gguf")
    yield opened(scene.place.adapter)


class Attention(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = torch.nn.Linear(6, 5, bias=False)


def image_lora(scene: Scene, names: dict[str, str]) -> Steps:
    """A LoRA of an image model's one layer under a format's `names` of down, up and alpha."""
    rng = np.random.default_rng(0)
    down, up = rng.normal(size=(2, 6)).astype(np.float32), rng.normal(size=(5, 2)).astype(np.float32)
    tensors = {names["down"]: down, names["up"]: up}
    tensors |= {names["alpha"]: np.array(4, np.float32)} if "alpha" in names else {}
    save_file(tensors, scene.folder / "style.safetensors")
    yield opened(scene.folder / "style.safetensors")
    # what load_lora_weights of diffusers does: peft's layers in its own unet, filled from the file
    unet = torch.nn.Module()
    unet.attn1 = Attention()
    settings = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["to_q"])
    peft.inject_adapter_in_model(settings, unet, "default_0")
    layer = unet.attn1.to_q
    layer.lora_A["default_0"].weight.data = torch.from_numpy(down)
    layer.lora_B["default_0"].weight.data = torch.from_numpy(up)
    # and what the remedy says to do with it
    state = peft.get_peft_model_state_dict(unet, adapter_name="default_0")
    folder = scene.folder / "saved"
    unet.peft_config["default_0"].save_pretrained(folder)
    save_file({f"base_model.model.{key}": value.numpy() for key, value in state.items()}, folder / WEIGHTS)
    (factors,) = open_adapter(folder).modules.values()
    assert np.allclose(factors.scaling * factors.B @ factors.A, 2 * up @ down)
    yield opened(folder)


@way("get_peft_model_state_dict")
def a_kohya_lora(scene: Scene) -> Steps:
    name = "lora_unet_attn1_to_q"
    yield from image_lora(scene, {"down": f"{name}.lora_down.weight", "up": f"{name}.lora_up.weight", "alpha": f"{name}.alpha"})  # fmt: skip


@way("get_peft_model_state_dict")
def a_diffusers_lora(scene: Scene) -> Steps:
    name = "unet.attn1.to_q.lora"
    yield from image_lora(scene, {"down": f"{name}.down.weight", "up": f"{name}.up.weight"})


@way("such as epoch_0")
def a_file_in_torchtunes_own_format(scene: Scene) -> Steps:
    epoch = scene.adapter("output/epoch_0")  # with its HF checkpointer both forms lie there
    torch.save({"layers.0.attn.q_proj.lora_a.weight": torch.ones(2, 2)}, epoch / "adapter_0.pt")
    error = yield opened(epoch / "adapter_0.pt")
    yield opened(scene.folder / "output" / named_in(error, "such as"))


@way("python -m zipfile -e ")
def a_zip_that_is_named_as_a_file(scene: Scene) -> Steps:
    shutil.make_archive(str(scene.folder / "my runs"), "zip", scene.adapter("packed/runs").parent)
    error = yield opened(scene.folder / "my runs.zip")
    words = shlex.split(re.search(r"\((python .*?)\)", error.remedy)[1])
    subprocess.run([sys.executable, *words[1:-1], str(scene.folder / words[-1])], check=True)
    yield opened(scene.folder / words[-1] / "runs")


@way("choose one of them")
def a_zip_of_a_folder_of_folders(scene: Scene) -> Steps:
    for step in (20, 100):
        scene.adapter(f"runs/checkpoint-{step}")
    packed = Path(shutil.make_archive(str(scene.folder / "packed"), "zip", scene.folder, "runs"))
    error = yield lambda: unpack_adapter(packed, scene.folder / "into")
    yield lambda: open_adapter(unpack_adapter(packed, scene.folder / "into", error.choices[0]))


@way("make a zip of the folder that peft's save_pretrained wrote")
def a_zip_with_an_archive_in_it(scene: Scene) -> Steps:
    packed = scene.folder / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("adapter.tar", b"x")
    yield lambda: unpack_adapter(packed, scene.folder / "into")
    packed = Path(shutil.make_archive(str(scene.folder / "again"), "zip", scene.place.adapter))
    yield lambda: open_adapter(unpack_adapter(packed, scene.folder / "into"))


@way("download the file that the page is about")
def a_page_of_the_hub_saved_as_the_weights(scene: Scene) -> Steps:
    folder = scene.adapter()
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(b"<!doctype html><html></html>")
    yield opened(folder)
    (folder / WEIGHTS).write_bytes(content)
    yield opened(folder)


@way("rename it to adapter_model.safetensors")
def weights_under_another_name(scene: Scene) -> Steps:
    folder = scene.adapter()
    (folder / WEIGHTS).rename(folder / "lora.safetensors")
    error = yield opened(folder)
    (folder / "lora.safetensors").rename(folder / named_in(error, "rename it to"))
    yield opened(folder)


@way("or write one with the alpha that it had: peft.LoraConfig(")
def weights_without_a_config(scene: Scene) -> Steps:
    folder = scene.adapter()
    before = open_adapter(folder)
    (folder / CONFIG).unlink()
    (folder / WEIGHTS).rename(folder / "lora.safetensors")
    error = yield opened(folder)
    call = re.search(r"peft\.LoraConfig\((.*)\)\.save_pretrained\(FOLDER\)", error.remedy)[1]
    alpha = str(before.config["lora_alpha"])
    told = ast.parse(f"f({call})".replace("ALPHA", alpha), mode="eval").body
    settings = {each.arg: ast.literal_eval(each.value) for each in told.keywords}
    peft.LoraConfig(**settings).save_pretrained(folder)
    (folder / "lora.safetensors").rename(folder / named_in(error, "rename lora.safetensors to"))
    after = open_adapter(folder)
    assert {n: (f.scaling, f.rank) for n, f in after.modules.items()} == {
        n: (f.scaling, f.rank) for n, f in before.modules.items()
    }
    yield opened(folder)


@way("put the weights that were saved with its adapter_config.json there")
def a_config_without_weights(scene: Scene) -> Steps:
    folder = scene.adapter()
    (folder / WEIGHTS).unlink()
    yield opened(folder)
    shutil.copy(Path(scene.place.adapter) / WEIGHTS, folder)
    yield opened(folder)


@way("into a folder of their own")
def a_pickle_beside_safetensors(scene: Scene) -> Steps:
    folder = scene.adapter()
    torch.save({k: torch.from_numpy(v) for k, v in load_file(folder / WEIGHTS).items()}, folder / PICKLED)
    error = yield opened(folder / PICKLED)
    assert open_adapter(ast.literal_eval(re.search(r"name the folder ('.*?'),", error.remedy)[1]))
    (scene.folder / "own").mkdir()
    for name in (PICKLED, CONFIG):
        shutil.copy(folder / name, scene.folder / "own")
    yield opened(scene.folder / "own" / PICKLED)


@way("restore the file peft wrote")
def a_config_without_a_type(scene: Scene) -> Steps:
    folder = changed(scene.adapter(), peft_type=None)
    yield opened(folder)
    shutil.copy(Path(scene.place.adapter) / CONFIG, folder)
    yield opened(folder)


@way("restore the adapter_config.json that belongs to these weights")
def a_config_of_other_weights(scene: Scene) -> Steps:
    folder = changed(scene.adapter(), r=2)
    yield opened(folder)
    shutil.copy(Path(scene.place.adapter) / CONFIG, folder)
    yield opened(folder)


@way("save the adapter again with peft")
def a_factor_without_its_other_half(scene: Scene) -> Steps:
    folder = scene.adapter()
    tensors = load_file(folder / WEIGHTS)
    del tensors[next(key for key in tensors if ".lora_B." in key)]
    save_file(tensors, folder / WEIGHTS)
    yield opened(folder)
    with_peft(tiny_llama(), folder).save_pretrained(scene.folder / "again")
    yield opened(scene.folder / "again")


@way("save the adapter again as safetensors")
def a_pickle_of_more_than_named_tensors(scene: Scene) -> Steps:
    folder = scene.adapter()
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save({"state": {k: torch.from_numpy(v) for k, v in tensors.items()}, "epoch": 3}, folder / PICKLED)
    yield opened(folder)
    save_file(tensors, folder / WEIGHTS)
    yield opened(folder)


@way("simplify the pattern")
def a_pattern_that_is_no_expression(scene: Scene) -> Steps:
    folder = changed(scene.adapter(), target_modules="(.*_proj")
    yield opened(folder)
    yield opened(changed(folder, target_modules=r".*_proj"))


@way("train it again as a plain LoRA")
def a_variant_that_nothing_converts(scene: Scene) -> Steps:
    yield opened(changed(scene.adapter(), megatron_config={"tensor_model_parallel_size": 2}))
    yield opened(save_adapter(tiny_llama(), scene.folder / "plain"))


@way("target only one of the two")
def tied_tables_that_share_their_factors(scene: Scene) -> Steps:
    model = tiny_llama(tie_word_embeddings=True)
    folder = save_adapter(
        model, scene.folder / "tied", targets=["embed_tokens", "lm_head"], ensure_weight_tying=True
    )
    yield opened(folder)
    yield opened(save_adapter(model, scene.folder / "one", targets=["embed_tokens"]))


@way("open it again")
def files_that_have_changed_since_they_were_opened(scene: Scene) -> Steps:
    folder = scene.adapter()
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, make_policy("random_index"))
    changed(folder, lora_alpha=3)
    yield lambda: export(adapter, spectra, edit, scene.folder / "out")
    again = open_adapter(folder)
    spectra_again = decompose(again)
    yield lambda: export(again, spectra_again, make_edit(spectra_again, make_policy("random_index")), scene.folder / "out")  # fmt: skip


@way("choose a new folder")
def an_export_onto_what_is_there(scene: Scene) -> Steps:
    (scene.folder / "taken").mkdir()
    (scene.folder / "taken" / "mine").touch()
    yield scene.edit(out="taken")
    yield scene.edit(out="new")


@way("choose another folder")
def an_export_that_cannot_be_written(scene: Scene) -> Steps:
    (scene.folder / "file").touch()
    yield scene.edit(out="file/below")
    yield scene.edit(out="another")


@way("decompose this adapter")
def an_export_with_the_spectra_of_another_adapter(scene: Scene) -> Steps:
    adapter = open_adapter(scene.place.adapter)
    other = decompose(open_adapter(save_adapter(tiny_llama(), scene.folder / "other", seed=9)))
    edit = make_edit(other, make_policy("random_index"))
    yield lambda: export(adapter, other, edit, scene.folder / "out")
    spectra = decompose(adapter)
    yield lambda: export(adapter, spectra, make_edit(spectra, make_policy("random_index")), scene.folder / "out")


@way("give --sensitivities FILE, made by: surgery calibrate ")
def a_policy_that_works_from_sensitivities(scene: Scene) -> Steps:
    error = yield scene.edit(policy="grad_direction")
    given = {
        "BASE": scene.place.base.location,
        "ROWS": scene.place.calibration.data,
        "FILE": str(scene.folder / "g"),
    }
    made = [given.get(word, word) for word in shlex.split(named_in(error, "made by: surgery"))]
    assert scene.command(*made, "--examples", "2", "--template", "plain")()
    yield scene.edit("--sensitivities", given["FILE"], policy="grad_direction")


@way("or a part of a module's path")
def a_scope_that_matches_nothing(scene: Scene) -> Steps:
    yield scene.edit("--scope", "encoder")
    assert scene.edit("--scope", "all", out="all")()
    yield scene.edit("--scope", "layers.1")


@way("or a simpler one")
def a_scope_that_is_no_expression(scene: Scene) -> Steps:
    error = yield scene.edit("--scope", "(")
    yield scene.edit("--scope", re.search(r"use (\w+),", error.remedy)[1])


@way("use one of ")
def a_policy_that_is_not_there(scene: Scene) -> Steps:
    error = yield scene.edit(policy="magic")
    names = named_in(error, "use one of").split(", ")
    yield scene.edit(policy=next(name for name in names if name.startswith("random")))


@way("use one of ")
def an_energy_rule_that_is_not_there(scene: Scene) -> Steps:
    error = yield scene.edit("--energy", "l3")
    yield scene.edit("--energy", named_in(error, "use one of").split(", ")[-1])


@way("its knobs are ")
def a_knob_of_another_policy(scene: Scene) -> Steps:
    error = yield scene.edit("--gamma", "2", policy="rank")
    assert "keep" in named_in(error, "its knobs are").split(", ")
    yield scene.edit("--keep", "2", policy="rank")


@way("python -m surgery edit --help")
def an_option_that_is_not_there(scene: Scene) -> Steps:
    error = yield scene.edit("--might", "2")
    with pytest.raises(SystemExit):
        main(named_in(error, "see: python -m surgery").split())
    assert "--scope" in scene.printed.readouterr().out
    yield scene.edit("--scope", "all")


@way("give --out, or --preview to see tokens")
def a_calibration_without_a_file(scene: Scene) -> Steps:
    words = ("calibrate", scene.place.adapter, "--base", scene.place.base.location)
    rows = ("--data", scene.place.calibration.data, "--examples", "2")
    yield scene.command(*words, *rows)
    assert scene.command(*words, *rows, "--preview")()
    yield scene.command(*words, *rows, "--out", str(scene.folder / "g"))


@way("give --base")
def a_calibration_without_a_base(scene: Scene) -> Steps:
    words = (
        "calibrate",
        scene.place.adapter,
        "--data",
        scene.place.calibration.data,
        "--preview",
        "--examples",
        "2",
    )
    yield scene.command(*words)
    yield scene.command(*words, "--base", scene.place.base.location)


@way("give --data F.jsonl")
def a_calibration_without_rows(scene: Scene) -> Steps:
    words = ("calibrate", scene.place.adapter, "--base", scene.place.base.location, "--preview", "--examples", "2")
    yield scene.command(*words)
    yield scene.command(*words, "--data", scene.place.calibration.data)


@way("name one of the two")
def an_inspection_of_nothing(scene: Scene) -> Steps:
    yield scene.command("inspect")
    assert scene.command("inspect", "--many", str(Path(scene.place.adapter).parent))()
    yield scene.command("inspect", scene.place.adapter)


@way("give its own, made by: surgery calibrate ")
def sensitivities_of_another_adapter(scene: Scene) -> Steps:
    place, other = scene.place, str(save_adapter(tiny_llama(), scene.folder / "other", seed=9))
    rows = (
        "--base",
        place.base.location,
        "--data",
        place.calibration.data,
        "--examples",
        "2",
        "--template",
        "plain",
    )
    assert scene.command("calibrate", other, *rows, "--out", str(scene.folder / "theirs"))()
    error = yield scene.edit("--sensitivities", str(scene.folder / "theirs"), policy="grad_direction")
    asked = shlex.split(named_in(error, "made by: surgery"))
    assert asked[:2] == ["calibrate", place.adapter]
    assert scene.command(*asked[:2], *rows, "--out", str(scene.folder / "own"))()
    yield scene.edit("--sensitivities", str(scene.folder / "own"), policy="grad_direction")


@way("use a number from ")
def a_knob_out_of_its_range(scene: Scene) -> Steps:
    error = yield scene.edit("--amp", "99")
    yield scene.edit("--amp", named_in(error, " to "))


@way("or switch align_mid off")
def gates_out_of_order(scene: Scene) -> Steps:
    numbers = ("gains", "--sigma", "3,2,1", "--sensitivity", "0.1,-0.4,0.2", "--policy", "smooth_abs")
    gates = ("--sup", "1", "--mid", "0.5", "--amp", "2")
    yield scene.command(*numbers, *gates)
    assert scene.command(*numbers, "--sup", "0.5", "--mid", "1", "--amp", "2")()
    yield scene.command(*numbers, *gates, "--no-align-mid")


@way("give one for each")
def fewer_sensitivities_than_singular_values(scene: Scene) -> Steps:
    words = ("gains", "--policy", "abs_select", "--sigma", "3,2,1", "--sensitivity")
    yield scene.command(*words, "0.1,0.2")
    yield scene.command(*words, "0.1,0.2,0.3")


@way("list them with: surgery runs")
def a_run_that_is_not_there(scene: Scene) -> Steps:
    error = yield scene.command("runs", "nothing")
    yield scene.command(*named_in(error, "surgery").split())


@way("name one, such as --scope all, or leave out --random")
def random_controls_of_a_folder_that_differs_in_nothing(scene: Scene) -> Steps:
    place = scene.place
    words = ("evaluate", place.adapter, "--variant", str(scene.adapter()), "--limit", "3", "--template", "plain")
    rows = (
        "--base",
        place.base.location,
        "--data",
        place.evaluation.data,
        "--loss-only",
        "--allow-near-duplicates",
    )
    error = yield scene.command(*words, *rows, "--random", "1")
    assert scene.command(*words, *rows)()
    yield scene.command(*words, *rows, "--random", "1", *re.search(r"--scope \w+", error.remedy)[0].split())


@pytest.mark.parametrize("command", ["inspect", "edit", "calibrate", "evaluate"])
def test_every_command_opens_a_weights_path_and_names_what_lies_below(command: str, scene: Scene) -> None:
    out, base = ("--out", str(scene.folder / "out")), ("--base", scene.place.base.location)
    more = {
        "inspect": (),
        "edit": ("--policy", "rank", *out),
        "calibrate": (*base, "--data", scene.place.calibration.data, "--preview", "--examples", "2"),
        "evaluate": (*base, "--data", scene.place.evaluation.data, "--limit", "2", "--loss-only"),
    }[command]
    adapter = scene.adapter("runs/checkpoint-20")
    with pytest.raises(SurgeryError, match="holds no adapter itself, but 1 below it: checkpoint-20"):
        scene.command(command, str(adapter.parent), *more)()
    assert scene.command(command, str(adapter / WEIGHTS), *more)()


@pytest.mark.parametrize("name", WAYS)
def test_the_way_out_of_a_refusal_arrives(name: str, scene: Scene) -> None:
    remedy, entry = WAYS[name]
    steps = entry(scene)
    refused = next(steps)
    with pytest.raises(SurgeryError) as caught:
        refused()
    assert remedy in caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1
    assert steps.send(caught.value)()
