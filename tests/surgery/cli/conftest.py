"""The command line called in this process: what it prints, and what it refuses."""

import json

import pytest

from surgery.cli import main

SIGMA, G = [4.0, 3.0, 2.0, 1.0], [-0.4, 0.1, 0.2, 0.3]
NUMBERS = ["--sigma", "4,3,2,1", "--sensitivity", "-0.4,0.1,0.2,0.3"]


def strict(text: str):
    """JSON as every reader takes it: NaN and infinity are no JSON."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def ok(capsys):
    """Run a command that must succeed; its JSON object with --json, its text without."""

    def run(*words):
        assert main(list(words)) == 0
        out, err = capsys.readouterr()
        assert err == ""
        if "--json" not in words:
            return out
        assert len(out.splitlines()) == 1
        record = strict(out)
        assert isinstance(record, dict)
        return record

    return run


@pytest.fixture
def fails(capsys):
    """Run a command that must be refused: exit code 2, one line on standard error, nothing else."""

    def run(*words) -> str:
        assert main(list(words)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("surgery: ")
        assert err.endswith("\n")
        assert len(err.splitlines()) == 1
        assert "Traceback" not in err
        return err

    return run


def rescaled(gains, order=1):
    """Gains after the energy rule of the given norm."""
    before = sum(s**order for s in SIGMA) ** (1 / order)
    after = sum((a * s) ** order for a, s in zip(gains, SIGMA, strict=True)) ** (1 / order)
    return [a * before / after for a in gains]
