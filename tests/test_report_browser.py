"""report.html, and the web pages where they are built, in a browser: what is pointed at, hidden and chosen is right.

Needs playwright (pip install -e '.[browser]') and a Chromium: its own, or one that is installed.
"""

import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jax
import numpy as np
import pytest

from wna_jax import Analysis, analyse, noise, statistics

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
WIDTHS = (1280, 390)
NAMES = ["a", "<img src=x onerror=\"document.title='taken'\">", "never"]
FEW: dict[str, Any] = {"num_samples": 3_000, "sampling": "independent", "batch_size": 250, "permutations": 19}


def logits(images: jax.Array) -> jax.Array:
    """The last class is never called."""
    flat = images.reshape(len(images), -1)
    templates = np.random.default_rng(0).standard_normal((3, flat.shape[1])).astype(np.float32)
    return ((flat - 0.5) @ templates.T).at[:, 2].add(-1_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        own = Path(started.chromium.executable_path)
        path = own if own.exists() else next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
        if path is None:
            pytest.skip("no Chromium: playwright install chromium")
        opened = started.chromium.launch(executable_path=str(path))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def grey() -> Analysis:
    return analyse(logits, noise.uniform((8, 8, 1)), **FEW, class_names=NAMES)


@pytest.fixture(scope="module")
def coloured() -> Analysis:
    roi = statistics.rectangle((6, 4, 3), 1, 0, 4, 4)
    return analyse(logits, noise.uniform((6, 4, 3)), **FEW, class_names=NAMES, roi=roi)


class Opened:
    """A page of some width, what it complained of, and what it asked for besides itself."""

    def __init__(self, browser: Any, address: str, width: int) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 844})
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda asked: self.requests.append(asked.url))
        self.page.goto(address)
        self.page.wait_for_load_state()

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    def point(self, k: int, share_down: float, share_across: float) -> None:
        """Moves the pointer to a place in the map of class k."""
        canvas = self.page.locator(".map canvas").nth(k)
        canvas.scroll_into_view_if_needed()
        self.page.evaluate("window.scrollBy(0, -200)")  # from under the bar
        box = canvas.bounding_box()
        self.page.mouse.move(box["x"] + share_across * box["width"], box["y"] + share_down * box["height"])

    def told(self) -> dict[str, list[str]]:
        """What is said of the pixel: by name the values, one for each channel."""
        found: dict[str, list[str]] = {}
        for item in self.page.locator("#told > span").all():
            name, value = (item.locator(tag).inner_text().strip() for tag in ("i", "b"))
            found.setdefault(name, []).append(value)
        return found

    def picture(self, k: int) -> np.ndarray:
        """The canvas of class k, RGBA [H, W, 4]."""
        canvas = ".map canvas"
        script = f"""() => {{ const c = document.querySelectorAll('{canvas}')[{k}];
            const got = c.getContext('2d').getImageData(0, 0, c.width, c.height);
            return [got.height, got.width, [...got.data]]; }}"""
        height, width, values = self.page.evaluate(script)
        return np.array(values).reshape(height, width, 4)

    def hide_below(self, standard_errors: float) -> None:
        slider = "document.getElementById('threshold')"
        self.page.evaluate(f"{slider}.value = {standard_errors}; {slider}.dispatchEvent(new Event('input'))")


@pytest.fixture
def opened(browser: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Opened, Analysis]]:
    """The page of the analysis and the width that a test names, without complaints at its end."""
    which, width = request.param
    found = request.getfixturevalue(which)
    found.save(tmp_path)
    page = Opened(browser, (tmp_path / "report.html").as_uri(), width)
    yield page, found
    assert not page.complaints
    assert page.page.title() != "taken"
    assert [url.partition(":")[0] for url in page.requests if not url.startswith("data:")] == ["file"]
    page.page.close()


def at_widths(which: str) -> Any:
    return pytest.mark.parametrize("opened", [(which, width) for width in WIDTHS], indirect=True, ids=map(str, WIDTHS))


def told_numbers(page: Opened, name: str) -> np.ndarray:
    return np.array([float(text) for text in page.told()[name]])


