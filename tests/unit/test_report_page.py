"""The page: one file that asks for nothing, does nothing, and shows hostile text as text; looked at in a browser."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser

import pytest
from recorded_runs import evaluation, grpo_run, tuning_run, whole_run, write_lines

from openrlhf_math.cli import main
from openrlhf_math.report.table import shortened, visible

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = (
    "</script><script>alert(1)</script>", "</pre></style></svg><img src=http://192.0.2.1/x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">', "<!-- --!> ]]> <![CDATA[", "{{ 7 * 7 }} {% raw %}", "&lt;b&gt; &#x3c;",
    "\x1b[31mred\x1b[0m\x07\x00\x9b", "\u202eevil\u2066", "\ud800 \udfff", "\ufffe\U0010ffff",
    "a\r\nb\u2028c", "e\u0301" * 5000,
)  # fmt: skip


class Reader(HTMLParser):
    """Elements, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.texts.append(data)


def apart(level: float) -> dict:
    """Values that no other run's line overlaps."""
    return {
        "reward": level,
        "accuracy": level,
        "completion_length": 100 * level,
        "grad_norm": level,
        "zero_advantage_rate": level,
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every kind of run, with hostile text wherever a run has text, its name included."""
    folder = tmp_path_factory.mktemp("runs")
    named = grpo_run(folder / "<img src=x onerror=alert(1)>\x1b[31m$x_1$", settings={"new": HOSTILE[0]}, **apart(0.8))
    write_lines(
        named / "ungraded.jsonl", [{"step": 1, "gold": "2", "reason": "time", "response": text} for text in HOSTILE]
    )
    write_lines(named / "eval.jsonl", [{"step": 10, "eval_<b>x_pass1": 0.5}])
    hostile = evaluation(folder / "hostile", [True] * len(HOSTILE))
    rows = [json.loads(line) for line in (hostile / "completions.jsonl").read_text().splitlines()]
    for row in rows:
        text = HOSTILE[row["problem_index"]]
        row |= {"response": text, "problem": f"p {text}", "answer": text, "gold": text, "reason": text}
    write_lines(hostile / "completions.jsonl", rows)
    long = evaluation(folder / "long", [True, False], response="<b>7</b>\n" * 120_000)
    other = grpo_run(folder / "other", **apart(0.1))
    return [named, hostile, long, whole_run(folder / "demo"), tuning_run(folder / "sft"), other]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    flags = ["--output", str(path), "--markdown", str(path.with_suffix(".md")), "--samples", "20"]
    assert main(["report", *map(str, runs), *flags]) == 0
    return path


def test_page_has_no_scripts_or_requests(page):
    result = Reader(page.read_text(encoding="utf-8"))
    assert not result.elements & {"script", "img", "iframe", "link", "object", "embed", "base", "form"}
    assert not [name for name, _ in result.attributes if name.startswith("on") or name in ("src", "srcset", "action")]
    links = [value for name, value in result.attributes if name in ("href", "xlink:href")]
    assert links and all(link.startswith("#") for link in links)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in result.attributes
    assert page.read_text(encoding="utf-8").count("<style") == 1  # a figure's own would reach into the page
    assert not re.search(r"url\((?!#)|@import", page.read_text(encoding="utf-8"))


def test_hostile_text_is_shown_as_text(page):
    texts = "".join(Reader(page.read_text(encoding="utf-8")).texts)
    for text in HOSTILE:
        assert visible(shortened(text)) in texts
    assert "<img src=x onerror=alert(1)>\\x1b[31m$x_1$" in texts


def test_long_completion_is_cut_and_says_so(page):
    assert page.stat().st_size < 2_000_000
    assert "1,076,000 characters left out" in page.read_text(encoding="utf-8")


def test_hostile_text_breaks_no_markdown_table(page):
    lines = page.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# Report of \\<img")
    assert not [line for line in lines if "<img" in line.replace("\\<", "")]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain\n\ttext é 數", "plain\n\ttext é 數"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\r\nb\rc", "a\nb\\x0dc"),
        ("\u202e\u200b", "\\u202e\\u200b"),
        ("\ud800", "\\ud800"),
        ("\U0010ffff", "\\U0010ffff"),
        ("\x00\x9b", "\\x00\\x9b"),
    ],
)
def test_invisible_characters_are_escaped(text, shown):
    assert visible(text) == shown
    shown.encode()


def browse(page, tmp_path, *flags) -> tuple[str, list[str], list[str]]:
    """Load a page headless. Returns what the browser then has, what it says on its console, what the page asks for."""
    log = tmp_path / "net.json"
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--timeout=20000",
        f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", *flags, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    net = json.loads(log.read_text())
    started = net["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    events = [event.get("params", {}) for event in net["events"] if event["type"] == started]
    asked = [event["url"] for event in events if event.get("initiator", "not an origin") != "not an origin"]
    return done.stdout, console, asked


@pytest.mark.skipif(not BROWSER, reason="no browser here: apt-get install chromium")
def test_browser_finds_no_error_and_no_request(page, tmp_path):
    loaded, console, asked = browse(page, tmp_path, "--dump-dom")
    assert console == [] and asked == []
    result = Reader(loaded)
    assert "script" not in result.elements and "img" not in result.elements
    written = Reader(page.read_text(encoding="utf-8"))
    # What a browser makes of the page is what was written: no text has closed an element or opened one.
    assert "".join("".join(result.texts).split()) == "".join("".join(written.texts).split())
    assert result.elements == written.elements


@pytest.mark.skipif(not BROWSER, reason="no browser here: apt-get install chromium")
def test_browser_check_detects_errors_and_requests(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>missing()</script><img src='http://127.0.0.1:9/x.png'>")
    _, console, asked = browse(page, tmp_path, "--dump-dom")
    assert "missing is not defined" in console[0]
    assert asked == ["http://127.0.0.1:9/x.png"]


# Where the heads of the first table end, and how wide the page is, at some width: an iframe has its media queries.
MEASURE = """<iframe id=f style="width: {width}px; height: 900px; border: 0" srcdoc="{page}"></iframe><script>
f.onload = () => {{
  const root = f.contentDocument.documentElement, heads = [...f.contentDocument.querySelector("thead").rows[0].cells];
  document.title = JSON.stringify([root.scrollWidth, heads.map(head => [head.textContent,
                                   head.getBoundingClientRect().right])]);
}}</script>"""


@pytest.mark.skipif(not BROWSER, reason="no browser here: apt-get install chromium")
@pytest.mark.parametrize(("width", "whole"), [(1280, 12), (768, 4), (390, 3)])
def test_result_is_not_cut(width, whole, tmp_path):
    """whole: of the columns, the first so many are on the screen without scrolling."""
    report = tmp_path / "report.html"
    assert main(["report", str(whole_run(tmp_path / "demo")), "--output", str(report)]) == 0
    framed = tmp_path / "framed.html"
    framed.write_text(MEASURE.format(width=width, page=escape(report.read_text(encoding="utf-8"))), encoding="utf-8")
    loaded, _, _ = browse(framed, tmp_path, "--dump-dom", "--window-size=1400,1000")
    page_width, heads = json.loads(unescape(re.search("<title>(.*?)</title>", loaded)[1]))
    assert page_width <= width
    assert [name for name, _ in heads][:3] == ["evaluation", "pass@1", "95% interval"]
    assert max(right for _, right in heads[:whole]) <= width


@pytest.mark.skipif(not BROWSER, reason="no browser here: apt-get install chromium")
def test_browser_renders_the_curves(page, tmp_path):
    from PIL import Image

    picture = tmp_path / "page.png"
    browse(page, tmp_path, f"--screenshot={picture}", "--window-size=1440,3000")
    counted = Image.open(picture).convert("RGB").getcolors(1 << 24)
    colours = {colour: count for count, colour in counted}
    for run in ((0x1F, 0x6F, 0xB4), (0xD9, 0x66, 0x0A), (0x2A, 0x8A, 0x3C)):  # the runs' lines
        assert colours.get(run, 0) > 500
