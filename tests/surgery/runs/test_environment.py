"""What a run says of the machine."""

import json
import platform
from pathlib import Path

from surgery.runs import (
    ENVIRONMENT,
    begin,
)
from tests.surgery.runs.conftest import PLAN


def test_environment_names_versions_and_neither_host_nor_person():
    run, log = begin(PLAN)
    log.close()
    text = (run.folder / ENVIRONMENT).read_text()
    record = json.loads(text)
    assert record["python"] == platform.python_version()
    assert {"torch", "transformers", "numpy"} <= set(record["packages"])
    assert platform.node() not in text
    assert str(Path.home()) not in text
