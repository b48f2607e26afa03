"""What each role sees, in a real browser; and the form of a signal whose shape is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("playwright") is None:  # pragma: no cover
    pytest.skip("playwright is not installed", allow_module_level=True)

import axe_playwright_python
from playwright.sync_api import Browser, expect

from roost.config import ConsoleSettings, Settings
from roost.console.roles import Role
from roost.core.schedules import keep
from roost.engine import EngineRegistry
from roost.rules import Schedule
from roost.wiring import Runtime
from tests.console.conftest import _work
from tests.console.serving import served
from tests.console.test_browser import RULES, TOO_WIDE, Watched, _axe, browser, picture
from tests.console.test_roles import TOKENS
from tests.console.test_signal_form import Shop

__all__ = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

SIZES = {"light": (1440, 1000), "dark": (1440, 1000), "phone": (390, 844)}
PAGES = ("/work/held", "/engines", "/failed", "/resources", "/schedules", "/workers", "/settings", "/")


async def _seed(runtime: Runtime) -> None:
    client = runtime.client
    later = {"steps": [{"data": {"a": 1}, "delay": 3600}]}
    await client.enqueue("scripted", later, work_id="held", resources=("gpu",), budget={"usd": 2.0})
    await client.enqueue("scripted", {"steps": [{"fail": "no answer"}]}, work_id="bad")
    await keep(client, {"nightly": Schedule(cron="0 3 * * *", engine="demo")})
    await _work(runtime)
    await client.enqueue("shop", work_id="order")  # now, as a worker without its engine would put it back
    await _work(replace(runtime, engines=EngineRegistry([Shop()])))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    console = ConsoleSettings(auth="token", **TOKENS)
    settings = Settings(storage="local", home=tmp_path_factory.mktemp("roles"), console=console)
    with served(settings, _seed) as address:
        yield address


def _tab(browser: Browser, url: str, role: Role, look: str = "light") -> Watched:
    width, height = SIZES[look]
    scheme: Any = "dark" if look == "dark" else "light"
    headers = {"Authorization": f"Bearer {TOKENS[f'{role}_token']}"}
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, extra_http_headers=headers
    )
    return Watched(context, url)


@pytest.mark.parametrize("look", list(SIZES))
@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_what_a_role_may_not_do_is_shown_well(browser: Browser, url: str, role: Role, look: str) -> None:
    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
    tab = _tab(browser, url, role, look)
    faults: list[str] = []
    for path in PAGES:
        page = tab.go(path)
        expect(page.get_by_text(f"Your role: {role}")).to_be_visible()
        faults += [f"{path} is too wide: {node}" for node in page.evaluate(TOO_WIDE)]
        faults += [f"{path}: {fault}" for fault in _axe(page, axe, RULES[look])]
        picture(page, f"{role}{path.replace('/', '-').rstrip('-')}", look)
    assert not faults, "\n".join(faults)
    tab.done()
    tab.page.context.close()


def test_an_operator_is_told_what_takes_an_admin(browser: Browser, url: str) -> None:
    tab = _tab(browser, url, Role.OPERATOR)
    page = tab.go("/work/held")
    off = page.locator(".btn.off", has_text="Budget")
    expect(off).to_contain_text("admin only")
    expect(off).to_have_attribute("title", "Takes the role admin; yours is operator.")
    page.get_by_role("link", name="Cancel…").click()
    expect(page.locator("#dialog")).to_contain_text("ends as cancelled")
    page = tab.go("/failed")
    expect(page.get_by_role("button", name="Drop")).to_be_disabled()
    page.get_by_role("button", name="Retry all 1…").click()
    expect(page.locator("#dialog")).to_contain_text("1 work item go on")
    tab.done()
    tab.page.context.close()


def test_a_signal_is_sent_by_a_form_of_its_own(browser: Browser, url: str) -> None:
    tab = _tab(browser, url, Role.OPERATOR)
    page = tab.go("/work/order")
    dialog = page.locator("#dialog")
    page.locator("#waits").get_by_role("link", name="Send…").click()
    expect(dialog.locator("h1")).to_have_text("Send paid to order?")
    expect(dialog).to_contain_text("Amount in cents")
    picture(page, "signal-form", "light")
    dialog.get_by_label("Amount in cents").fill("0")
    dialog.get_by_role("button", name="Signal it").click()
    expect(dialog.locator(".problem")).to_contain_text("0 is less than the minimum of 1")
    picture(page, "signal-form-refused", "light")
    dialog.get_by_label("Amount in cents").fill("1250")
    dialog.get_by_label("way").select_option("cash")
    dialog.get_by_role("button", name="Signal it").click()
    expect(page.locator("#journal")).to_contain_text("signal")
    expect(page.locator("#waits")).to_have_count(0)
    tab.done()
    tab.page.context.close()