@at_widths("grey")
def test_the_pixel_under_the_pointer_tells_the_numbers_of_the_run(opened: tuple[Opened, Analysis]) -> None:
    page, found = opened
    assert page.overflow <= 0
    for response, name in enumerate(found.first):
        page.page.locator("#response input").nth(response).check()
        maps, posterior = found.maps[name], found.posterior(name)
        assert posterior
        for k, row, column in [(0, 0, 0), (1, 7, 7), (1, 2, 5)]:
            page.point(k, (row + 0.5) / 8, (column + 0.5) / 8)
            told, place = page.told(), (k, row, column, 0)
            assert (told[""][0], told["row"], told["column"]) == (NAMES[k], [f"{row}"], [f"{column}"])
            for label, values in [
                ("value", maps.images),
                ("standard error", maps.standard_error),
                ("z", found.z[name]),
            ]:
                assert told_numbers(page, label) == pytest.approx(values[place], rel=6e-4)
            inside = found.findings(name).significant["pixels"]
            assert ("significant" in told[""]) == bool(inside is not None and inside[place])
        page.page.locator("#kind input").nth(1).check()
        assert told_numbers(page, "posterior mean") == pytest.approx(posterior.images[place], rel=6e-4)
        assert told_numbers(page, "posterior deviation") == pytest.approx(posterior.standard_deviation[place], rel=6e-4)
        assert "z" not in page.told()
        page.page.locator("#kind input").nth(0).check()
    page.page.locator("#response input").nth(0).check()
    assert page.page.locator(".card").nth(2).locator(".none").inner_text() == "empty: no sample"


@at_widths("grey")
def test_the_slider_hides_what_is_below_it_and_nothing_else(opened: tuple[Opened, Analysis]) -> None:
    page, found = opened
    z = found.maps["decision"].in_standard_errors[0, ..., 0]
    page.hide_below(0)
    whole = page.picture(0)
    assert (whole[..., 3] == 255).all()
    page.hide_below(2)
    hidden = page.picture(0)
    np.testing.assert_array_equal(hidden[..., 3] == 255, np.abs(z) >= 2)
    np.testing.assert_array_equal(hidden[np.abs(z) >= 2], whole[np.abs(z) >= 2])
    assert 0 < (np.abs(z) < 2).sum() < z.size
    assert page.page.locator("#hidden").inner_text() == "2.0"
    page.page.locator("#threshold").focus()
    page.page.keyboard.press("ArrowRight")
    assert page.page.locator("#hidden").inner_text() == "2.1"
    red, blue = whole[np.unravel_index(z.argmax(), z.shape)], whole[np.unravel_index(z.argmin(), z.shape)]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


@at_widths("grey")
def test_maps_answer_to_the_keyboard(opened: tuple[Opened, Analysis]) -> None:
    page, found = opened
    page.page.locator(".map canvas").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp"):
        page.page.keyboard.press(key)
    assert (page.told()["row"], page.told()["column"]) == (["1"], ["1"])
    assert told_numbers(page, "value") == pytest.approx(found.maps["decision"].images[0, 1, 1, 0], rel=6e-4)


@at_widths("coloured")
def test_maps_in_colour_tell_each_channel(opened: tuple[Opened, Analysis]) -> None:
    page, found = opened
    maps = found.maps["decision"]
    assert page.overflow <= 0
    page.point(1, 2.5 / 6, 1.5 / 4)
    assert told_numbers(page, "value") == pytest.approx(maps.images[1, 2, 1].data, rel=6e-4)
    assert page.told()["channel"] == ["red", "green", "blue"]
    whole = page.picture(1)
    assert {*np.unique(whole[1:5, :, 3]), *np.unique(whole[[0, 5], :, 3])} == {255, 90}  # the region, and around it
    page.page.locator("#channel").select_option("blue")
    assert told_numbers(page, "value") == pytest.approx(maps.images[1, 2, 1, 2], rel=6e-4)
    page.hide_below(1)
    drawn = page.picture(1)[..., 3] > 0
    np.testing.assert_array_equal(drawn, np.abs(maps.in_standard_errors[1, ..., 2]) >= 1)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_web_pages_fit_and_raise_no_error(browser: Any, width: int) -> None:
    site = ROOT / "site"
    if not (site / "index.html").exists():
        pytest.skip("the pages are not built: make docs")
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for name in ("", "networks/", "contributing/"):
            page = Opened(browser, f"http://127.0.0.1:{server.server_port}/{name}", width)
            assert not page.complaints
            assert page.overflow <= 0
            page.page.close()
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass
