"""The page in a real browser: its flows, what a reload leaves, hostile texts, both colour schemes, a phone, a keyboard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from burnish.rate import Candidate, read_feedback
from burnish.serve import drafts, drafts_kept, jobs_process
from burnish.serve.engine import Engine
from burnish.serve.ratings_kept import keep_answers
from burnish.serve.settings import hash_of
from page_server import ask, finished_run, page_server
from serving import Server
from test_report import HOSTILE, data_of
from test_report_browser import CONTRAST, browser

__all__ = ["browser"]

VIEWS = ("chat", "compare", "rate", "rate/new", "runs", "new")
TESTS = Path(__file__).parent
SECONDS = 20_000
"""Milliseconds that a browser on a busy machine may take for anything."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    finished_run(folder / "runs", "first")
    with page_server(folder) as found:
        yield found


@contextmanager
def opened(browser: Any, server: Server, where: str = "chat", **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """Open a view in a browser of its own, and check at the end that it asked no other host, said nothing and raised nothing."""
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, "reduced_motion": "reduce", **options})
    context.set_default_timeout(SECONDS)
    view, events = context.new_page(), []
    view.on("console", lambda message: events.append(f"console: {message.text}"))
    view.on("pageerror", lambda error: events.append(f"error: {error}"))
    view.on("dialog", lambda dialog: (events.append("dialog"), dialog.dismiss()))
    view.on("request", lambda request: events.append(request.url) if not request.url.startswith(server.url) else None)
    go(view, server, where)
    try:
        yield view, events
        assert events == []
    finally:
        context.close()


def go(view: Any, server: Server, where: str) -> None:
    view.goto(f"{server.url}/#/{where}")
    view.locator("#main[aria-busy=false]").wait_for()


def again(view: Any) -> None:
    view.reload()
    view.locator("#main[aria-busy=false]").wait_for()


def say(view: Any, text: str) -> None:
    view.get_by_role("textbox", name="Message").fill(text)
    view.keyboard.press("Enter")


def count(view: Any, selector: str, number: int) -> None:
    view.locator(selector).nth(number - 1).wait_for()
    assert view.locator(selector).count() == number


# --------------------------------------------------------------------------------------------------------------------------- flows


def test_chat_edit_retry_and_reload(browser: Any, server: Server) -> None:
    """Chat: an answer with what it cost, edited, asked again, and all of it there after a reload."""
    with opened(browser, server) as (view, _):
        view.get_by_label("Model", exact=True).select_option("tuned")
        view.get_by_role("button", name="Settings").click()
        view.get_by_label("Longest answer").fill("12")
        view.get_by_label("Longest answer").press("Tab")
        say(view, "the order")
        count(view, ".answer[aria-busy=false]", 1)
        under = view.locator(".answer .under").inner_text()
        assert "tuned" in under and "tokens" in under and "first after" in under
        given = ask(
            server,
            "/v1/chat/completions",
            {"model": "tuned", "messages": [{"role": "user", "content": "the order"}], "max_tokens": 12},
        )
        assert view.locator(".answer .prose").text_content() == given["choices"][0]["message"]["content"]
        say(view, "another")
        count(view, ".answer[aria-busy=false]", 2)
        view.get_by_role("button", name="Edit").first.click()
        view.get_by_label("Edit your message").fill("the end")
        view.keyboard.press("Enter")
        count(view, ".answer[aria-busy=false]", 1)
        view.get_by_role("button", name="Retry").click()
        count(view, ".answer[aria-busy=false]", 1)
        view.get_by_role("textbox", name="Message").fill("not yet sent")
        again(view)
        count(view, ".answer", 1)
        assert view.locator(".bubble").inner_text() == "the end"
        assert view.get_by_role("textbox", name="Message").input_value() == "not yet sent"
        assert view.get_by_label("Model", exact=True).input_value() == "tuned"
        view.get_by_role("button", name="New chat").click()
        assert view.locator(".turn").count() == 0


