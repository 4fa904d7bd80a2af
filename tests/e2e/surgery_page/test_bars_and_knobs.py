"""Bars, gains, knobs and the scope, by mouse and by keys."""

import re
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from surgery import Sensitivity, Spectrum, make_edit
from surgery.edits import EditPlan, LayerGroups, expected, preview
from surgery.policies import GradDirection
from tests.e2e.driving import no_message_of_failure, rested
from tests.e2e.surgery_page.board import (
    SOON,
    Open,
    at,
    bars,
    button,
    confirmed,
    count,
    expectation,
    first_order,
    gain,
    gain_field,
    gain_of,
    slider,
)

# how figures.mjs lays out its bars, in CSS pixels
LEFT, RIGHT, TOP, BOTTOM, ROOM = 46, 6, 8, 48, 1.08


def shown(value: float, error: float) -> str:
    return f"{'−' if value < 0 else '+'}{abs(value):.4f} ± {error:.4f}"


def first_module(spectra: dict[str, Spectrum]) -> str:
    """The module that the board opens with: the first residual writer of the file."""
    return next(name for name in spectra if name.endswith(("o_proj", "down_proj")))


def over_bar(page: Page, component: int, rank: int) -> tuple[float, Callable[[float, float], float]]:
    """The x of a component's column, and the y at which a σ stands when the axis ends at `high`."""
    bars(page).scroll_into_view_if_needed()
    box = bars(page).bounding_box()
    assert box is not None
    cell = (box["width"] - LEFT - RIGHT) / rank
    room = box["height"] - TOP - BOTTOM
    x = box["x"] + LEFT + (component + 0.5) * cell
    return x, lambda sigma, high: box["y"] + TOP + room * (1 - sigma / high)


def drag_bar(page: Page, component: int, sigma: np.ndarray, after: np.ndarray, target: float) -> None:
    """Pull the bar of `component` to height `target`, which lies below the highest bar."""
    x, y = over_bar(page, component, sigma.size)
    high = ROOM * max(sigma.max(), after.max())
    page.mouse.move(x, y(after[component], high) + 2)
    page.mouse.down()
    page.mouse.move(x, y(target, high), steps=10)
    expect(page.locator('.board [data-role="tip"]')).to_be_hidden()  # it told the gain from before the pull
    confirmed(page, page.mouse.up)


def test_a_dragged_knob_repaints_all_the_way_and_ends_at_the_number_the_library_gives(
    opened: Open, spectra: dict[str, Spectrum], sensitivity: Sensitivity
) -> None:
    page = opened()
    knob = slider(page, "eta_suppress")
    before = expectation(page).inner_text()
    box = knob.bounding_box()
    assert box is not None
    low, high, value = (float(knob.get_attribute(name) or 0) for name in ("min", "max", "value"))
    value = float(knob.input_value())
    thumb = 16  # the width of Chromium's own
    x0 = box["x"] + thumb / 2 + (box["width"] - thumb) * (value - low) / (high - low)
    y = box["y"] + box["height"] / 2
    x1 = box["x"] + box["width"] - thumb
    page.mouse.move(x0, y)
    rested(page)  # the table of this knob is on its way to the page
    page.mouse.down()
    seen, promised = set(), set()
    for move in range(1, 41):
        page.mouse.move(x0 + (x1 - x0) * move / 40, y)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        seen.add(expectation(page).inner_text())
        promised.add(first_order(page).inner_text())
    repaints = count(page, "drag")
    assert repaints >= 30
    # the promise of the calibration rows changes with every step, the expectation with every third or fourth
    assert len(promised) >= 20
    assert len(seen - {before}) >= 10
    assert count(page, "confirm") == 0
    confirmed(page, page.mouse.up)

    chosen = float(knob.input_value())
    assert chosen > value + 3
    plan = EditPlan(GradDirection(eta_suppress=round(chosen, 9)))
    edit = plan.apply(spectra, sensitivity)
    numbers = preview(edit, sensitivity)
    assert numbers is not None
    told = expected(plan, spectra, sensitivity)
    assert expectation(page).inner_text() == shown(told.mean, told.standard_error)
    assert shown(numbers.predicted, numbers.standard_error) in first_order(page).inner_text()
    # Σ ḡₖ(σ′ₖ − σₖ), summed here once more
    change = sum(
        float(sensitivity.values[name].mean(axis=0) @ (module.sigma_after - module.sigma))
        for name, module in edit.modules.items()
    )
    assert change == pytest.approx(numbers.predicted, rel=1e-9)
    at(page, 2, "eta_suppress")
    no_message_of_failure(page)


