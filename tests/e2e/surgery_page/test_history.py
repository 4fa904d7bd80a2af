"""Undo, redo, reloads, second visits and copied addresses."""

from pathlib import Path

from playwright.sync_api import expect

from tests.e2e.driving import no_message_of_failure, rested, workspace_id
from tests.e2e.surgery_page.board import SOON, Open, Visit, at, confirmed, drawn, expectation, slider


def test_twenty_changes_are_undone_and_redone_by_keys(opened: Open) -> None:
    page = opened()
    knob = slider(page, "eta_suppress")
    knob.focus()
    rested(page)
    numbers = [expectation(page).inner_text()]
    for step in range(2, 22):
        confirmed(page, lambda: knob.press("ArrowRight"))
        at(page, step, "eta_suppress")
        numbers.append(expectation(page).inner_text())
    assert len(set(numbers)) > 15
    for step in range(20, 0, -1):
        page.keyboard.press("Control+z")
        at(page, step)
        expect(expectation(page)).to_have_text(numbers[step - 1], timeout=SOON)
    assert float(knob.input_value()) == 2.0
    for step in range(2, 22):
        page.keyboard.press("Control+Shift+Z")
        at(page, step)
        expect(expectation(page)).to_have_text(numbers[step - 1], timeout=SOON)
    assert float(knob.input_value()) == 4.0
    no_message_of_failure(page)


def test_changes_made_faster_than_the_server_answers_are_all_in_the_history(opened: Open) -> None:
    page = opened()
    knob = slider(page, "eta_suppress")
    knob.focus()
    for _ in range(20):
        knob.press("ArrowRight")
    at(page, 21, "eta_suppress 4")
    assert float(knob.input_value()) == 4.0
    no_message_of_failure(page)


def test_a_reloaded_and_a_reopened_page_find_the_workspace_again_and_a_second_visitor_starts_afresh(
    opened: Open, visit: Visit, app_url: str, app_home: Path, tmp_path: Path
) -> None:
    for file in (app_home / "workspaces").glob("*.json"):
        file.rename(tmp_path / file.name)  # what other tests left would be taken up by a visit
    page = opened()
    knob = slider(page, "eta_suppress")
    for _ in range(3):
        confirmed(page, lambda: knob.press("ArrowRight"))
    at(page, 4)
    mine, number = workspace_id(page), expectation(page).inner_text()
    page.reload()
    drawn(page)
    at(page, 4, "eta_suppress")
    assert (workspace_id(page), expectation(page).inner_text()) == (mine, number)
    page.keyboard.press("Control+z")
    at(page, 3)
    page.keyboard.press("Control+Shift+Z")
    at(page, 4)

    page.context.close()
    again = visit()
    again.wait_for_timeout(3000)  # the server notices that the page has gone
    again.goto(f"{app_url}/surgery")
    drawn(again)
    at(again, 4)
    assert (workspace_id(again), expectation(again).inner_text()) == (mine, number)

    other = visit()
    other.goto(f"{app_url}/surgery")
    drawn(other)
    assert workspace_id(other) != mine
    other.locator('.board select[data-role="policy"]').select_option("scale")
    at(other, 2, "policy scale")
    confirmed(again, lambda: slider(again, "eta_suppress").press("ArrowRight"))
    at(again, 5)
    for each, step in ((other, 2), (again, 5)):
        each.reload()
        expect(each.locator(".board .numbers dd").first).to_be_visible(timeout=SOON)
        at(each, step)
    expect(other.locator('.board select[data-role="policy"]')).to_have_value("scale")
    expect(again.locator('.board select[data-role="policy"]')).to_have_value("grad_direction")


def test_the_address_of_a_page_that_is_open_gives_a_copy(opened: Open, visit: Visit, app_url: str) -> None:
    page = opened()
    confirmed(page, lambda: slider(page, "eta_suppress").press("ArrowRight"))
    number = expectation(page).inner_text()
    copy = visit()
    copy.goto(page.url)
    drawn(copy)
    at(copy, 2)
    assert expectation(copy).inner_text() == number
    assert workspace_id(copy) != workspace_id(page)
    confirmed(copy, lambda: slider(copy, "eta_suppress").press("ArrowRight"))
    page.reload()
    drawn(page)
    at(page, 2)
    assert expectation(page).inner_text() == number
