"""Read within bounds, write whole, hash and lock."""

from surgery.files.arrow_rows import arrow_records
from surgery.files.atomic import write_problem, write_whole
from surgery.files.bounded import read_limited
from surgery.files.demo import (
    DEMO_BASE,
    DEMO_FOLDER,
    DEMO_TEXT,
    PROVING,
    SLICES,
    data_file,
    demo_folder,
    demo_names,
    demo_sets,
    demo_slice,
    is_demo,
    is_shipped,
    set_path,
    shipped_files,
    text_path,
)
from surgery.files.hashing import digest, file_stamp
from surgery.files.locks import is_locked, try_lock
from surgery.files.parquet_rows import MOST_RECORDS, parquet_records
from surgery.files.paths import FOLDERS, named_folders, user_path, write_named
from surgery.files.places import (
    bases_folder,
    exports_folder,
    films_folder,
    groups_folder,
    home,
    matrices_folder,
    offload_folder,
    proposed_export,
    recipes_folder,
    runs_folder,
    sensitivities_folder,
    sweeps_folder,
    timings_file,
    uploads_folder,
    workspaces_folder,
)
from surgery.files.records import mapping_of, number_of, refuse_unknown, without_nan
from surgery.files.safe_regex import compile_pattern, seconds_of
from surgery.files.safe_yaml import LONGEST, load_yaml, parse_yaml
from surgery.files.shipped import MISSING, shipped_folder
from surgery.files.text_file import LONGEST_LINE, open_text, text_lines

__all__ = [
    "DEMO_BASE",
    "DEMO_FOLDER",
    "DEMO_TEXT",
    "FOLDERS",
    "LONGEST",
    "LONGEST_LINE",
    "MISSING",
    "MOST_RECORDS",
    "PROVING",
    "SLICES",
    "arrow_records",
    "bases_folder",
    "compile_pattern",
    "data_file",
    "demo_folder",
    "demo_names",
    "demo_sets",
    "demo_slice",
    "digest",
    "exports_folder",
    "file_stamp",
    "films_folder",
    "groups_folder",
    "home",
    "is_demo",
    "is_locked",
    "is_shipped",
    "load_yaml",
    "mapping_of",
    "matrices_folder",
    "named_folders",
    "number_of",
    "offload_folder",
    "open_text",
    "parquet_records",
    "parse_yaml",
    "proposed_export",
    "read_limited",
    "recipes_folder",
    "refuse_unknown",
    "runs_folder",
    "seconds_of",
    "sensitivities_folder",
    "set_path",
    "shipped_files",
    "shipped_folder",
    "sweeps_folder",
    "text_lines",
    "text_path",
    "timings_file",
    "try_lock",
    "uploads_folder",
    "user_path",
    "without_nan",
    "workspaces_folder",
    "write_named",
    "write_problem",
    "write_whole",
]
