"""The real console in a real browser, over real storage, with a worker that works and dies.

Screenshots of every page go to the folder that ROOST_SCREENSHOTS names, if it does.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import find_browser

if find_spec("playwright") is None:  # pragma: no cover
    pytest.skip("playwright is not installed", allow_module_level=True)

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

ROOT = Path(__file__).parents[2]
ENGINES = "tests.console.browser_engines:Research,tests.console.browser_engines:Survey,demo"
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
PAGES = (
    "/",
    "/work",
    "/failed",
    "/operations",
    "/artifacts",
    "/conversations",
    "/workspaces",
    "/events?by=people",
    "/events",
    "/resources",
    "/schedules",
    "/workers",
    "/engines",
    "/settings",
    "/work/new",
    "/budget",
    "/resources/limits?resource=topic:slow",
    "/switches?kind=worker&name=w&to=pause",
)
SECONDS = 60.0  # bounds what takes a second or two on a machine that does nothing else
LEASE_SECONDS = 2.0


class Site:
    """A console and workers as programs of their own.

    Args:
        console: the module that is the console, and what it is started with.
        storage: environment that says where the work is, if not in `home`.

    Attributes:
        url: of the console, without the slash at the end.
        ids: work items by what they are.
    """

    def __init__(self, home: Path, console: Sequence[str], storage: Mapping[str, str]) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
        self._env = {
            **kept,
            "ROOST_HOME": str(home),
            "ROOST_LEASE_SECONDS": str(LEASE_SECONDS),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            "ROOST_APPROVALS__SIGNING_SECRET": "the secret of these tests",
            "ROOST_WORKER__SWEEP_SECONDS": "1",
            **storage,
        }
        self._started: list[subprocess.Popen[str]] = []
        self._said = home / "stderr"
        self._said.mkdir(parents=True, exist_ok=True)
        self.start(*console[1:], module=console[0])
        self.url = self._address()
        self.ids: dict[str, str] = {}

    def start(self, *args: str, module: str = "roost") -> subprocess.Popen[str]:
        # Not a pipe: nobody reads on, and a full one would hold the program up.
        with (self._said / f"{len(self._started)}.txt").open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *args],
                env=self._env,
                stderr=stderr,
                stdout=subprocess.DEVNULL,
                text=True,
            )
        self._started.append(process)
        return process

    def _address(self) -> str:
        """Of the console, once it says so."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            line, is_whole, _ = (self._said / "0.txt").read_text().partition("\n")
            if is_whole:
                assert "the console is at" in line, line
                return line.split()[-1].rstrip("/")
            time.sleep(0.02)
        raise AssertionError("the console says nothing")

    def worker(self) -> subprocess.Popen[str]:
        return self.start("worker", "--engines", ENGINES, "--concurrency", "4")

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        import httpx2

        answer = httpx2.request(method, f"{self.url}/api/v1{path}", json=body, timeout=10)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def enqueue(
        self, name: str, engine: str = "research", conversation: str | None = None, **payload: Any
    ) -> str:
        body = {
            "conversation": conversation,
            "engine": engine,
            "payload": {"topic": name, **payload},
            "labels": {"tenant": "acme"},
            "resources": [f"topic:{name}"],
        }
        self.ids[name] = self.api("POST", "/work", body)["work_id"]
        return self.ids[name]

    def until(self, work_id: str, *states: str) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if self.api("GET", f"/work/{work_id}")["control"]["state"] in states:
                return
            time.sleep(0.05)
        raise AssertionError(f"{work_id} never became {states}")

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def console() -> Sequence[str]:
    """The program under test; `tests/hosting/test_browser.py` has the function behind API Gateway."""
    return ("roost", "ui", "--port", "0")


