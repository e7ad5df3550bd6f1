"""The report in a real browser: it opens from a file, asks for nothing, complains of nothing, and fits a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from burnish.report import verdict, write_report
from test_report import HOSTILE, full_report, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium was found: apt-get install chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report_html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page with everything a report can have, long words and every hostile text among its examples."""
    run, report = write_run(tmp_path_factory.mktemp("run")), full_report()
    report["examples"] += [{"prompt": text, "expected": "x", "base": text, "tuned": text, "origin": text} for text in HOSTILE]
    report["examples"].append({"prompt": "w" * 3000, "expected": "y" * 400, "base": "", "tuned": "z" * 400, "origin": "/long" * 60})
    report["run"]["name"] = "runs/" + "a-very-long-name" * 12
    report["verdict"] = verdict(report["scores"], report["headline"])
    write_report(run, report)
    return run.report_html


def watched(browser: Any, html: Path, **options: Any) -> tuple[Any, list[str]]:
    """Open a page and return it with what it asked for, said and raised."""
    view, events = browser.new_page(**options), []
    view.on("console", lambda message: events.append(f"console: {message.text}"))
    view.on("pageerror", lambda error: events.append(f"error: {error}"))
    view.on("dialog", lambda dialog: (events.append("dialog"), dialog.dismiss()))
    view.on("request", lambda request: events.append(f"request: {request.url}"))
    view.goto(html.as_uri())
    return view, events


def test_opens_from_a_file_and_asks_for_nothing(browser: Any, report_html: Path) -> None:
    """Reliability: the hostile corpus runs nothing, loads nothing, and the page's own style is the only one that applies."""
    view, events = watched(browser, report_html)
    assert events == [f"request: {report_html.as_uri()}"]
    assert view.evaluate("document.styleSheets.length") == 1
    assert view.evaluate("document.querySelectorAll('script, iframe, img, link, object, form, a').length") == 0
    view.close()


@pytest.mark.parametrize("width", [320, 390, 768, 960, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_the_screen(browser: Any, report_html: Path, width: int, scheme: Any) -> None:
    view, _ = watched(browser, report_html, viewport={"width": width, "height": 900}, color_scheme=scheme)
    view.evaluate("document.querySelectorAll('details').forEach(section => { section.open = true })")
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.evaluate("[...document.querySelectorAll('h1, h2, svg')].every(one => one.getBoundingClientRect().width > 20)")
    assert view.evaluate("[...document.querySelectorAll('svg')].every(one => one.getBoundingClientRect().right <= innerWidth)")
    assert all(heading.is_visible() for heading in view.query_selector_all("h2"))
    view.close()


def test_light_and_dark_are_both_readable(browser: Any, report_html: Path) -> None:
    """Text of every kind has a contrast of 4.5 to 1 with what is behind it (WCAG 2.2, 1.4.3), in both colour schemes."""
    for scheme in ("light", "dark"):
        view, _ = watched(browser, report_html, color_scheme=scheme)
        assert view.evaluate(CONTRAST) == [], scheme
        view.close()


CONTRAST = """() => {
  const numbers = colour => colour.match(/[0-9.]+/g).map(Number);
  const light = colour => {
    const [r, g, b] = numbers(colour).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = one => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const faults = new Set();
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !one.getBoundingClientRect().width) continue;
    const style = getComputedStyle(one), ink = one.ownerSVGElement ? style.fill : style.color;
    const [a, b] = [light(ink), light(behind(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faults.add(`${one.tagName}.${one.getAttribute('class')} ${ink} on ${behind(one)}`);
  }
  return [...faults];
}"""


def test_sections_open_with_the_keyboard(browser: Any, report_html: Path) -> None:
    view, _ = watched(browser, report_html)
    section = view.locator("details.section", has_text="Resolved run file")
    assert not section.evaluate("one => one.open")
    section.locator("summary").first.focus()
    view.keyboard.press("Enter")
    assert section.evaluate("one => one.open") and section.locator("pre").is_visible()
    view.close()


def test_paper_shows_what_is_folded(browser: Any, report_html: Path) -> None:
    view, _ = watched(browser, report_html)
    view.emulate_media(media="print")
    assert view.locator("details.section", has_text="Environment").locator("pre").bounding_box()["height"] > 20
    view.close()
