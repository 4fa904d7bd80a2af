"""What a person does on the pages, as acts that a soak draws by lot; see `soak.py`.

An act that finds its control absent or disabled says `Skipped`: a person would not press it either. An act
that starts a job does not wait for it, so that others go on beside it.
"""

import random
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from playwright.sync_api import Locator, Page, TimeoutError

from tests.e2e.driving import LONG, rested

SOON = 1000  # ms until a control that is there is drawn
PRESS = 20_000  # ms until a control that is there and enabled must have taken a click
FILE = 60_000  # ms until a file that was asked for must have come
MOST_KEPT = 4  # recipes on a shelf, before one is deleted
WORDS = ("", "random", "kinship test", "grad_direction", "nothing is called so")
KEYS = ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp")


class Skipped(Exception):
    """What the act needs is not there now."""


@dataclass(frozen=True)
class Desk:
    """What an act may use besides its page: the second adapter, its base model and rows, a folder for exports."""

    rng: random.Random
    adapter: Path
    base: Path
    rows: Path
    held_out: Path
    exports: Path


@dataclass(frozen=True)
class Act:
    kind: str
    weight: float
    do: Callable[[Page, Desk], None]


def ready(found: Locator) -> Locator:
    """The first of what was found, if a person could use it; a page may still be drawing it."""
    first = found.first
    with suppress(TimeoutError):
        first.wait_for(timeout=SOON)
    if not first.is_visible() or not first.is_enabled():
        raise Skipped
    return first


def press(found: Locator) -> None:
    ready(found).click(timeout=PRESS)


def one_of(found: Locator, desk: Desk) -> Locator:
    """Any of what was found that a person could use."""
    usable = [each for each in found.all() if each.is_visible() and each.is_enabled()]
    if not usable:
        raise Skipped
    return desk.rng.choice(usable)


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def field(page: Page, name: str) -> Locator:
    return page.get_by_role("textbox", name=name, exact=True)


def number(page: Page, name: str, value: int) -> None:
    found = ready(page.get_by_role("spinbutton", name=name, exact=True))
    found.fill(str(value), timeout=PRESS)
    found.press("Tab")
    rested(page)


def point(area: Locator, desk: Desk) -> dict[str, float]:
    """A place well inside a drawing."""
    ready(area).scroll_into_view_if_needed(timeout=PRESS)
    box = area.first.bounding_box()
    if box is None:
        raise Skipped
    return {"x": box["width"] * desk.rng.uniform(0.1, 0.9), "y": box["height"] * desk.rng.uniform(0.1, 0.9)}


def picks(selector: str) -> Callable[[Page, Desk], None]:
    """Another option of any of these select boxes."""

    def act(page: Page, desk: Desk) -> None:
        select = one_of(page.locator(selector), desk)
        options = select.evaluate("each => [...each.options].filter(o => !o.disabled).map(o => o.value)")
        if len(options) < 2:
            raise Skipped
        select.select_option(desk.rng.choice(options), timeout=PRESS)

    return act


def presses(selector: str) -> Callable[[Page, Desk], None]:
    return lambda page, desk: one_of(page.locator(selector), desk).click(timeout=PRESS)


def clicks_in(selector: str) -> Callable[[Page, Desk], None]:
    """A click somewhere on a drawing."""

    def act(page: Page, desk: Desk) -> None:
        area = page.locator(selector)
        area.first.click(position=point(area, desk), timeout=PRESS)  # type: ignore[arg-type]

    return act


def walks(selector: str, more: Sequence[str] = ()) -> Callable[[Page, Desk], None]:
    """A few keys on a drawing."""

    def act(page: Page, desk: Desk) -> None:
        area = ready(page.locator(selector))
        area.focus(timeout=PRESS)
        for key in [*desk.rng.choices(KEYS, k=4), *more]:
            area.press(key, timeout=PRESS)

    return act


def downloads(selector: str) -> Callable[[Page, Desk], None]:
    def act(page: Page, desk: Desk) -> None:
        one = one_of(page.locator(selector), desk)
        with page.expect_download(timeout=FILE) as found:
            one.click(timeout=PRESS)
        found.value.path()
        found.value.delete()

    return act


def tabs(page: Page, desk: Desk) -> None:
    one_of(page.get_by_role("tab"), desk).click(timeout=PRESS)


# Surgery


def drag_knob(page: Page, desk: Desk) -> None:
    knob = one_of(page.locator(".board input[type=range]"), desk)
    knob.scroll_into_view_if_needed(timeout=PRESS)
    box = knob.bounding_box()
    if box is None:
        raise Skipped
    y = box["y"] + box["height"] / 2
    at = [box["x"] + 8 + (box["width"] - 16) * desk.rng.random() for _ in range(2)]
    page.mouse.move(at[0], y)
    page.wait_for_timeout(200)  # the table of this knob is on its way
    page.mouse.down()
    page.mouse.move(at[1], y, steps=12)
    page.mouse.up()


def drag_bar(page: Page, desk: Desk) -> None:
    bars = page.locator('.board canvas[data-role="bars"]')
    start, end = point(bars, desk), point(bars, desk)
    box = bars.bounding_box()
    if box is None:
        raise Skipped
    page.mouse.move(box["x"] + start["x"], box["y"] + start["y"])
    page.mouse.down()
    page.mouse.move(box["x"] + start["x"], box["y"] + end["y"], steps=10)
    page.mouse.up()


def turn_by_key(page: Page, desk: Desk) -> None:
    knob = one_of(page.locator(".board input[type=range]"), desk)
    knob.focus(timeout=PRESS)
    for _ in range(desk.rng.randint(1, 4)):
        knob.press(desk.rng.choice(KEYS[:2]))


def undo_or_redo(page: Page, desk: Desk) -> None:
    if desk.rng.random() < 0.5:
        one_of(page.locator('.board button[data-role="undo"], .board button[data-role="redo"]'), desk).click(
            timeout=PRESS
        )
        return
    ready(page.locator('.board button[data-role="undo"]'))
    page.locator("body").press(desk.rng.choice(("Control+z", "Control+z", "Control+Shift+Z")), timeout=PRESS)


def set_by_hand(page: Page, desk: Desk) -> None:
    walks('.board canvas[data-role="bars"]')(page, desk)
    roles = ("silence", "lock", "reset", "reset-all")
    one_of(page.locator(", ".join(f'.board button[data-role="{role}"]' for role in roles)), desk).click(
        timeout=PRESS
    )


def smallest_sigma(page: Page, desk: Desk) -> None:
    found = ready(page.locator('.board input[data-role="sigma-min"]'))
    found.fill(desk.rng.choice(("0", "0.01", "0.05")), timeout=PRESS)
    found.press("Enter")


def scope(page: Page, desk: Desk) -> None:
    press(page.get_by_role("button", name="Scope:"))
    rested(page)
    dialog = page.get_by_role("dialog")
    if desk.rng.random() < 0.7:
        one_of(dialog.get_by_role("button", name="scalars"), desk).click(timeout=PRESS)
        return
    press(dialog.get_by_role("tab", name="Families and layers"))
    one_of(dialog.locator("[data-testid=stButtonGroup] button"), desk).click(timeout=PRESS)
    rested(page)
    press(dialog.get_by_role("button", name="Edit these"))


def jump(page: Page, desk: Desk) -> None:
    press(page.get_by_role("button", name="History"))
    rested(page)
    steps = page.get_by_role("dialog").get_by_role("button", name=" · ")
    one_of(steps, desk).click(timeout=PRESS)


def recipes(page: Page, desk: Desk) -> None:
    """Keep one, or open, copy or delete a kept one."""
    opens = page.locator("[data-testid=stButton] button:has-text('Open')")
    kept, lot = opens.count(), desk.rng.random()
    if kept > MOST_KEPT or (kept and lot < 0.2):
        one_of(button(page, "delete"), desk).click(timeout=PRESS)
    elif kept and lot < 0.5:
        one_of(opens, desk).click(timeout=PRESS)
    elif kept and lot < 0.6:
        one_of(button(page, "content_copy"), desk).click(timeout=PRESS)
    else:
        press(page.get_by_role("button", name="Keep as a recipe"))
        field(page, "Name").fill(f"kept {desk.rng.randint(1, 99)}", timeout=PRESS)
        press(button(page, "Keep"))


def tour(page: Page, desk: Desk) -> None:
    if page.get_by_role("button", name="Tour").count():
        press(page.get_by_role("button", name="Tour"))
    else:
        press(button(page, desk.rng.choice(("Next", "Next", "Skip the tour"))))


def run_the_model(page: Page, desk: Desk) -> None:
    """Measure the edit, sweep a knob at three values or answer a prompt."""
    tab, name = desk.rng.choice(
        (("Measure", "Measure this edit"), ("Sweep a knob", "Sweep"), ("Try it", "Answer"))
    )
    press(page.get_by_role("tab", name=tab, exact=True))
    rested(page)
    if tab == "Sweep a knob":
        number(page, "Values", 3)
    press(button(page, name))


def free_policy(page: Page, desk: Desk) -> None:
    """Without a calibration the page offers policies that need none."""
    one_of(page.locator("[class*=st-key-free-] button"), desk).click(timeout=PRESS)


# Spectra


def sort_or_open(page: Page, desk: Desk) -> None:
    one_of(page.locator(".spectra th button, .spectra tbody tr:nth-child(-n+6) button"), desk).click(timeout=PRESS)


def calibrate(page: Page, desk: Desk) -> None:
    """A few examples, of the synthetic adapter's own rows where it is open."""
    again = page.get_by_role("button", name="Calibrate again")
    if again.count():
        press(again)
        rested(page)
    ready(starting(page).or_(page.get_by_text("Rows from")))
    if tiny_is_open(page):
        press(page.get_by_test_id("stButtonGroup").get_by_text("Path", exact=True))
        rested(page)
        file = ready(field(page, "File"))
        file.fill(str(desk.rows), timeout=PRESS)
        file.press("Enter")
        rested(page)
    number(page, "Examples", desk.rng.randint(4, 8))
    number(page, "Seed", desk.rng.randint(0, 5))
    press(starting(page))


def starting(page: Page) -> Locator:
    """The button of the calibration form, whatever is stored of its plan."""
    return page.get_by_role(
        "button", name=re.compile("^(Calibrate with these settings|Resume|Use the stored result)")
    )


def use_stored(page: Page, desk: Desk) -> None:
    """Take a stored result up."""
    summary = page.get_by_test_id("stExpander").filter(has_text="Stored results").locator("summary")
    press(summary if summary.count() else page.get_by_role("button", name="Stored results"))
    page.wait_for_timeout(500)
    rested(page)
    one_of(button(page, "Use"), desk).click(timeout=PRESS)


# Geometry


def slide_k(page: Page, desk: Desk) -> None:
    slider = ready(page.locator('.atlas input[data-role="k"]'))
    slider.fill(str(desk.rng.randint(0, int(slider.get_attribute("max") or 0))), timeout=PRESS)


def tick(page: Page, desk: Desk) -> None:
    one_of(page.locator(".atlas .check input"), desk).click(timeout=PRESS)


def compare(page: Page, desk: Desk) -> None:
    """Another adapter beside this one, or that one closed."""
    press(page.get_by_role("button", name="Compare with another adapter"))
    page.wait_for_timeout(400)
    close = page.get_by_role("button", name="Close ")
    if close.count() and desk.rng.random() < 0.6:
        press(close)
        return
    if desk.rng.random() < 0.3:
        path = ready(page.get_by_role("textbox", name="or a folder, or a name on the hub"))
        path.fill(str(desk.adapter), timeout=PRESS)
        path.press("Enter")
        rested(page)
        press(button(page, "Compare"))
        return
    one_of(page.get_by_role("button", name="demo:"), desk).click(timeout=PRESS)