@pytest.fixture(scope="module")
def storage() -> Mapping[str, str]:
    """The environment that says where the work is: `local`, in a folder of the site's own."""
    return {}


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, console: Sequence[str], storage: Mapping[str, str]
) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("console"), console, storage)
    try:
        site.worker()
        for n in range(3):
            site.enqueue(f"northwind-{n}")
        for n in range(3):
            site.enqueue(f"tailspin-{n}", fail=4 + n // 2)
        site.enqueue("contoso", later=5)
        site.enqueue("approval", ask=6)
        site.enqueue("survey", engine="survey")
        site.enqueue("slow", slow=9)
        site.enqueue("refund", approve=1)
        site.enqueue("talk-1", slow=1, conversation="customer-17")
        site.enqueue("talk-2", conversation="customer-17")
        for name in ("northwind-0", "northwind-1", "northwind-2"):
            site.until(site.ids[name], "done")
        for name in ("tailspin-0", "tailspin-1", "tailspin-2"):
            site.until(site.ids[name], "failed")
        site.until(site.ids["approval"], "waiting")
        site.until(site.ids["slow"], "running")
        site.until(site.ids["refund"], "waiting")
        yield site
    finally:
        site.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    assert path is not None, "tests/conftest.py leaves these tests out where there is none"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Watched:
    """A page on which every complaint of the browser, and every request elsewhere, is kept."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._check(request.url, url))
        self.url = url

    def _check(self, asked: str, url: str) -> None:
        if not asked.startswith((f"{url}/", "data:")):
            self.complaints.append(f"asked elsewhere: {asked}")

    def go(self, path: str) -> Page:
        self.page.goto(self.url + path, wait_until="load")
        return self.page

    def done(self) -> None:
        assert self.complaints == []


@pytest.fixture
def tab(site: Site, browser: Browser) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(SECONDS * 1000)
    watched = Watched(context, site.url)
    yield watched
    context.close()
    watched.done()


def all_paths(site: Site) -> dict[str, str]:
    """Every page by a name for its picture."""
    paths = {re.sub(r"\W", "-", path.strip("/")) or "overview": path for path in PAGES}
    for name in ("northwind-0", "tailspin-0", "approval", "survey", "slow"):
        paths[f"detail-{name}"] = f"/work/{site.ids[name]}"
    base = f"/work/{site.ids['northwind-0']}"
    paths["changes"] = f"{base}?tab=changes&v=6"
    paths["markdown"] = f"{base}/artifacts/0"
    paths["patch"] = f"{base}/artifacts/2"
    paths["confirm"] = f"/work/{site.ids['tailspin-0']}/retry"
    paths["cost"] = f"{base}?tab=cost"
    paths["logs"] = f"/work/{site.ids['tailspin-0']}?tab=logs"
    paths["due"] = "/work?sort=due"
    paths["detail-refund"] = f"/work/{site.ids['refund']}"
    paths["detail-talk"] = f"/work/{site.ids['talk-2']}"
    [artifact, *_] = site.api("GET", base)["artifacts"]
    paths["blob"] = f"/artifacts/{artifact['digest']}"
    token = site.api("GET", f"/work/{site.ids['refund']}/approvals")["approvals"][0]["token"]
    paths["approve"] = f"/approve/{token}"
    paths["columns"] = "/work?cols=state,lane,labels,worker,updated&q=-state:done"
    paths["nothing"] = "/work?q=state:cancelled+engine:none"
    return paths


def picture(page: Page, name: str, look: str) -> None:
    folder = os.environ.get("ROOST_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{name}-{look}.png")


@pytest.mark.parametrize(
    ("look", "width", "height"), [("light", 1440, 1000), ("dark", 1440, 1000), ("phone", 390, 844)]
)
def test_every_page_in_every_look(site: Site, browser: Browser, look: str, width: int, height: int) -> None:
    """No complaint of the browser, no request elsewhere, no serious fault for axe, nothing too wide."""
    import axe_playwright_python

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
    scheme: Any = "dark" if look == "dark" else "light"
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    watched = Watched(context, site.url)
    faults = []
    for name, path in all_paths(site).items():
        page = watched.go(path)
        expect(page.locator("h1").first).to_be_attached()
        faults += [f"{path} is too wide: {node}" for node in page.evaluate(TOO_WIDE)]
        picture(page, name, look)
        faults += [f"{path}: {fault}" for fault in _axe(page, axe, RULES[look])]
    context.close()
    assert not faults, "\n".join(faults)
    watched.done()


TOO_WIDE = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll("*")].filter((node) => node.getBoundingClientRect().right > width)
        .map((node) => node.outerHTML.slice(0, 150)).slice(0, 9);
}"""
RULES = {
    "light": "{resultTypes: ['violations']}",
    "dark": "{runOnly: ['color-contrast'], resultTypes: ['violations']}",  # all else is the same
    "phone": "{runOnly: ['scrollable-region-focusable', 'target-size'], resultTypes: ['violations']}",
}


def _axe(page: Page, axe: str, options: str) -> list[str]:
    """The serious faults that axe finds."""
    page.evaluate(axe)
    found = page.evaluate(f"axe.run(document, {options})")
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]} ({len(fault['nodes'])})"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


