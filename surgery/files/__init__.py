"""Read within bounds, write whole, hash and lock."""

from surgery.files.atomic import write_problem, write_whole
from surgery.files.bounded import read_limited
from surgery.files.demo import (
    DEMO_BASE,
    DEMO_FOLDER,
    SLICES,
    data_file,
    demo_folder,
    demo_names,
    demo_slice,
    is_demo,
    is_shipped,
    shipped_files,
)
from surgery.files.hashing import digest, file_stamp
from surgery.files.locks import is_locked, try_lock
from surgery.files.parquet_rows import MOST_RECORDS, parquet_records
from surgery.files.paths import FOLDERS, named_folders, user_path
from surgery.files.places import home
from surgery.files.records import mapping_of, number_of, refuse_unknown, without_nan
from surgery.files.safe_regex import compile_pattern, seconds_of
from surgery.files.safe_yaml import LONGEST, load_yaml, parse_yaml
from surgery.files.shipped import MISSING, shipped_folder

__all__ = [
    "DEMO_BASE",
    "DEMO_FOLDER",
    "FOLDERS",
    "LONGEST",
    "MISSING",
    "MOST_RECORDS",
    "SLICES",
    "compile_pattern",
    "data_file",
    "demo_folder",
    "demo_names",
    "demo_slice",
    "digest",
    "file_stamp",
    "home",
    "is_demo",
    "is_locked",
    "is_shipped",
    "load_yaml",
    "mapping_of",
    "named_folders",
    "number_of",
    "parquet_records",
    "parse_yaml",
    "read_limited",
    "refuse_unknown",
    "seconds_of",
    "shipped_files",
    "shipped_folder",
    "try_lock",
    "user_path",
    "without_nan",
    "write_problem",
    "write_whole",
]
