"""A look inside a component, for a terminal and as a record."""

from collections.abc import Iterator, Mapping
from typing import Any

from surgery.microscope import DIRECTIONS, Look

_TOLD = 6  # tokens of a row that are listed


def microscope_record(found: Look, component: int) -> dict[str, Any]:
    """Rows with the shares of their tokens, readings and writings of one component, each with its baseline."""
    writings = found.writings(component)
    return {
        "module": found.module,
        "component": component,
        "rows": [
            {
                "row": row + 1,
                "g": found.g[at, component],
                "tokens": [
                    {"text": token.text or token.name, "scored": token.scored, "share": share}
                    for token, share in zip(found.tokens[at], found.shares(at)[:, component], strict=True)
                ],
            }
            for at, row in enumerate(found.rows)
        ],
        "reads": [
            {
                "row": found.rows[each.row] + 1,
                "token": each.token + 1,
                "text": found.tokens[each.row][each.token].text,
                "value": each.value,
                "random_below": each.share,
                "beyond_random": each.beyond_random,
            }
            for each in found.readings(component)
        ],
        "writes": writings
        and {
            sign: {
                "tokens": [
                    {"text": text, "logit": logit, "deviations": apart} for text, logit, apart in each.tokens
                ],
                "random_below": each.share,
                "beyond_random": each.beyond_random,
            }
            for sign, each in zip("+-", writings, strict=True)
        },
        "no_lens": found.no_lens,
        "random_directions": DIRECTIONS,
    }


def microscope_text(record: Mapping[str, Any]) -> str:
    """A `microscope_record` as lines: the strongest tokens of every row, readings and writings."""
    head = f"{record['module']}, component {record['component']}"
    lines = [head, *_rows(record), *_reads(record), *_writes(record)]
    if "written" in record:
        lines.append(f"written to {record['written']}")
    return "\n".join(lines)


def _rows(record: Mapping[str, Any]) -> Iterator[str]:
    for row in record["rows"]:
        strongest = sorted(row["tokens"], key=lambda token: -abs(token["share"]))[:_TOLD]
        listed = ", ".join(f"{token['text']!r} {token['share']:+.3g}" for token in strongest if token["share"])
        yield f"row {row['row']}: g {row['g']:+.4g}: {listed}"


def _reads(record: Mapping[str, Any]) -> Iterator[str]:
    yield "reads"
    for each in record["reads"]:
        yield f"  {each['value']:+.4g} {each['text']!r} (row {each['row']}, token {each['token']}): {_against(each)}"


def _writes(record: Mapping[str, Any]) -> Iterator[str]:
    if record["writes"] is None:
        yield f"writes: {record['no_lens']}"
        return
    for sign, each in record["writes"].items():
        listed = ", ".join(f"{token['text']!r} {token['logit']:.4g}" for token in each["tokens"])
        yield f"{sign}u raises ({_against(each)}): {listed}"


def _against(each: Mapping[str, Any]) -> str:
    standing = "beyond random" if each["beyond_random"] else "not beyond random"
    return f"{standing}, {100 * each['random_below']:.0f} % of random directions less"
