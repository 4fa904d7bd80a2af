"""Attacks on everything that reads a file: `python -m tests.helpers.attacks FOLDER GROUP…` runs some groups.

Each gets a folder of its own, may use half a GiB more than the process has, and is timed without its
preparation. Prints one JSON object: group/name → [what came of it, seconds of the processor].
"""

import gzip
import json
import os
import pickle
import resource
import stat
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from surgery.adapter import open_adapter, unpack_adapter
from surgery.data import RowFields, read_rows, read_source
from surgery.errors import SurgeryError
from surgery.recipes import parse_recipe, read_recipe

MEMORY = 512 << 20
O0 = "base_model.model.model.layers.0.self_attn.o_proj"
PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["o_proj"]}
ATTACKS: dict[str, dict[str, Callable[[Path], Callable[[], object]]]] = {}
Attack = Callable[[Path], Callable[[], object]]


def attack(group: str, name: str) -> Callable[[Attack], Attack]:
    def kept(prepare: Attack) -> Attack:
        ATTACKS.setdefault(group, {})[name] = prepare
        return prepare

    return kept


# ---- adapters ----


def folder_with(folder: Path, config: dict[str, Any] | bytes, weights: bytes | None = None, **more: Any) -> Any:
    """An adapter's folder and the call that opens it; without weights, those of one module."""
    raw = config if isinstance(config, bytes) else json.dumps({**PLAIN, **config, **more}).encode()
    (folder / "adapter_config.json").write_bytes(raw)
    if weights is None:
        modules(folder, [O0])
    else:
        (folder / "adapter_model.safetensors").write_bytes(weights)
    return lambda: open_adapter(folder)


def modules(folder: Path, names: list[str]) -> None:
    one = np.ones((1, 1), np.float32)
    save_file(
        {f"{name}.lora_{side}.weight": one for name in names for side in "AB"},
        folder / "adapter_model.safetensors",
    )


