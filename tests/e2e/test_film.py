"""The film of a real training under a person's hand: play, scrub, keys, a module, downloads, a phone's width."""

import csv
import io
import re

from playwright.sync_api import Browser, Locator, Page, expect

from surgery.adapter_sets import film_means, open_set, training_film
from tests.e2e.driving import fresh, no_message_of_failure, rested

SOON = 30_000


def open_film(page: Page, app_url: str) -> None:
    page.goto(fresh(app_url, "many"))
    page.get_by_role("button", name="demo:kinship-training").click(timeout=60_000)
    page.get_by_role("tab", name="Training film").click(timeout=60_000)
    told(page, "step 4 (1 of 5)")
    rested(page)


def the_map(page: Page) -> Locator:
    return page.locator('.film canvas[data-role="cells"]')


def told(page: Page, words: str) -> None:
    expect(the_map(page)).to_have_attribute("aria-label", re.compile(re.escape(words)), timeout=60_000)


def test_a_real_training_is_played_and_scrubbed_without_asking_the_server(page: Page, app_url: str) -> None:
    sent: list[object] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    open_film(page, app_url)
    adapters = open_set("demo:kinship-training")
    (checkpoints,) = adapters.trainings.values()
    means = film_means(training_film(adapters, checkpoints), "last", "cell", k=2)
    before = len(sent)
    the_map(page).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    family, layer = means.groups[1]
    told(page, f"step 8 (2 of 5). layer {layer} · {family}: {means.values[1, 1]:.4g}")
    page.keyboard.press("End")
    told(page, "step 64 (5 of 5)")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    told(page, "step 64 (5 of 5)")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.locator('.film select[data-role="measure"]').select_option("angle")
    page.locator('.film input[data-role="k"]').fill("0")
    page.locator('.film input[data-role="step"]').fill("2")
    told(page, "Turn of one component, component 1, output side, step 16 (3 of 5)")
    # the first click on a curve is where the training starts
    page.locator('.film canvas[data-role="sigma"]').click(position={"x": 44, "y": 100})
    told(page, "step 4 (1 of 5)")
    assert len(sent) == before
    with page.expect_download(timeout=SOON) as waiting:
        page.get_by_role("button", name="CSV", exact=True).click()
    rows = list(csv.DictReader(io.StringIO(waiting.value.path().read_text(encoding="utf-8"))))
    assert len(rows) == 60 * 5
    assert {(row["measure"], row["k"]) for row in rows} == {("angle", "1")}
    with page.expect_download(timeout=SOON) as waiting:
        page.get_by_role("button", name="SVG", exact=True).click()
    assert "Step 4: Turn of one component" in waiting.value.path().read_text(encoding="utf-8")
    no_message_of_failure(page)


def test_who_asks_for_less_motion_steps_by_hand_and_a_phone_shows_it_all(browser: Browser, app_url: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    open_film(page, app_url)
    page.get_by_role("button", name="Next step").click()
    told(page, "step 8 (2 of 5)")
    page.wait_for_timeout(1500)
    told(page, "step 8 (2 of 5)")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    for role in ("cells", "families", "sigma", "turns"):
        box = page.locator(f'.film canvas[data-role="{role}"]').bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    context.close()