def test_pages_weigh_little(site: Site) -> None:
    import httpx2

    for path in all_paths(site).values():
        answer = httpx2.get(site.url + path, headers={"Accept": "text/html"})
        assert len(answer.content) < 100_000, path
    page = httpx2.get(site.url + "/work")
    assets = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
    sent = [page, *(httpx2.get(site.url + asset) for asset in set(assets))]
    assert sum(answer.num_bytes_downloaded for answer in sent) < 40_000
    assert sum(len(answer.content) for answer in sent) < 100_000  # where nothing packs them


def test_a_worker_that_dies_is_seen_to_be_taken_over(site: Site, tab: Watched) -> None:
    """Live, with no reload: silent first, then another worker's claim."""
    work_id = site.enqueue("competitors", stuck=3, flaky=5, ask=8)
    site.until(work_id, "running")
    page = tab.go(f"/work/{work_id}")
    expect(page.locator("#why")).to_contain_text("runs the step")
    holder = site.api("GET", f"/work/{work_id}")["control"]["lease"]["worker_id"]
    pid = int(holder.split("-")[-2])
    page.evaluate("window.stayed = true")
    os.kill(pid, signal.SIGKILL)
    site.worker()
    expect(page.locator("#timeline .over")).to_be_attached(timeout=SECONDS * 1000)
    expect(page.locator("#journal")).to_contain_text("claimed")
    assert page.evaluate("window.stayed") is True
    site.until(work_id, "waiting")
    site.api("POST", f"/work/{work_id}/signal", {"name": "approve", "data": {"ok": True}})
    site.until(work_id, "done")
    page = tab.go(f"/work/{work_id}?tab=changes&v=10")
    expect(page.locator("#journal")).to_contain_text("signal")
    picture(page, "story", "light")
    page.emulate_media(color_scheme="dark")
    picture(page, "story", "dark")


def test_enqueue_pause_resume_signal_cancel_from_the_pages(site: Site, tab: Watched) -> None:
    page = tab.go("/work")
    page.get_by_role("link", name="Enqueue").click()
    dialog = page.locator("#dialog")
    dialog.get_by_label("Engine").fill("research")
    dialog.get_by_label("Payload").fill('{"topic": "from a page", "ask": 2}')
    dialog.get_by_role("button", name="Enqueue").click()
    page.wait_for_url("**/work/*did=enqueue")
    work_id = page.locator("main h1").inner_text()
    expect(page.locator("#why")).to_contain_text("signal approve")

    page.get_by_role("link", name="Pause…").click()
    dialog.get_by_label("Reason").fill("look first")
    dialog.get_by_role("button", name="Pause it").click()
    expect(page.locator("#why")).to_contain_text("(look first)")

    page.get_by_role("link", name="Resume…").click()
    dialog.get_by_role("button", name="Let it go on").click()
    expect(page.locator("#why")).to_contain_text("signal approve")

    page.get_by_role("link", name="Signal…").click()
    dialog.get_by_label("Data").fill("{not json")
    dialog.get_by_role("button", name="Signal it").click()
    expect(dialog.locator(".problem")).to_contain_text("the data")
    dialog.get_by_label("Data").fill('{"ok": true}')
    dialog.get_by_role("button", name="Signal it").click()
    expect(page.locator("main h1")).to_have_text(work_id)
    expect(dialog).to_be_hidden()
    site.until(work_id, "done")
    expect(page.locator("#why")).to_contain_text("It was done")

    other = site.enqueue("to cancel", later=1)
    site.until(other, "scheduled")
    page = tab.go(f"/work/{other}")
    page.get_by_role("link", name="Cancel…").click()
    dialog.get_by_label("Reason").fill("wrong topic")
    dialog.get_by_role("button", name="Cancel it").click()
    expect(page.locator("#why")).to_contain_text("wrong topic")
    site.until(other, "cancelled")
    assert site.api("GET", f"/work/{other}/journal")["entries"][-1]["actor"].startswith("console:")


def test_a_group_of_failed_work_is_retried(site: Site, tab: Watched) -> None:
    ids = [site.enqueue(f"group-{n}", fail=0) for n in range(2)]
    for work_id in ids:
        site.until(work_id, "failed")
    page = tab.go("/failed")
    group = page.locator("section", has_text=ids[0]).first
    group.get_by_role("button", name="Retry all").click()
    dialog = page.locator("#dialog")
    heading = re.compile(r"Retry (\d+) work items\?")  # other tests leave some of the same error
    expect(dialog.locator("h1")).to_contain_text(heading)
    asked = heading.search(dialog.locator("h1").inner_text())
    assert asked is not None
    assert int(asked[1]) >= 2
    dialog.get_by_role("button", name=f"Retry {asked[1]}").click()
    page.wait_for_url("**/operations/*")
    expect(page.locator("#operation")).to_contain_text(f"{asked[1]} done", timeout=SECONDS * 1000)
    picture(page, "operation", "light")
    kinds = [entry["kind"] for entry in site.api("GET", f"/work/{ids[0]}/journal")["entries"]]
    assert "retried" in kinds


