"""A task's splits read from local files, in place of its dataset on the hub."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from surgery.data import UnusableRow, parse_record
from surgery.errors import DataError, first_line
from surgery.files import parquet_records, read_limited, user_path

_MOST_BYTES = 256 << 20  # of a task's examples as text
_MOST_RECORDS = 1_000_000


Records = list[dict[str, Any]]


def with_files(config: dict[str, Any], files: Mapping[str, str | Records], fewshot: int | None) -> dict[str, Any]:
    """The definition with the splits read from files. A split that no example is drawn from may be missing.

    config: a task's settings as lm-eval reads them.
    files: by split, a file or the records that were read from one.
    fewshot: how many examples are shown, the definition's own number where that is None.

    Raises `DataError` for a task whose data are made by a program and for a split that is missing or unreadable.
    """
    name = config["task"]
    if "class" in config or config.get("custom_dataset"):
        raise DataError(f"the task {name!r} makes its data by a program", "run it without local files")
    config = dict(config)
    judged = config.get("test_split") or config.get("validation_split")
    shown = config.get("num_fewshot") if fewshot is None else fewshot
    wanted = {judged}
    given = dict(config.get("fewshot_config") or {})
    if shown and not given.get("samples"):
        split = given.get("split") or config.get("fewshot_split") or config.get("training_split")
        wanted.add(split or config.get("validation_split") or judged)
    if missing := sorted(str(split) for split in wanted if split not in files):
        raise DataError(
            f"the task {name!r} needs a file for the split {missing[0]!r}", f"name one, as in {missing[0]}=FILE"
        )
    for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if config.get(key) not in files:
            config.pop(key, None)
    if given.get("split") not in files:
        given.pop("split", None)
    config["fewshot_config"] = given or None
    splits = {split: read_records(file) if isinstance(file, str) else file for split, file in files.items()}

    def local_dataset(**_: Any) -> Any:
        from datasets import Dataset, DatasetDict

        return DatasetDict({split: Dataset.from_list(records) for split, records in splits.items()})

    return {**config, "custom_dataset": local_dataset}


def read_records(path: str) -> Records:
    """The objects of a `.jsonl`, `.json` (lines or one list) or `.parquet` file, all with the same fields.

    Questions in AI2's own layout (CommonsenseQA, ARC) become those of the hub. Raises `DataError`.
    """
    file = user_path(path, DataError)
    remedy = "name a JSON lines or parquet file with one object for each example"
    if not file.is_file():
        raise DataError(f"no file at {str(path)!r}", "check the path of the task's data")
    try:
        if file.suffix.lower() == ".parquet":
            records: list[Any] = [record for _, record in islice(parquet_records(file, None), _MOST_RECORDS + 1)]
        else:
            text = read_limited(file, _MOST_BYTES).decode()
            lines = (line for line in text.split("\n") if line.strip())
            records = (
                parse_record(text) if text.lstrip().startswith("[") else [parse_record(line) for line in lines]
            )
    except DataError:
        raise
    except UnusableRow as error:
        raise DataError(f"a line of {file.name!r} {error.problem}", remedy) from error
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{file.name!r} could not be read ({first_line(error, kind=True)})", remedy) from error
    if not records or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{file.name!r} holds no list of objects", remedy)
    if len(records) > _MOST_RECORDS:
        raise DataError(f"{file.name!r} holds more than {_MOST_RECORDS:,} examples", "use a part of them")
    records = [_hub_layout(record) for record in records]
    names = dict.fromkeys(name for record in records for name in record)
    return [{name: record.get(name) for name in names} for record in records]


def _hub_layout(record: dict[str, Any]) -> dict[str, Any]:
    question = record.get("question")
    if not isinstance(question, dict) or not {"stem", "choices"} <= set(question):
        return record
    choices = {part: [choice.get(part) for choice in question["choices"]] for part in ("label", "text")}
    others = {name: value for name, value in question.items() if name not in ("stem", "choices")}
    return {**record, **others, "question": question["stem"], "choices": choices}