def test_a_family_is_scaled_with_a_slider_the_expectation_follows_and_undo_takes_it_back(
    opened: Open, spectra: dict[str, Spectrum], sensitivity: Sensitivity
) -> None:
    page = opened()
    page.locator(".board summary").click()
    family = slider(page, "family: o_proj")
    family.scroll_into_view_if_needed()
    box = family.bounding_box()
    assert box is not None
    y, x0, x1 = box["y"] + box["height"] / 2, box["x"] + 8, box["x"] + box["width"] - 8
    page.mouse.move((x0 + x1) / 2, y)
    rested(page)
    before = expectation(page).inner_text()
    page.mouse.down()
    seen = set()
    for move in range(1, 21):
        page.mouse.move((x0 + x1) / 2 - (x1 - x0) * move / 50, y)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        seen.add(expectation(page).inner_text())
    assert count(page, "confirm") == 0
    assert len(seen - {before}) >= 8
    dragged = expectation(page).inner_text()
    confirmed(page, page.mouse.up)
    chosen = float(family.input_value())
    assert chosen < 0.5
    told = expected(EditPlan(GradDirection(), groups=LayerGroups({"o_proj": chosen})), spectra, sensitivity)
    assert dragged == expectation(page).inner_text() == shown(told.mean, told.standard_error)
    at(page, 2, f"o_proj ×{chosen:g}")
    expect(page.locator('.board [data-role="groups-told"]')).to_have_text(f"o_proj ×{chosen:g}")
    confirmed(page, button(page, "undo").click)
    assert (expectation(page).inner_text(), family.input_value()) == (before, "1")
    no_message_of_failure(page)


def test_the_strength_is_dragged_and_the_expectation_and_its_doubts_follow(
    opened: Open, spectra: dict[str, Spectrum], sensitivity: Sensitivity
) -> None:
    page = opened()
    strength = slider(page, "strength")
    box = strength.bounding_box()
    assert box is not None
    y, x0, x1 = box["y"] + box["height"] / 2, box["x"] + 8, box["x"] + box["width"] - 8
    page.mouse.move(x0 + (x1 - x0) / 1.5, y)
    rested(page)
    before = expectation(page).inner_text()
    page.mouse.down()
    seen = set()
    for move in range(1, 21):
        page.mouse.move(x0 + (x1 - x0) * (2 / 3 + move / 60), y)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        seen.add(expectation(page).inner_text())
    assert count(page, "confirm") == 0
    assert len(seen - {before}) >= 8
    dragged = expectation(page).inner_text()
    confirmed(page, page.mouse.up)
    chosen = float(strength.input_value())
    assert chosen == 1.5
    told = expected(EditPlan(GradDirection(), strength=chosen), spectra, sensitivity)
    assert told.doubts
    assert dragged == expectation(page).inner_text() == shown(told.mean, told.standard_error)
    for doubt in told.doubts:
        expect(page.locator('.board [data-role="doubts"]')).to_contain_text(doubt)
    at(page, 2, "strength 1.5")
    no_message_of_failure(page)


def test_a_dragged_bar_ends_where_it_was_dropped_and_is_listed_as_by_hand(
    opened: Open, spectra: dict[str, Spectrum], sensitivity: Sensitivity
) -> None:
    page = opened()
    name = first_module(spectra)
    sigma = spectra[name].sigma
    after = make_edit(spectra, GradDirection(), sensitivity=sensitivity).modules[name].sigma_after
    expect(button(page, "reset-all")).to_be_disabled()
    for number, (component, wanted) in enumerate([(0, 0.9), (2, 0.5)], start=2):
        drag_bar(page, component, sigma, after, wanted * sigma[component])
        expect(page.locator('.board [data-role="picked"]')).to_have_text(f"component {component}")
        # a pixel of the axis is up to a hundredth of the gain here
        assert gain(page) == pytest.approx(wanted, abs=0.02)
        at(page, number, f"by hand layer 0 down_proj #{component}")
        after = np.array([gain_of(page, k) for k in range(sigma.size)]) * sigma
    # the energy rule rescales the others, not what the hand has set before
    assert gain_of(page, 0) == pytest.approx(0.9, abs=0.02)
    assert after.sum() == pytest.approx(sigma.sum(), rel=2e-3)
    x, y = over_bar(page, 2, sigma.size)
    page.mouse.move(x, y(0.1 * sigma.max(), ROOM * sigma.max()))
    expect(page.locator('.board [data-role="tip"]')).to_contain_text("by hand:")
    expect(button(page, "reset-all")).to_be_enabled()
    confirmed(page, button(page, "reset-all").click)
    expect(button(page, "reset-all")).to_be_disabled()
    at(page, 4, "reset all by hand")
    no_message_of_failure(page)


def test_a_component_is_zeroed_locked_and_released(opened: Open) -> None:
    page = opened()
    confirmed(page, lambda: page.locator('.board select[data-role="energy"]').select_option("none"))
    policy = gain_of(page, 0)
    confirmed(page, button(page, "silence").click)
    assert gain(page) == 0
    assert "1 zeroed" in page.locator(".board .numbers").inner_text()
    confirmed(page, button(page, "reset").click)
    assert gain(page) == policy

    kept, free = gain_of(page, 3), gain_of(page, 4)
    gain_of(page, 3)
    confirmed(page, button(page, "lock").click)
    confirmed(page, lambda: page.locator('.board select[data-role="policy"]').select_option("abs_select"))
    assert gain_of(page, 4) != free
    assert gain_of(page, 3) == kept
    confirmed(page, button(page, "reset").click)
    assert gain(page) in (0.8, 1.0, 1.25)
    at(page, 7, "reset")
    no_message_of_failure(page)


def test_a_scope_is_chosen_by_families_and_layers_and_its_scalars_are_counted(opened: Open) -> None:
    page = opened()
    scalars = page.locator(".board .numbers dd").nth(1)
    expect(scalars).to_have_text("960")
    page.get_by_role("button", name="Scope: residual").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="all: 3,360 scalars")).to_be_visible(timeout=SOON)
    dialog.get_by_role("tab", name="Families and layers").click()
    dialog.get_by_role("button", name="down_proj", exact=True).click()
    expect(dialog.get_by_role("button", name="Edit these 30 modules: 480 scalars")).to_be_visible(timeout=SOON)
    first, last = dialog.get_by_role("slider").all()
    for thumb, key, moves in ((first, "ArrowRight", 10), (last, "ArrowLeft", 9)):
        thumb.focus()
        for _ in range(moves):
            thumb.press(key)
    ask = dialog.get_by_role("button", name="Edit these 11 modules: 176 scalars")
    expect(ask).to_be_visible(timeout=SOON)
    rested(page)
    ask.click()
    expect(scalars).to_have_text("176", timeout=SOON)
    at(page, 2, "scope")
    page.wait_for_timeout(1500)  # and it stays: nothing that comes late takes it back
    at(page, 2, "scope")
    expect(scalars).to_have_text("176")
    labels = page.locator('.board select[data-role="module"] option').all_inner_texts()
    assert labels == [f"layer {layer} · o_proj (o_proj)" for layer in range(10, 21)]

    page.get_by_role("button", name="Scope:").click()
    page.get_by_role("dialog").get_by_role("button", name="all: 3,360 scalars").click()
    expect(scalars).to_have_text("3,360", timeout=SOON)
    page.keyboard.press("Control+z")
    expect(scalars).to_have_text("176", timeout=SOON)
    no_message_of_failure(page)


def test_bars_are_worked_by_keyboard_alone(opened: Open) -> None:
    page = opened()
    confirmed(page, lambda: page.locator('.board select[data-role="energy"]').select_option("none"))
    for _ in range(60):
        if (
            page.evaluate(
                "() => { let at = document.activeElement; while (at?.shadowRoot) at = at.shadowRoot.activeElement;"
                " return at?.dataset?.role }"
            )
            == "bars"
        ):
            break
        page.keyboard.press("Tab")
    else:
        raise AssertionError("Tab never reaches the bars")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(page.locator('.board [data-role="picked"]')).to_have_text("component 2")
    policy = gain(page)
    confirmed(page, lambda: page.keyboard.press("Delete"))
    expect(gain_field(page)).to_have_value("0.000")
    expect(bars(page)).to_have_attribute("aria-label", re.compile("Component 2: σ .*, gain 0.000"))
    confirmed(page, lambda: page.keyboard.press("Backspace"))
    expect(gain_field(page)).to_have_value(f"{policy:.3f}")
    confirmed(page, lambda: page.keyboard.press("ArrowUp"))
    assert gain(page) == pytest.approx(round(policy + 0.05, 2), abs=0.006)
    confirmed(page, lambda: page.keyboard.press("ArrowDown"))
    assert gain(page) == pytest.approx(policy, abs=0.011)
    confirmed(page, lambda: page.keyboard.press("Backspace"))
    confirmed(page, lambda: page.keyboard.press("l"))
    page.keyboard.press("ArrowLeft")
    expect(page.locator('.board [data-role="picked"]')).to_have_text("component 1")
    at(page, 8, "lock")
    no_message_of_failure(page)