def intruders(page: Page, desk: Desk) -> None:
    """Compare a family with the base weights."""
    expander = page.get_by_test_id("stExpander").filter(has_text="Against the base weights")
    if not button(page, "Compare with the base").count() or not button(page, "Compare with the base").is_visible():
        press(expander.locator("summary"))
        page.wait_for_timeout(500)
    press(button(page, "Compare with the base"))


# Adapter


def open_demo(page: Page, desk: Desk) -> None:
    press(page.get_by_test_id("stButtonGroup").get_by_text("Demo", exact=True))
    rested(page)
    one_of(page.get_by_test_id("stRadio").locator("label:has(input)"), desk).click(timeout=PRESS)


def open_path(page: Page, desk: Desk) -> None:
    """The synthetic adapter by its path, and the base model that it was made on."""
    press(page.get_by_test_id("stButtonGroup").get_by_text("Folder", exact=True))
    rested(page)
    path = ready(field(page, "Adapter folder"))
    path.fill(str(desk.adapter), timeout=PRESS)
    press(page.get_by_test_id("stBaseButton-primaryFormSubmit"))
    rested(page)
    ready(field(page, "Model folder, GGUF file or hub id")).fill(str(desk.base), timeout=PRESS)
    press(button(page, "Use this base"))


def estimate(page: Page, desk: Desk) -> None:
    press(button(page, "Estimate memory"))


def unfold(page: Page, desk: Desk) -> None:
    one_of(page.get_by_test_id("stExpander").locator("summary"), desk).click(timeout=PRESS)


# Evaluate


def filter_history(page: Page, desk: Desk) -> None:
    press(page.get_by_test_id("stButtonGroup").get_by_text("History", exact=True))
    rested(page)
    words = ready(field(page, "Filter"))
    words.fill(desk.rng.choice(WORDS), timeout=PRESS)
    words.press("Enter")
    rested(page)
    name = desk.rng.choice(("Other adapters too", "Proofs only"))
    press(page.get_by_test_id("stCheckbox").filter(has_text=name).locator("label"))


def search_answers(page: Page, desk: Desk) -> None:
    press(page.get_by_test_id("stButtonGroup").get_by_text("Answers", exact=True))
    rested(page)
    words = ready(field(page, "Search"))
    words.fill(desk.rng.choice(("", "the", "no word of any question")), timeout=PRESS)
    words.press("Enter")


def look_at(*views: str) -> Callable[[Page, Desk], None]:
    def act(page: Page, desk: Desk) -> None:
        press(page.get_by_test_id("stButtonGroup").get_by_text(desk.rng.choice(views), exact=True))

    return act


def prove(page: Page, desk: Desk) -> None:
    """A proof on a few rows, with one random control."""
    rows = ready(field(page, "Held-out rows"))
    if tiny_is_open(page):
        rows.fill(str(desk.held_out), timeout=PRESS)
        rows.press("Enter")
        rested(page)
    number(page, "Examples", desk.rng.randint(3, 5))
    number(page, "Random controls", 1)
    press(button(page, "Prove it"))


# Export


def export(page: Page, desk: Desk) -> None:
    folder = ready(field(page, "New folder"))
    folder.fill(str(desk.exports / uuid4().hex), timeout=PRESS)
    press(button(page, "Write and verify"))
    page.get_by_text("Byte-equal").wait_for(timeout=LONG)


def reload_with_peft(page: Page, desk: Desk) -> None:
    press(button(page, "Reload with PEFT and compare"))


# Paper, and any other page with rows of buttons


def groups(page: Page, desk: Desk) -> None:
    """Another choice of any row of buttons in the page."""
    one_of(page.locator("[data-testid=stButtonGroup] button"), desk).click(timeout=PRESS)


def toggle(page: Page, desk: Desk) -> None:
    one_of(page.locator("[data-testid=stCheckbox] label"), desk).click(timeout=PRESS)


def tiny_is_open(page: Page) -> bool:
    """The strip at the top names the open adapter; the demos' names begin with demo:."""
    return page.get_by_text("adapter: demo:").count() == 0


_FILE = downloads("[data-testid=stDownloadButton] button")
ACTS: dict[str, tuple[Act, ...]] = {
    "Adapter": (
        Act("demo adapter opened", 3, open_demo),
        Act("adapter opened by path, base chosen", 1, open_path),
        Act("memory estimated", 2, estimate),
        Act("section unfolded or folded", 2, unfold),
    ),
    "Geometry": (
        Act("geometry: view, family, side or measure", 8, picks(".atlas select")),
        Act("geometry: k", 4, slide_k),
        Act("geometry: marks or ratio", 2, tick),
        Act("geometry: cell clicked", 5, clicks_in('.atlas canvas[data-role="map"]')),
        Act("geometry: cells by key", 2, walks('.atlas canvas[data-role="map"]')),
        Act("figure or numbers downloaded", 2, downloads(".atlas [data-file]")),
        Act("geometry: second adapter opened or closed", 1.5, compare),
        Act("job: intruder dimensions", 0.4, intruders),
        Act("section unfolded or folded", 1, unfold),
    ),
    "Spectra": (
        Act("spectra: view", 6, presses(".spectra [data-view]")),
        Act("spectra: choice", 6, picks(".spectra select")),
        Act("spectra: figure clicked", 5, clicks_in('.spectra canvas[data-role="figure"]')),
        Act("spectra: walked by key", 3, walks('.spectra canvas[data-role="figure"]', ("Enter",))),
        Act("spectra: list sorted or opened", 3, sort_or_open),
        Act("figure or numbers downloaded", 2, downloads(".spectra [data-file]")),
        Act("stored measurement taken up", 2, use_stored),
        Act("job: small calibration", 1, calibrate),
    ),
    "Surgery": (
        Act("knob dragged", 10, drag_knob),
        Act("knob turned by key", 5, turn_by_key),
        Act("bar dragged", 8, drag_bar),
        Act("gain by hand zeroed, locked or reset", 4, set_by_hand),
        Act("undo or redo", 10, undo_or_redo),
        Act("policy chosen", 4, picks('.board select[data-role="policy"]')),
        Act("energy rule chosen", 3, picks('.board select[data-role="energy"]')),
        Act("module chosen", 3, picks('.board select[data-role="module"]')),
        Act("smallest σ set", 1, smallest_sigma),
        Act("map of gains clicked", 3, clicks_in('.board canvas[data-role="map"]')),
        Act("scope chosen", 3, scope),
        Act("history jumped in", 2, jump),
        Act("recipe kept, opened, copied or deleted", 3, recipes),
        Act("tour", 2, tour),
        Act("tab below the board", 3, tabs),
        Act("policy chosen", 6, free_policy),
        Act("job: measured, swept or answered", 1, run_the_model),
    ),
    "Evaluate": (
        Act("evaluate: view", 4, look_at("Results", "Answers", "Diagnostics", "History")),
        Act("history of runs filtered", 3, filter_history),
        Act("answers searched", 2, search_answers),
        Act("evaluate: other choice", 2, groups),
        Act("table or archive downloaded", 2, _FILE),
        Act("job: small proof", 1.2, prove),
    ),
    "Export": (
        Act("adapter exported", 1, export),
        Act("table or archive downloaded", 1.5, _FILE),
        Act("job: reloaded with PEFT", 0.5, reload_with_peft),
    ),
    "Paper": (
        Act("paper: figure, table or policy", 6, groups),
        Act("paper: toggle", 2, toggle),
        Act("table or archive downloaded", 2, _FILE),
        Act("section unfolded or folded", 1, unfold),
    ),
}
