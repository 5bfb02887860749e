"""The dashboard in a real browser: what it draws, in two languages, on a phone, and when the service is gone."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from conftest import find
from served import exported, free_port, running

from thesis_lib.provenance import write_csv_atomic

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="THE DASHBOARD IS NOT TESTED: install chromium and its driver (Debian: chromium chromium-driver)",
)
CHARTS = (
    "comparisonControlChart",
    "threeWayComparisonChart",
    "multiAgentBuildingsChart",
    "allBuildingsActionsChart",
    "flexibilityChart",
    "priceResponseChart",
)
START = 576


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as evaluated runs leave them; their values are made up, here and nowhere else."""
    folder = tmp_path_factory.mktemp("results")
    for number, name in enumerate(("charge_on_arrival", "marlisa")):
        run = folder / "runs" / "offline" / name / "default" / "seed_0"
        run.mkdir(parents=True)
        rows = range(2000)
        net = pd.DataFrame({"engine": "citylearn", "row": rows, "net": [20.0 + number + row % 24 for row in rows]})
        write_csv_atomic(run / "hourly.csv.gz", net)
        flows = pd.DataFrame({"row": rows} | {f"battery/Building_{home}": 0.1 * number for home in range(1, 18)})
        write_csv_atomic(run / "flows.csv.gz", flows)
        (run / "run.json").write_text("{}")
    return folder


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", "lang=en",
        f"user-data-dir={tmp_path / 'browser'}", "window-size=1280,900",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    driver.set_page_load_timeout(120)
    driver.set_script_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("the page did not come so far")


def drawn(browser: Any) -> dict[str, list[Any]]:
    """What each chart draws: label and values of every data set."""
    script = """return Object.fromEntries(arguments[0].map((id) => {
        const chart = window.Chart && Chart.getChart(id);
        return [id, chart ? chart.data.datasets.map((set) => [set.label, set.data]) : []]; }))"""
    found: dict[str, list[Any]] = browser.execute_script(script, list(CHARTS))
    return found


def painted(browser: Any) -> list[str]:
    """The charts whose canvas is not empty."""
    script = """return arguments[0].filter((id) => { const canvas = document.getElementById(id);
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels.some((value) => value !== 0); })"""
    found: list[str] = browser.execute_script(script, list(CHARTS))
    return found


def test_what_the_dashboard_draws(browser: Any, results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = exported(tmp_path_factory)
    settings = {"data": find("offline").schema.parent, "results": results, "seconds": 120}
    port = free_port()
    with running(folder, port=port, **settings) as (client, process):
        browser.get(f"{client.base_url}/static/dashboard.html")
        until(lambda: all(drawn(browser).values()))
        assert painted(browser) == list(CHARTS)
        charts = drawn(browser)

        # Every number is the service's: the live demand is that of the same hours, simulated again.
        with httpx.Client(base_url=client.base_url, timeout=120) as again:
            until(lambda: browser.execute_script("paused || document.getElementById('pause').click(); return paused"))
            time.sleep(0.5)
            charts = drawn(browser)
            live = charts["threeWayComparisonChart"][-1][1]
            again.post("/simulate/reset", json={"start": START})
            hours = again.post("/simulate/step", json={"hours": 168}).json()["hours"]
            assert live == pytest.approx([sum(hour["net"]) for hour in hours[: len(live)]], abs=1e-9)
        names = [label for label, _ in charts["threeWayComparisonChart"]]
        assert names == ["No control (cars charge on arrival)", "MARLISA", "MADDPG (live)"]
        assert charts["threeWayComparisonChart"][1][1] == [21.0 + (START + row) % 24 for row in range(len(live))]
        assert len(charts["multiAgentBuildingsChart"]) == 3
        assert all(len(values) == 5 for _, values in charts["multiAgentBuildingsChart"])
        assert all(len(values) == 17 for _, values in charts["allBuildingsActionsChart"])

        # Spanish and back.
        browser.find_element("css selector", "[data-language=es]").click()
        assert browser.execute_script("return document.documentElement.lang") == "es"
        assert "política en vivo" in browser.find_element("css selector", "h1").text
        assert drawn(browser)["threeWayComparisonChart"][-1][0] == "MADDPG (en vivo)"
        browser.find_element("css selector", "[data-language=en]").click()

        # Everything can be reached with the keyboard alone.
        script = "return [...document.querySelectorAll('button, input, canvas')].filter((e) => e.offsetParent)"
        reachable = browser.execute_script(script + ".every((e) => e.tabIndex === 0)")
        assert reachable and browser.execute_script(script + ".length") >= 4 + 17 + 6
        # Every chart says in words what it shows.
        for chart in CHARTS:
            assert "MADDPG" in browser.find_element("id", chart).get_attribute("aria-label") or chart.startswith("all")

        # On a phone nothing is wider than the page.
        browser.set_window_size(500, 900)
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
        )
        until(lambda: browser.execute_script("return innerWidth") == 390)
        until(lambda: browser.execute_script("return document.documentElement.scrollWidth") <= 390)
        assert painted(browser) == list(CHARTS)

        # The page never asks anyone but the service.
        asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert asked and all(name.startswith((str(client.base_url), "data:")) for name in asked)
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not errors

        # A service that dies is shown, and comes back by itself.
        browser.execute_script("document.getElementById('pause').click()")
        process.send_signal(signal.SIGKILL)
        process.wait()
        status = lambda: browser.find_element("id", "status").text  # noqa: E731
        until(lambda: "does not answer" in status())
        assert painted(browser) == list(CHARTS)  # what was there stays
    with running(folder, port=port, **settings):
        until(lambda: status().startswith("Live."))