def test_stop_ends_the_work_too(browser: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping an answer keeps what was said, and the server makes no more of it; so does leaving the page."""
    step = Engine._step

    def slow(self: Engine, line: Any) -> Any:
        time.sleep(0.03)
        return step(self, line)

    monkeypatch.setattr(Engine, "_step", slow)
    with opened(browser, server) as (view, _):
        say(view, "the order")
        view.locator(".answer[aria-busy=true] .prose").filter(has_text="e").wait_for()
        view.get_by_role("button", name="Stop").click()
        count(view, ".answer[aria-busy=false]", 1)
        assert "stopped" in view.locator(".answer .under").inner_text()
        assert view.locator(".answer .prose").inner_text().strip()
        assert server.idle()
        say(view, "the end")
        view.locator(".answer[aria-busy=true] .prose").filter(has_text="e").wait_for()
        again(view)
        assert view.locator(".answer").count() == 2, "half an answer is kept"
        assert server.idle(), "nobody listens any more"


def test_compare_side_by_side(browser: Any, server: Server) -> None:
    """Base, tuned, tuned with passages: the same prompt and seed, with time and tokens under each."""
    with opened(browser, server, "compare") as (view, _):
        assert [one.input_value() for one in view.locator(".pane select").all()] == ["base", "tuned", "tuned"]
        assert [one.is_checked() for one in view.locator(".pane input").all()] == [False, False, True]
        view.locator("summary", has_text="Settings").click()
        view.get_by_label("Longest answer").fill("10")
        view.get_by_label("Longest answer").press("Tab")
        view.get_by_label("Prompt", exact=True).fill("Is the counter open on Sunday?")
        view.get_by_label("Prompt", exact=True).press("Control+Enter")
        for number in range(3):
            view.locator(".pane").nth(number).locator(".cost dd").nth(3).wait_for()
        costs = [one.inner_text() for one in view.locator(".cost").all()]
        assert all("tokens/s" in cost and " in, " in cost and "s\n" in cost for cost in costs)
        texts = [one.text_content() for one in view.locator(".pane .said > .prose").all()]
        for name, text in zip(("base", "tuned"), texts, strict=False):
            message = {"role": "user", "content": "Is the counter open on Sunday?"}
            given = ask(server, "/v1/chat/completions", {"model": name, "messages": [message], "max_tokens": 10, "seed": 0})
            assert text == given["choices"][0]["message"]["content"]
        third = view.locator(".pane").nth(2)
        third.locator("summary").click()
        assert "ten to noon" in third.locator("blockquote").inner_text()
        again(view)
        assert view.locator(".pane").count() == 3 and view.get_by_label("Prompt", exact=True).input_value()


def fake_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `burnish init` and `check` answer at once, and let a process that waits for a file play the run; real ones stand in test_page."""
    start = jobs_process.start

    def carried_out(place: Path, words: list[str]) -> tuple[int, str, str]:
        if words[0] == "check":
            return 0, json.dumps(data_of("the order")), ""
        (place / words[3]).mkdir()
        (place / words[3] / "run.toml").write_text(
            'model = "tiny"\noutput = "x"\n[data]\nsource = "rows"\nformat = "feedback"\n', encoding="utf-8"
        )
        return 0, json.dumps({"why": ["The rows look like feedback."]}), ""

    def played(arguments: list[str], place: Path, *, name: str) -> int | None:
        output = json.loads((place / drafts_kept.DRAFT).read_text(encoding="utf-8"))["output"]
        return start(["fake_jobs", "tune", "waits", output], place, name=name)

    monkeypatch.setattr(drafts, "_carried_out", carried_out)
    monkeypatch.setattr(jobs_process, "start", played)
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


def test_the_loop_closes_rate_train_watch(browser: Any, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rate by keys, reload in the middle, results, train with DPO, start, reload in the middle of the run, finished."""
    fake_processes(monkeypatch)
    with opened(browser, server, "rate/new") as (view, _):
        view.get_by_label("Title").fill("Which is clearer?")
        view.get_by_label("Prompts", exact=True).fill("\n".join(f"the order {number}" for number in range(5)))
        view.locator("summary", has_text="Sampling").click()
        view.get_by_label("Longest answer").fill("8")
        view.get_by_label("Your name as a rater").fill("ann")
        view.get_by_role("button", name="Start").click()
        for done, key in enumerate("1tx"):
            view.get_by_text(f"{done} of 5 judged by ann").wait_for()
            view.locator("#answer-left").wait_for()
            assert not {"tuned", "base"} & set(view.locator("#main").inner_text().split()), "a name would give a side away"
            view.keyboard.press(key)
        view.get_by_text("3 of 5 judged by ann").wait_for()
        again(view)
        view.get_by_text("3 of 5 judged by ann").wait_for()
        view.keyboard.press("u")
        view.get_by_text("This is the first one").wait_for()
        view.locator("#answer-left").wait_for()
        view.keyboard.press("e")
        view.get_by_role("radio", name="Right").check()
        view.get_by_role("textbox", name="Better answer").fill("<b>better</b>")
        view.get_by_role("button", name="Save").click()
        view.get_by_text("4 of 5 judged by ann").wait_for()
        view.locator("#answer-left").wait_for()
        view.get_by_role("button", name="Right is better").click()
        view.get_by_role("link", name="See what they say").click()
        view.get_by_role("heading", name="tuned over base").wait_for()
        session = next((folder / "runs" / "feedback").iterdir())
        rows = read_feedback(session / "feedback.jsonl")
        assert [row["choice"] for row in rows][1:3] == ["tie", "both_bad"] and rows[3]["edit"] == "<b>better</b>"
        view.get_by_role("button", name="Train with DPO").click()
        view.get_by_role("button", name="Start the run").click()
        view.get_by_text("step 3 of 6").wait_for()
        assert (folder / "runs" / "tuned-dpo" / "metrics.jsonl").is_file()
        again(view)
        view.get_by_text("step 3 of 6").wait_for()
        assert view.locator("svg .line.tuned").count() == 1, "the loss so far"
        draft = next(place for place in (folder / "runs" / "drafts").iterdir())
        assert 'name = "dpo"' in (draft / "run.toml").read_text(encoding="utf-8")
        (draft / "go").touch()
        view.locator(".badge", has_text="finished").wait_for()
        go(view, server, "runs")
        assert view.locator(".item").filter(has_text="tuned-dpo").locator(".badge").inner_text() == "finished"


def test_a_run_is_stopped_from_the_page(browser: Any, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_processes(monkeypatch)
    with opened(browser, server, "new") as (view, _):
        view.locator("input[type=file]").set_input_files(
            {"name": "my rows.jsonl", "mimeType": "text/plain", "buffer": b'{"text": "the order"}\n'}
        )
        view.get_by_label("Name", exact=True).fill("to-stop")
        view.get_by_role("button", name="Check again").click()
        view.get_by_role("button", name="Start the run").click()
        view.get_by_text("step 3 of 6").wait_for()
        view.get_by_role("button", name="Stop").click()
        view.locator(".badge", has_text="stopped").wait_for()
        view.get_by_role("button", name="Continue").wait_for()


# -------------------------------------------------------------------------------------------------------------------- hostile texts

PIECES = "".join(HOSTILE).encode(errors="ignore").decode()  # half a surrogate pair does not travel as UTF-8
ALLOWED = {"img": 1, "script": 1, "link": 4, "style": 0, "form": 1, "base": 0, "object": 0, "embed": 0, "video": 0}
"""Elements of the page itself, at most; its forms, pictures and scripts."""


def unharmed(view: Any, *, frames: int = 0) -> None:
    """Nothing of a hostile text became an element: none too many, none with a listener or a foreign address."""
    for name, most in ALLOWED.items():
        assert view.locator(name).count() <= most, name
    assert view.locator("iframe").count() == frames
    assert (
        view.evaluate(
            "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on') || n === 'srcdoc')"
        )
        == []
    )
    assert (
        view.evaluate(
            "[...document.querySelectorAll('[href], [src]')].map(e => e.getAttribute('href') ?? e.getAttribute('src')).filter(a => !/^[#/]/.test(a))"
        )
        == []
    )
    assert view.locator("nav").is_visible(), "a style of the text would have hidden it"


def stream_of(text: str) -> str:
    pieces = [{"choices": [{"delta": {"content": text[start : start + 40]}}]} for start in range(0, len(text), 40)]
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"


def test_hostile_answers_are_text(browser: Any, server: Server) -> None:
    """What a model says in Chat and Compare, and what a person typed, is text, also after a reload; so is the text of an error."""
    with opened(browser, server) as (view, events):
        view.route("**/v1/chat/completions", lambda route: route.fulfill(body=stream_of(PIECES), content_type="text/event-stream"))
        say(view, PIECES)
        count(view, ".answer[aria-busy=false]", 1)
        shown = PIECES.replace("\r", "")
        assert view.locator(".answer .prose").text_content() in (PIECES, shown)
        unharmed(view)
        again(view)
        count(view, ".answer", 1)
        unharmed(view)
        go(view, server, "compare")
        view.get_by_label("Prompt", exact=True).fill(HOSTILE[0])
        view.get_by_role("button", name="Ask all").click()
        view.locator(".pane").nth(2).locator(".cost dd").nth(1).wait_for()
        unharmed(view)
        view.route("**/v1/chat/completions", lambda route: route.fulfill(status=400, json={"error": {"message": PIECES}}))
        view.get_by_role("button", name="Ask all").click()
        view.get_by_role("alert").first.wait_for()
        unharmed(view)
        events[:] = [event for event in events if "status of 400" not in event]  # the browser's own line on a refusal


def test_hostile_data_and_names_are_text(browser: Any, server: Server, folder: Path) -> None:
    """Names of runs, examples, data reports, prompts, answers, titles: each is shown as it is and does nothing."""
    root = folder / "runs"
    for number, text in enumerate(HOSTILE[:8]):
        finished_run(root, text.replace("/", "|")[:60], PIECES if number == 0 else text)
    session = ask(server, "/page/ratings", {"title": HOSTILE[0], "first": "tuned", "second": "base", "prompts": [PIECES[:900]]})[
        "id"
    ]
    kept = json.loads((root / "feedback" / session / "session.json").read_text(encoding="utf-8"))
    keep_answers(root / "feedback" / session, kept["items"][0]["id"], [Candidate(PIECES, "tuned"), Candidate(HOSTILE[4], "base")])
    with opened(browser, server, "runs") as (view, _):
        assert view.get_by_text(HOSTILE[0].replace("/", "|")).count() >= 1
        unharmed(view)
        listed = ask(server, "/page/runs")["runs"]
        for run in [one for one in listed if one["name"].startswith(("<", '"', "'"))][:2]:
            for part in ("scores", "examples", "data", "file", "progress"):
                go(view, server, f"runs/{run['id']}/{part}")
                view.locator(f"#tab-{part}[aria-selected=true]").wait_for()
                unharmed(view)
        for part in ("report", "decision"):
            go(view, server, f"runs/{run['id']}/{part}")
            view.frame_locator("iframe").locator("h1").first.wait_for()
            unharmed(view, frames=1)
        go(view, server, f"rate/{session}")
        view.locator("#answer-left").wait_for()
        texts = {view.locator(f"#answer-{side} .prose").text_content() for side in ("left", "right")}
        assert HOSTILE[4] in texts
        unharmed(view)
        view.keyboard.press("1")
        view.get_by_role("link", name="See what they say").click()
        view.get_by_role("heading", name="tuned over base").wait_for()
        unharmed(view)
        go(view, server, "rate")
        unharmed(view)


def test_a_script_of_the_page_could_not_parse_markup(browser: Any, server: Server) -> None:
    """The policy itself holds, whatever a later change of the page does: no inline script, no markup out of text, no other host."""
    with opened(browser, server) as (view, events):
        for attempt in (
            "document.body.innerHTML = '<img src=x onerror=alert(1)>'",
            "document.body.insertAdjacentHTML('beforeend', '<b>x</b>')",
            "fetch('https://example.org/')",
        ):
            assert (
                view.evaluate(
                    f"(async () => {{ try {{ await ({attempt}); return 'done' }} catch (error) {{ return error.name }} }})()"
                )
                == "TypeError"
            )
        view.evaluate(
            "document.head.append(Object.assign(document.createElement('style'), { textContent: '* { display: none }' }))"
        )
        assert view.locator("nav").is_visible()
        events[:] = [event for event in events if "Content Security Policy" not in event and "TrustedHTML" not in event]


# ---------------------------------------------------------------------------------------------------- colours, sizes, labels, keys


def all_views(server: Server) -> list[str]:
    run = next(one["id"] for one in ask(server, "/page/runs")["runs"] if one["name"] == "first")
    ratings = ask(server, "/page/ratings?rater=me")["ratings"]
    rated = [f"rate/{one['id']}/results" for one in ratings if one["raters"]][:1]
    return [*VIEWS, *rated, *(f"runs/{run}/{part}" for part in ("progress", "scores", "examples", "data"))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_readable_and_labelled(browser: Any, server: Server, scheme: Any) -> None:
    """Contrast of 4.5 to 1 (WCAG 2.2, 1.4.3), a name for every control, one main heading, no heading left out, in both schemes."""
    with opened(browser, server, color_scheme=scheme) as (view, _):
        say(view, "the order")
        count(view, ".answer[aria-busy=false]", 1)
        for where in all_views(server):
            go(view, server, where)
            for closed in view.locator("main details:not([open]) > summary").all():
                closed.click()
            assert view.evaluate(CONTRAST) == [], where
            assert view.evaluate(UNNAMED) == [], where
            assert view.locator("h1").count() == 1, where
            assert view.evaluate("getComputedStyle(document.documentElement).colorScheme") == scheme


UNNAMED = """() => [...document.querySelectorAll('button, a, input, select, textarea, progress, iframe, [role=tab], [role=img]')].filter(one => {
  const named = one.getAttribute('aria-label') || one.getAttribute('title') || one.textContent.trim() || one.labels?.length
    || (one.getAttribute('aria-labelledby') && document.getElementById(one.getAttribute('aria-labelledby')));
  return !named;
}).map(one => one.outerHTML.slice(0, 120))"""


def test_every_view_fits_a_phone(browser: Any, server: Server) -> None:
    """At 360 pixels nothing is wider than the screen, and what is pressed with a finger is large enough (WCAG 2.2, 2.5.8)."""
    with opened(browser, server, viewport={"width": 360, "height": 740}, has_touch=True) as (view, _):
        say(view, "the order " * 30)
        count(view, ".answer[aria-busy=false]", 1)
        for where in all_views(server):
            go(view, server, where)
            assert view.evaluate("document.documentElement.scrollWidth") <= 360, where
            small = view.evaluate("""() => [...document.querySelectorAll('button, nav a, select, .button')].filter(one => {
              const box = one.getBoundingClientRect(); return box.width && (box.width < 24 || box.height < 24);
            }).map(one => one.outerHTML.slice(0, 90))""")
            assert small == [], where
            assert view.locator("nav a").last.is_visible()


def test_keyboard_alone(browser: Any, server: Server) -> None:
    """Skip link, pages by keys, tabs by arrows, focus that shows, help that closes; the theme is kept."""
    with opened(browser, server, "runs", color_scheme="light") as (view, _):
        view.keyboard.press("Tab")
        skip = view.locator(".skip")
        assert skip.evaluate("one => one === document.activeElement && one.getBoundingClientRect().top >= 0")
        view.keyboard.press("Enter")
        assert view.evaluate("document.activeElement.id") == "main"
        view.keyboard.press("Alt+2")
        view.get_by_role("heading", name="Compare").wait_for()
        assert view.locator("nav a[aria-current=page]").inner_text() == "Compare"
        go(view, server, all_views(server)[-1])
        view.locator("#tab-data").focus()
        assert view.locator("#tab-data").evaluate("one => getComputedStyle(one).outlineStyle") != "none"
        view.keyboard.press("ArrowLeft")
        assert view.locator("#tab-examples").evaluate("one => one === document.activeElement && one.ariaSelected") == "true"
        view.keyboard.press("?")
        assert view.get_by_role("dialog").is_visible()
        view.keyboard.press("Escape")
        assert view.get_by_role("dialog").count() == 0
        view.get_by_role("button", name="Switch to dark colours").click()
        again(view)
        view.get_by_role("button", name="Switch to light colours").wait_for()
        assert view.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_server_with_a_key_asks_the_browser(browser: Any, folder: Path) -> None:
    """The browser itself asks for the key and sends it with everything: scripts, streams, and the report in its frame."""
    key = "sk-burnish-canary-0123456789"
    with page_server(folder / "locked", key_hash=hash_of(key)) as server:
        finished_run(folder / "locked" / "runs", "first")
        with opened(browser, server, http_credentials={"username": "anyone", "password": key}) as (view, _):
            say(view, "the order")
            count(view, ".answer[aria-busy=false]", 1)
            assert view.locator(".answer .prose").inner_text()
            go(view, server, "runs")
            view.get_by_role("link", name="first").click()
            view.get_by_role("tab", name="Report").click()
            view.frame_locator("iframe").locator("h1").wait_for()
        context = browser.new_context(http_credentials={"username": "anyone", "password": "wrong"})
        answer = context.new_page().goto(server.url)
        assert answer.status == 401
        context.close()


def test_the_server_that_is_gone_is_said(browser: Any, server: Server) -> None:
    """No error is silent: the page says that nobody answers, and what can be done."""
    with opened(browser, server, "runs") as (view, events):
        view.route("**/page/**", lambda route: route.abort())
        view.get_by_role("link", name="Rate").click()
        alert = view.get_by_role("alert")
        alert.wait_for()
        assert "still running" in alert.inner_text()
        view.unroute("**/page/**")
        view.get_by_role("button", name="Try again").click()
        view.get_by_role("heading", name="Rate").wait_for()
        events[:] = [event for event in events if "ERR_FAILED" not in event]