def test_rows_are_chosen_and_cancelled_by_keyboard(site: Site, tab: Watched) -> None:
    ids = [site.enqueue(f"keys-{n}", later=0) for n in range(3)]
    for work_id in ids:
        site.until(work_id, "scheduled")
    page = tab.go("/work")
    page.keyboard.press("/")
    expect(page.locator("#search input[name=q]")).to_be_focused()
    page.keyboard.type("state:scheduled")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=state%3Ascheduled*")
    for key in "jxjx":
        page.keyboard.press(key)
    expect(page.locator("#bulk-count")).to_have_text("2 chosen")
    page.get_by_role("button", name="Cancel…").click()
    dialog = page.locator("#dialog")
    expect(dialog.locator("h1")).to_contain_text("Cancel 2 work items?")
    dialog.get_by_role("button", name="Cancel 2").click()
    page.wait_for_url("**/operations/*")
    expect(page.locator("#operation")).to_contain_text("2 done", timeout=SECONDS * 1000)
    site.until(ids[2], "cancelled")
    site.until(ids[1], "cancelled")


def test_rows_do_not_move_under_the_pointer(site: Site, tab: Watched) -> None:
    page = tab.go("/work")
    row = page.locator("table[data-rows] tbody tr").nth(2)
    row.hover()
    before = row.get_by_role("link").first.get_attribute("href")
    new = site.enqueue("newcomer", later=0)
    expect(page.locator("#show-news")).to_have_text(re.compile("^1 new"), timeout=SECONDS * 1000)
    assert row.get_by_role("link").first.get_attribute("href") == before
    assert page.locator(f'tr:has(a[href="/work/{new}"])').count() == 0
    page.locator("#show-news").click()
    expect(page.locator(f'tr:has(a[href="/work/{new}"])')).to_be_visible()


def test_pausing_the_page_holds_it_still_and_loses_nothing(site: Site, tab: Watched) -> None:
    page = tab.go("/events")
    page.keyboard.press("p")
    expect(page.locator("#live-word")).to_have_text("Paused")
    new = site.enqueue("while paused", later=0)
    site.until(new, "scheduled")
    page.wait_for_timeout(2500)  # longer than a poll
    assert page.get_by_text(new).count() == 0
    page.keyboard.press("p")
    expect(page.get_by_text(new).first).to_be_visible()
    expect(page.locator("#live-word")).to_have_text("Live")


def test_a_page_rests_while_another_window_has_the_focus(site: Site, tab: Watched) -> None:
    """And says so; it asks at once on return. Who says so keeps it live beside another window, for good."""
    page = tab.go("/events")
    word, pin = page.locator("#live-word"), page.locator("#stay")
    asked: list[str] = []
    page.bring_to_front()
    page.get_by_role("heading", name="Events").click()  # a focus of its own has come by now
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    expect(word).to_have_text("Paused while away")
    page.wait_for_load_state("networkidle")  # what was under way
    page.on("request", lambda request: asked.append(request.url))
    first = site.enqueue("while away", later=0)
    page.wait_for_timeout(2500)  # longer than a poll
    assert asked == []
    assert page.get_by_text(first).count() == 0
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(page.get_by_text(first).first).to_be_visible()
    expect(word).to_have_text("Live")
    pin.click()
    page.reload()
    expect(pin).to_have_attribute("aria-pressed", "true")
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    second = site.enqueue("pinned", later=0)
    expect(page.get_by_text(second).first).to_be_visible(timeout=SECONDS * 1000)
    expect(word).to_have_text("Live")


def test_what_is_cut_and_when_it_was_is_told_under_the_pointer(site: Site, tab: Watched) -> None:
    page = tab.go("/work")
    age = page.locator("td time").first
    age.hover()
    expect(age).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]* UTC$"))


def test_versions_by_slider_and_keys(site: Site, tab: Watched) -> None:
    page = tab.go(f"/work/{site.ids['northwind-0']}?tab=changes")
    expect(page.locator("#versions b")).to_have_text("v13")
    page.keyboard.press("[")
    expect(page.locator("#versions b")).to_have_text("v12")
    page.locator("#slider").fill("5")
    expect(page.locator("#versions b")).to_have_text("v5")
    expect(page.locator(".diff .add").first).to_be_visible()
    assert "v=5" in page.url