def header(text: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(name: str, shape: list[int], end: int, begin: int = 0) -> str:
    return f'{json.dumps(name)}:{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}'


for kind, raw in {
    "a header longer than the file": header(b"{}", length=2**63),
    "a header of nested lists": header(b'{"a":' + b"[" * 5_000_000),
    "a header of half a million tensors": header(
        b"{" + b",".join([b'"":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'] * 500_000) + b"}"
    ),
    "a tensor named twice": header(
        f"{{{tensor(O0 + '.lora_A.weight', [1, 1], 4)},{tensor(O0 + '.lora_A.weight', [1, 1], 4)}}}".encode(),
        bytes(4),
    ),
    "a shape that overflows": header(f"{{{tensor(O0 + '.lora_A.weight', [2**32, 2**32], 0)}}}".encode()),
    "a shape of nothing times everything": header(
        f"{{{tensor(O0 + '.lora_A.weight', [0, 2**62], 0)},{tensor(O0 + '.lora_B.weight', [2**62, 0], 0)}}}".encode()
    ),
}.items():
    attack("adapter", kind)(lambda folder, raw=raw: folder_with(folder, {}, raw))

for kind, name in {
    "a name that climbs": "../../../../etc/x",
    "a name of markup": "<img src=x onerror=alert(1)>",
    "a name of control characters": "a\x1b[2J\x07",
    "a name that turns the text around": "a\u202egpj",
    "a name with a null byte": "a\0b",
    "a name of ten megabytes": "a." * 5_000_000,
    "a name of a thousand parts": ".".join("a" * 240),
}.items():
    pair = f"{{{tensor(name + '.lora_A.weight', [1, 1], 4)},{tensor(name + '.lora_B.weight', [1, 1], 8, 4)}}}"
    raw = header(pair.encode(), bytes(8))
    attack("adapter", kind)(lambda folder, raw=raw: folder_with(folder, {}, raw))

for kind, changes in {
    "a rank beyond every number": {"r": 10**400},
    "a rank beyond every tensor": {"r": 2**62},
    "a rank that is text": {"r": "1" * 1_000_000},
    "a type of a megabyte": {"peft_type": "<b>" * 1_000_000},
    "a pattern that asks for gigabytes": {"alpha_pattern": {"(?:a{3000}){3000}": 1}},
    "a target nested in itself": {"target_modules": "(" * 100_000 + ")" * 100_000},
    "a target of a megabyte": {"target_modules": "|".join(f"a{i}b?" for i in range(150_000))},
    "nested lists": {"bias": None},
}.items():
    if kind == "nested lists":
        attack("adapter", "a config of nested lists")(
            lambda folder: folder_with(folder, b'{"bias":' + b"[" * 3_000_000)
        )
    else:
        attack("adapter", kind)(lambda folder, changes=changes: folder_with(folder, changes))


@attack("adapter", "a config that names the rank twice")
def _(folder: Path) -> Any:
    return folder_with(folder, json.dumps(PLAIN).encode()[:-1] + b', "r": 8}')


@attack("adapter", "a config of a gigabyte")
def _(folder: Path) -> Any:
    opening = folder_with(folder, {})
    os.truncate(folder / "adapter_config.json", 1 << 30)
    return opening


@attack("adapter", "a config that is a device")
def _(folder: Path) -> Any:
    opening = folder_with(folder, {})
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_config.json").symlink_to("/dev/zero")
    return opening


@attack("adapter", "a million experts")
def _(folder: Path) -> Any:
    many, raw = np.ones((1_000_000, 1), np.float32), {"target_modules": [], "target_parameters": ["o_proj.weight"]}
    opening = folder_with(folder, raw, b"")
    factors = {f"{O0}.lora_A.weight": many, f"{O0}.lora_B.weight": many.T.copy()}
    save_file(factors, folder / "adapter_model.safetensors")
    return opening


def many_modules(folder: Path, changes: dict[str, Any], names: list[str] | None = None) -> Any:
    opening = folder_with(folder, changes, b"")
    modules(folder, names or [f"base_model.model.layers.{i}.o_proj" for i in range(2000)])
    return opening


for kind, changes in {
    "as many patterns as modules": {"rank_pattern": {f"(q|{i}).*": 1 for i in range(3000)}},
    "as many paths as modules": {"rank_pattern": {f"layers.{i}.q_proj": 1 for i in range(3000)}},
    "as many paths of one length as modules": {
        "rank_pattern": {f"......{i}.o.proj": 1 for i in range(1000, 9000)}
    },
    "as many targets as modules": {"target_modules": [f"{i}.q_proj" for i in range(100_000)]},
    "as many exceptions as modules": {"exclude_modules": [f"{i}.q_proj" for i in range(100_000)]},
    "as many saved modules as modules": {"modules_to_save": [f"q{i}" for i in range(3000)]},
    "as many parameters as modules": {"target_parameters": [f"{i}.q_proj.w{i}" for i in range(50_000)]},
    "as many layers as modules": {
        "layers_to_transform": list(range(10**6, 10**6 + 300_000)),
        "target_modules": ["q"],
    },
}.items():
    attack("adapter", kind)(lambda folder, changes=changes: many_modules(folder, changes))


for setting in ("rank_pattern", "target_modules", "exclude_modules", "layers_pattern", "modules_to_save"):
    slow: Any = "(a|aa)+!"
    changes = {setting: {slow: 1} if setting == "rank_pattern" else slow}
    if setting == "layers_pattern":
        changes |= {"layers_to_transform": [0], "target_modules": ["a" * 60 + "-"]}
    if setting == "modules_to_save":
        changes = {setting: [slow]}
    attack("adapter", f"a {setting} that backtracks")(
        lambda folder, changes=changes: many_modules(folder, changes, [f"{i}.{'a' * 60}-" for i in range(9)])
    )


@attack("adapter", "a thousand kinds of module")
def _(folder: Path) -> Any:
    return many_modules(folder, {}, [f"x{i}{'.a' * 50}.o_proj" for i in range(1000)])


@attack("adapter", "three thousand embeddings")
def _(folder: Path) -> Any:
    opening, one = folder_with(folder, {"target_modules": "all-linear"}, b""), np.ones((1, 1), np.float32)
    names = [f"base_model.model.e{i}.lora_embedding_{side}" for i in range(1500) for side in "AB"]
    names += [f"base_model.model.l{i}.lora_{side}.weight" for i in range(1500) for side in "AB"]
    save_file({name: one * at for at, name in enumerate(names)}, folder / "adapter_model.safetensors")
    return opening


# ---- pickles: a process of their own, for torch alone takes more address space than the others may ----


def pickled(folder: Path, content: bytes | None, raw: bytes | None = None) -> Any:
    opening = folder_with(folder, {})
    (folder / "adapter_model.safetensors").unlink()
    file = folder / "adapter_model.bin"
    if raw is not None:
        file.write_bytes(raw)
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/data.pkl", content or b"")
            archive.writestr("a/version", "3\n")
    return opening


class Runs:
    """What a pickle of it does when it is read."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.what = (function, arguments)

    def __reduce__(self) -> Any:
        return self.what


@attack("pickle", "a command")
def _(folder: Path) -> Any:
    return pickled(folder, pickle.dumps({"a": Runs(os.system, f"touch {folder}/ran")}, protocol=2))


@attack("pickle", "bytes without end")
def _(folder: Path) -> Any:
    return pickled(folder, pickle.dumps({"a": Runs(bytearray, 40 << 30)}, protocol=2))


@attack("pickle", "a command in the old format")
def _(folder: Path) -> Any:
    return pickled(folder, None, pickle.dumps(Runs(os.system, f"touch {folder}/ran"), protocol=2))


@attack("pickle", "a name put together on the stack")
def _(folder: Path) -> Any:
    return pickled(folder, pickle.dumps({"a": Runs(os.system, "true")}, protocol=4))


@attack("pickle", "two pickles under one name")
def _(folder: Path) -> Any:
    opening = pickled(folder, b"}.")
    with zipfile.ZipFile(folder / "adapter_model.bin", "a") as archive:
        archive.writestr("b/data.pkl", pickle.dumps(Runs(os.system, "true"), protocol=2))
    return opening


# ---- files that are named and are none of an adapter ----

MANY = ",".join(tensor(f"blocks.{n}.weight", [1], 0) for n in range(200_000))
for kind, (name, content) in {
    "a pickle of a million marks": ("x.bin", b"\x80\x02" + b"(" * (8 << 20)),
    "a pickle of nothing but names": (
        "x.pt",
        b"\x80\x02" + b"".join(b"X\x06\0\0\0a.%04d" % n for n in range(9_999)) * 9,
    ),
    "a header of nested lists": ("x.safetensors", header(b'{"a":' + b"[" * 5_000_000)),
    "a header of a hundred megabytes": ("x.safetensors", header(b'{"a":' + b" " * (100 << 20))),
    "a header of many names": ("x.safetensors", header(f"{{{MANY}}}".encode())),
    "a GGUF of lengths without end": ("x.gguf", b"GGUF" + b"\xff" * 4096),
    "a GGUF of texts without end": (
        "x.gguf",
        b"GGUF" + bytes(12) + b"\xff" * 8 + struct.pack("<QxIQ", 1, 8, 4096) * 9_999,
    ),
    "a zip that lists entries without end": (
        "x.zip",
        b"PK\x03\x04" + bytes(100) + b"PK\x05\x06" + b"\xff" * 16 + b"\0\0",
    ),
}.items():

    def _(folder: Path, name: str = name, content: bytes = content) -> Any:
        (folder / name).write_bytes(content)

        def opening() -> None:
            for source in (folder, folder / name):
                try:
                    open_adapter(source)
                except SurgeryError as error:
                    refusal = error
            raise refusal

        return opening

    attack("named file", kind)(_)


# ---- recipes ----

TOP = "recipe: 1\nadapter: {source: a, digest: ''}\nbase: {location: b}\ncalibration: {data: c}\n"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)

for kind, text in {
    "laughter": TOP + LAUGHS,
    "laughter by merging": "a: &a {b: 1}\n" + "".join(f"c{i}: &c{i} {{<<: [*a, *a]}}\n" for i in range(30)),
    "a command in a tag": TOP + "edit: !!python/object/apply:os.system ['true']",
    "a tag of Python's": TOP + "edit: !!python/name:os.system",
    "tags written out at every use": "%TAG ! tag:x," + "y" * 100_000 + "\n---\n" + "- !a b\n" * 90_000,
    "nested lists": "[" * 1_000_000,
    "nested braces": "{a: " * 200_000,
    "nested dashes": "- " * 500_000,
    "a number in base sixty": TOP + "edit: 1" + ":1" * 300_000,
    "a fraction in base sixty": TOP + "edit: {sigma_min: 1" + ":1" * 300 + ".5}",
    "a number of half a million digits": TOP.replace("data: c", "data: c, examples: 0x" + "f" * 500_000),
    "a number beyond every count": TOP.replace("data: c", "data: c, examples: 0x" + "f" * 200)
    + "edit: {policy: identity}",
    "a list where a name belongs": TOP + "edit: {scope: [" + "0x" + "f" * 900 + "]}",
    "a hundred thousand entries": "a: [" + "[]," * 100_000 + "]",
    "ten megabytes": "#" * (10 << 20),
    "a section twice": TOP + "edit: {policy: identity}\nedit: {policy: scale}\n",
    "a scope that asks for gigabytes": TOP + "edit: {policy: identity, scope: '(?:a{3000}){3000}'}",
    "a scope nested in itself": TOP + f"edit: {{policy: identity, scope: '{'(' * 40_000}{')' * 40_000}'}}",
    "a scope of half a megabyte": TOP + f"edit: {{policy: identity, scope: '{'a?b|' * 130_000}'}}",
    "a date before the first": TOP + "edit: 0001-01-01T00:00:00+99:99",
}.items():
    attack("recipe", kind)(lambda folder, text=text: lambda: parse_recipe(text))


@attack("recipe", "a file without end")
def _(folder: Path) -> Any:
    return lambda: read_recipe("/dev/zero")


@attack("recipe", "a pipe that nobody writes to")
def _(folder: Path) -> Any:
    os.mkfifo(folder / "recipe.yaml")
    return lambda: read_recipe(folder / "recipe.yaml")


@attack("recipe", "a file of ten gigabytes")
def _(folder: Path) -> Any:
    (folder / "recipe.yaml").touch()
    os.truncate(folder / "recipe.yaml", 10 << 30)
    return lambda: read_recipe(folder / "recipe.yaml")


# ---- rows ----


def rows_of(file: Path, text: str | bytes) -> Any:
    file.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    return lambda: read_source(str(file))


for kind, line in {
    "nested lists": "[" * 2_000_000,
    "a number of a million digits": '{"prompt": ' + "9" * 1_000_000 + "}",
    "half a character": '{"prompt": "\\ud800", "answer": "a"}',
    "raw half characters": '{"prompt": "\ud800", "answer": "a"}',
    "a row without a line's end": '{"prompt": "' + "x" * (20 << 20),
    "no text at all": "\0" * 1_000_000,
}.items():
    attack("rows", kind)(lambda folder, line=line: rows_of(folder / "rows.jsonl", line))


@attack("rows", "a file without end")
def _(folder: Path) -> Any:
    (folder / "rows.jsonl").symlink_to("/dev/zero")
    return lambda: read_source(str(folder / "rows.jsonl"))


@attack("rows", "a file without end for the strict reader")
def _(folder: Path) -> Any:
    return lambda: read_rows("/dev/zero")


@attack("rows", "a file of ten gigabytes")
def _(folder: Path) -> Any:
    (folder / "rows.jsonl").touch()
    os.truncate(folder / "rows.jsonl", 10 << 30)
    return lambda: read_source(str(folder / "rows.jsonl"))


def columns(folder: Path, **values: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table(values), folder / "rows.parquet", row_group_size=1 << 30)
    return lambda: read_source(str(folder / "rows.parquet"), RowFields())


@attack("rows", "a megabyte of text a hundred thousand times")
def _(folder: Path) -> Any:
    import pyarrow as pa

    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * (1 << 20)]))
    return columns(folder, prompt=text, answer=text)


@attack("rows", "twenty-one million rows in a few bytes")
def _(folder: Path) -> Any:
    import pyarrow as pa

    nothing = pa.nulls(21_000_000, pa.int8())
    return columns(folder, prompt=nothing, answer=nothing)


@attack("rows", "a block of one letter that is larger than memory")
def _(folder: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = pa.table({"prompt": ["x" * (400 << 20)], "answer": ["a"]})
    parquet.write_table(
        table, folder / "rows.parquet", compression="zstd", use_dictionary=False, write_statistics=False
    )
    del table
    return lambda: read_source(str(folder / "rows.parquet"), RowFields())


for kind, name, text in (
    ("an array of brackets", "rows.json", "[" + "[" * 2_000_000),
    ("an array of one text without end", "rows.json", '["' + "x" * (20 << 20)),
    ("a cell without end", "rows.csv", 'prompt,answer\n"' + "x\n" * (20 << 20)),
    ("a table of a million names", "rows.tsv", "a\t" * 1_000_000 + "\n" + "b\t" * 1_000_001),
    ("a conversation of nothing", "rows.jsonl", '{"messages": [' + "{}," * 1_000_000 + "{}]}"),
    ("a way of a million steps", "rows.jsonl", '{"prompt": ' + '{"a": ' * 900 + "1" + "}" * 901),
):
    attack("rows", kind)(lambda folder, name=name, text=text: rows_of(folder / name, text))


@attack("rows", "a hundred megabytes of one letter in gzip")
def _(folder: Path) -> Any:
    return rows_of(folder / "rows.jsonl.gz", gzip.compress(b"x" * (100 << 20)))


@attack("rows", "ten million blank lines in gzip")
def _(folder: Path) -> Any:
    return rows_of(folder / "rows.csv.gz", gzip.compress(b"\n" * 10_000_000))


@attack("rows", "a conversation of one message a million times")
def _(folder: Path) -> Any:
    import pyarrow as pa

    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * (1 << 20)]))
    message = pa.StructArray.from_arrays([text, text], ["role", "content"])
    return columns(folder, messages=pa.ListArray.from_arrays(pa.array([0, 100_000], pa.int32()), message))


@attack("rows", "a packed arrow file of one letter")
def _(folder: Path) -> Any:
    import pyarrow as pa

    table = pa.table({"prompt": ["x" * (400 << 20)], "answer": ["a"]})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(str(folder / "rows.arrow"), table.schema, options=options) as out:
        out.write_table(table)
    del table
    return lambda: read_source(str(folder / "rows.arrow"))


def card(folder: Path, text: str) -> Any:
    (folder / "README.md").write_text(text)
    (folder / "train.txt").write_text("x")
    return lambda: read_source(f"hub:{folder}:train")


for kind, text in {
    "a card of empty lines": "---" + "\n" * 1_000_000,
    "a card of laughter": f"---\n{LAUGHS}configs:\n- config_name: *j\n---\n",
    "a card of tags": "---\n%TAG ! tag:x," + "y" * 90_000 + "\n" + "- !a b\n" * 90_000 + "\n---\n",
}.items():
    attack("rows", kind)(lambda folder, text=text: card(folder, text))


# ---- uploaded zips ----

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
GOOD = {f"mine/{CONFIG}": b"{}", f"mine/{WEIGHTS}": b"w" * 500}


def zipped(entries: dict[str, bytes] | list[tuple[Any, bytes]], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, content)
    return file.getvalue()


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def renamed(raw: bytes, old: str, new: str) -> bytes:
    """An archive whose entry got another name of the same length, in both places."""
    assert len(old) == len(new)
    return raw.replace(old.encode(), new.encode())


ZIPS: dict[str, Callable[[], bytes]] = {
    "a name that climbs": lambda: zipped({**GOOD, "../../evil": b"x"}),
    "a name that climbs in the middle": lambda: zipped({**GOOD, "mine/../../evil": b"x"}),
    "an absolute path": lambda: zipped({**GOOD, "/tmp/evil": b"x"}),
    "a path on a drive": lambda: zipped({**GOOD, "C:/evil": b"x"}),
    "a path of backslashes": lambda: renamed(zipped({**GOOD, "..|..|evil": b"x"}), "..|..|evil", "..\\..\\evil"),
    "a name with a null byte": lambda: renamed(
        zipped({**GOOD, "mine/evil|x": b"x"}), "mine/evil|x", "mine/evil\0x"
    ),
    "a name of control characters": lambda: zipped({**GOOD, "mine/\x1b[2J": b"x"}),
    "a link": lambda: zipped([*GOOD.items(), (entry("mine/link", stat.S_IFLNK | 0o777), b"/etc/passwd")]),
    "weights that are a link": lambda: zipped(
        [(f"mine/{CONFIG}", b"{}"), (entry(f"mine/{WEIGHTS}", stat.S_IFLNK | 0o777), b"/etc/passwd")]
    ),
    "a device": lambda: zipped([*GOOD.items(), (entry("mine/device", stat.S_IFCHR | 0o777), b"")]),
    "the same name twice": lambda: renamed(zipped({**GOOD, "mine/adapter_config.jsoX": b"x"}), "jsoX", "json"),
    "names that differ in capitals": lambda: zipped({**GOOD, f"mine/{CONFIG.upper()}": b"x"}),
    "an archive in an archive": lambda: zipped({**GOOD, "mine/inner.zip": zipped(GOOD)}),
    "an unusual compression": lambda: zipped(GOOD, zipfile.ZIP_LZMA),
    "a bomb": lambda: zipped({**GOOD, f"mine/{WEIGHTS}": bytes(16 << 20)}),
    "too many entries": lambda: zipped({**GOOD, **{f"mine/{i}": b"" for i in range(300)}}, zipfile.ZIP_STORED),
    "fifteen thousand entries": lambda: zipped({f"mine/{i}": b"" for i in range(15_000)}, zipfile.ZIP_STORED),
    "no adapter": lambda: zipped({"README.md": b"x"}),
    "two adapters": lambda: zipped({**GOOD, **{name.replace("mine", "yours"): raw for name, raw in GOOD.items()}}),
    "no zip": lambda: b"<html>" * 100,
    "nothing": lambda: b"",
    "half a zip": lambda: zipped(GOOD)[:-30],
    "something after its end": lambda: zipped(GOOD) + b"more",
    "weights that fail their sum": lambda: renamed(zipped(GOOD, zipfile.ZIP_STORED), "w" * 500, "v" * 500),
}


def encrypted(raw: bytes) -> bytes:
    """With the flag that says so, in the list of entries."""
    at = raw.index(b"PK\x01\x02")
    return raw[: at + 8] + b"\x01" + raw[at + 9 :]


def understated(raw: bytes) -> bytes:
    """The list says that every entry unpacks to a single byte."""
    at, changed = raw.find(b"PK\x01\x02"), bytearray(raw)
    while at >= 0:
        changed[at + 24 : at + 28] = struct.pack("<I", 1)
        at = raw.find(b"PK\x01\x02", at + 1)
    return bytes(changed)


def overlapping() -> bytes:
    """Two hundred entries that share one packed megabyte."""
    raw = zipped({"mine/aaa": os.urandom(1 << 20)}, zipfile.ZIP_STORED)
    directory = raw.index(b"PK\x01\x02")
    end = raw.rindex(b"PK\x05\x06")
    one = raw[directory:end]
    listed = b"".join(one.replace(b"mine/aaa", f"mine/{i:03}".encode()) for i in range(200))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 200, 200, len(listed), directory, 0)
    return raw[:directory] + listed + tail


ZIPS["an encrypted entry"] = lambda: encrypted(zipped(GOOD))
ZIPS["sizes that lie"] = lambda: understated(zipped({**GOOD, f"mine/{WEIGHTS}": bytes(1 << 19)}))
ZIPS["entries that overlap"] = overlapping


def upload(folder: Path, make: Callable[[], bytes]) -> Any:
    packed = make()
    return lambda: unpack_adapter(packed, folder / "into")


for kind, make in ZIPS.items():
    attack("archive", kind)(lambda folder, make=make: upload(folder, make))


def main(folder: Path, groups: list[str]) -> None:
    """Run some groups; what an attack may add to the process's memory is limited while it runs."""
    results: dict[str, tuple[str, float]] = {}
    if "pickle" in groups:
        import torch

        torch.zeros(1)
    attacks = [(group, name, prepare) for group in groups for name, prepare in ATTACKS[group].items()]
    for number, (group, name, prepare) in enumerate(attacks):
        own = folder / f"{group}-{number}"
        own.mkdir(parents=True)
        run = prepare(own)
        present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (present + MEMORY, resource.RLIM_INFINITY))
        began = time.process_time()
        try:
            run()
            outcome = "opened"
        except SurgeryError as error:
            outcome = f"refused: {error}"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"[:300]
        took = time.process_time() - began
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        written = sorted(str(file.relative_to(own)) for file in own.rglob("*") if file.name in ("ran", "evil"))
        results[f"{group}/{name}"] = (f"wrote {written}" if written else outcome), took
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
