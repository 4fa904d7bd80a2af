"""The README's looped picture: a knob is dragged, a bar is pulled, both are undone.

python -m tests.e2e.looped_picture    # writes assets/screenshots/surgery.webp
"""

import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.browser import find_chromium
from tests.e2e.driving import FLAGS, LISTEN, ROOT, fresh, rested, serving
from tests.e2e.surgery_page.board import bars, button, confirmed, drawn, slider

SIZE = (960, 600)
FRAME, REST = 110, 440  # milliseconds
# a picture of a page does not show the mouse
POINTER = """
document.addEventListener("mousemove", ({ clientX, clientY }) => {
  let dot = document.querySelector("#pointer")
  if (!dot) {
    dot = Object.assign(document.createElement("div"), { id: "pointer" })
    dot.style = "position:fixed;z-index:1e6;width:18px;height:18px;margin:-9px;border-radius:9px;" +
      "background:#e07a1f99;border:2px solid #fff;pointer-events:none"
    document.body.append(dot)
  }
  dot.style.left = clientX + "px"
  dot.style.top = clientY + "px"
}, true)
"""
Frame = tuple[Image.Image, int]


def picture(page: Page, ms: int = FRAME) -> Frame:
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    image = Image.open(io.BytesIO(page.screenshot(type="png")))
    return image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS), ms


def drag(page: Page, start: tuple[float, float], stops: list[tuple[float, float]], steps: int) -> Iterator[Frame]:
    """Press at `start`, go from stop to stop in `steps` each, and let go."""
    x, y = start
    page.mouse.move(x, y)
    page.mouse.down()
    for to_x, to_y in stops:
        for step in range(1, steps + 1):
            page.mouse.move(x + (to_x - x) * step / steps, y + (to_y - y) * step / steps)
            yield picture(page)
        x, y = to_x, to_y
    confirmed(page, page.mouse.up)
    yield picture(page, REST)


def scene(page: Page) -> Iterator[Frame]:
    page.mouse.move(640, 100)
    yield picture(page, REST)
    knob = slider(page, "eta_suppress").bounding_box()
    sheet = bars(page).bounding_box()
    assert knob is not None
    assert sheet is not None
    left, width, y = knob["x"] + 8, knob["width"] - 16, knob["y"] + knob["height"] / 2
    slider(page, "eta_suppress").hover()
    page.wait_for_timeout(1000)  # its table is fetched
    value, high = (float(slider(page, "eta_suppress").get_attribute(name) or 0) for name in ("value", "max"))
    at = left + width * value / high
    yield from drag(page, (at, y), [(left + width * 0.9, y), (left + width * 0.15, y)], 10)
    column = sheet["x"] + 46 + (sheet["width"] - 52) * 2.72 / 16  # the new σ of component 2
    foot = sheet["y"] + sheet["height"] - 48
    yield from drag(page, (column, foot - 40), [(column, foot - 135), (column, foot - 12)], 7)
    for _ in range(2):
        confirmed(page, button(page, "undo").click)
        yield picture(page, REST)


def main() -> None:
    path = find_chromium()
    if path is None:
        sys.exit("no Chromium found: `make browser` installs one")
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
        context.add_init_script(LISTEN + POINTER)
        page = context.new_page()
        page.goto(fresh(url, "surgery"))
        drawn(page)
        expect(page.locator(".board")).to_be_visible()
        rested(page)
        images, times = zip(*scene(page), strict=True)
        browser.close()
    target = ROOT / "assets" / "screenshots" / "surgery.webp"
    images[0].save(
        target, save_all=True, append_images=images[1:], duration=list(times), loop=0, quality=60, method=6
    )
    print(
        f"{target.relative_to(ROOT)}: {len(images)} frames, {sum(times) / 1000:.1f} s, {target.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