def test_light_and_dark_are_kept(site: Site, tab: Watched) -> None:
    page = tab.go("/work")
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_views_are_saved_and_commands_copied(site: Site, tab: Watched) -> None:
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = tab.go("/work?q=state:failed+engine:research")
    page.get_by_role("button", name="Save view").click()
    expect(page.locator("#views a")).to_have_text("state:failed engine:research")
    page.get_by_label("Sort").select_option(value="updated")  # its name says more where it is bounded
    page.wait_for_url("**sort=updated**")
    page.get_by_role("button", name="Save view").click()
    expect(page.locator("#views a").last).to_have_text("state:failed engine:research, by updated")
    expect(page.locator("th[aria-sort]")).to_have_count(0)  # the column is not shown
    page.locator("#views a").first.click()
    page.wait_for_url("**engine%3Aresearch")
    page.get_by_role("button", name="Copy as command").click()
    assert page.evaluate("navigator.clipboard.readText()") == (
        "roost list --where 'state:failed engine:research'"
    )


def test_commands_and_places_by_name(site: Site, tab: Watched) -> None:
    """Ctrl+K, some letters, Enter: to a page, to a work item, and to an action of this page."""
    page = tab.go("/work")
    palette = page.get_by_role("combobox", name="Command")
    page.keyboard.press("Control+k")
    expect(palette).to_be_focused()
    picture(page, "palette", "light")
    page.keyboard.type("resou")
    expect(page.locator("#dialog").get_by_role("option", selected=True)).to_contain_text("Go to Resources")
    page.keyboard.press("Enter")
    page.wait_for_url("**/resources")
    page.keyboard.press("Control+k")
    expect(palette).to_be_focused()
    page.keyboard.type(site.ids["slow"])
    expect(page.locator("#dialog").get_by_role("option", selected=True)).to_contain_text("Open work item")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/work/{site.ids['slow']}")
    page.keyboard.press("Control+k")
    expect(palette).to_be_focused()
    page.keyboard.type("paus")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.get_by_role("option", name="Pause…").click()
    expect(page.locator("#dialog h1")).to_contain_text("Pause")
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()


def test_columns_are_chosen_and_stay_in_the_address(site: Site, tab: Watched) -> None:
    page = tab.go("/work?q=engine:research")
    page.locator("#columns summary").click()
    for name in ("Step, engine", "Failures", "Holder, or what comes next"):
        page.locator("#columns").get_by_label(name).uncheck()
    page.locator("#columns").get_by_label("Labels").check()
    page.get_by_role("button", name="Show these").click()
    page.wait_for_url("**cols=state**")
    heads = page.locator("table[data-rows] thead th").all_inner_texts()
    assert [head.strip(" ↓") for head in heads] == ["", "State", "Work", "Created", "Labels"]
    page.locator("#states a").nth(1).click()
    page.wait_for_url("**state%3Aqueued**")
    assert "cols=" in page.url


def test_an_approval_is_answered_by_its_link(site: Site, browser: Browser) -> None:
    work_id = site.enqueue("to approve", approve=1)
    site.until(work_id, "waiting")
    [one] = site.api("GET", f"/work/{work_id}/approvals")["approvals"]
    context = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    watched = Watched(context, site.url)
    page = watched.go(f"/approve/{one['token']}")
    page.get_by_label("Refund it?").select_option("yes")
    page.get_by_label("Amount").fill("12")
    picture(page, "approve", "phone")
    page.get_by_role("button", name="Answer").click()
    expect(page.locator("main")).to_contain_text("Thank you")
    context.close()
    watched.done()
    site.until(work_id, "done")


def test_everything_works_without_scripts(site: Site, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    watched = Watched(context, site.url)
    for path in all_paths(site).values():
        watched.go(path)
    other = site.enqueue("no scripts", later=0)
    site.until(other, "scheduled")
    page = watched.go(f"/work/{other}")
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_label("Reason").fill("no scripts")
    page.get_by_role("button", name="Cancel it").click()
    expect(page.locator(".flash")).to_contain_text("Asked to end")
    context.close()
    watched.done()


def test_hostile_content_runs_nothing(site: Site, tab: Watched) -> None:
    evil = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    work_id = site.enqueue(evil.replace("/", "|"), fail=0, **{evil: [evil]})
    site.until(work_id, "failed")
    for path in (f"/work/{work_id}", f"/work/{work_id}?tab=payload", "/failed", "/events", "/work", "/"):
        page = tab.go(path)
        page.wait_for_timeout(300)
        assert "owned" not in page.title()
