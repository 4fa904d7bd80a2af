"""A search on the page: its front is drawn, a trial of it is clicked, kept and opened on the board."""

import re

from playwright.sync_api import expect

from tests.e2e.driving import LONG, fresh, no_message_of_failure, rested, until
from tests.e2e.surgery_page.board import SOON, Visit, at, drawn


def test_a_trial_of_a_search_is_clicked_kept_and_opened_on_the_board(visit: Visit, app_url: str) -> None:
    page = visit()
    page.goto(fresh(app_url, "surgery"))
    drawn(page)
    page.get_by_role("tab", name="Search").click()
    rested(page)
    for name, number in (("Rows", "3"), ("Trials at most", "2")):
        page.get_by_role("spinbutton", name=name).fill(number)
        page.get_by_role("spinbutton", name=name).press("Tab")
        rested(page)
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_text("2 trials looked at")).to_be_visible(timeout=LONG)
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0, timeout=LONG)
    rested(page)
    points = page.locator(".js-plotly-plot .scatterlayer .points path")
    expect(points).to_have_count(3, timeout=SOON)  # two trials and the unedited adapter
    box = points.first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    rested(page)
    page.get_by_role("button", name="Keep as a recipe").last.click()
    expect(page.get_by_text("Kept recipes")).to_be_visible(timeout=SOON)
    rested(page)
    choice = page.get_by_role("option", name="trial 2")

    def offered() -> bool:  # a list that a late redraw closed is opened again
        page.get_by_role("combobox", name=re.compile("Trial")).click()
        page.wait_for_timeout(500)
        return choice.is_visible()

    until(offered)
    choice.click()
    rested(page)
    page.get_by_role("button", name="Open on the board").click()
    at(page, 2, "trial 2 of search")
    no_message_of_failure(page)
