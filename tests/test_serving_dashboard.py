"""The dashboard in a real browser: what it draws, in two languages, on a phone, and when the service is gone.

Without chromium and its driver these tests are skipped, except where ``DASHBOARD_CHECK`` is set: there they fail.
"""

from __future__ import annotations

import os
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

from thesis_lib.analysis.page import LOOKS
from thesis_lib.provenance import write_csv_atomic

CHARTS = (
    "comparisonControlChart",
    "threeWayComparisonChart",
    "multiAgentBuildingsChart",
    "allBuildingsActionsChart",
    "flexibilityChart",
    "priceResponseChart",
)
START = 585  # two days later, in the last hour of the first look, the sun shines and cars are there


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as evaluated runs leave them; their values are made up, here and nowhere else."""
    folder = tmp_path_factory.mktemp("results")
    for number, name in enumerate(("charge_on_arrival", "marlisa")):
        run = folder / "runs" / "offline" / name / "default" / "seed_0"
        run.mkdir(parents=True)
        rows = pd.RangeIndex(2000)
        net = pd.DataFrame({"engine": "citylearn", "row": rows, "net": 20.0 + number + rows % 24})
        write_csv_atomic(run / "hourly.csv.gz", net)
        drawn = {f"battery/Building_{home}": 0.1 * number * (rows % 7) for home in range(1, 18)}
        flows = pd.DataFrame({"row": rows} | drawn)
        write_csv_atomic(run / "flows.csv.gz", flows)
        (run / "run.json").write_text("{}")
    return folder


def chromium() -> tuple[str, str]:
    """Where the browser and its driver are, or a skip (where they are asked for, a failure) saying how to get them."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program, driver = next(filter(None, map(shutil.which, names)), None), shutil.which("chromedriver")
    if program is None or driver is None:
        message = "THE DASHBOARD IS NOT TESTED: install chromium and its driver (Debian: chromium chromium-driver)"
        pytest.fail(message) if os.environ.get("DASHBOARD_CHECK") else pytest.skip(message)
    return program, driver


@pytest.mark.parametrize(("asked", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_browser_fails_where_it_is_asked_for(
    asked: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("DASHBOARD_CHECK", asked)
    with pytest.raises(outcome, match="install chromium"):
        chromium()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    from selenium import webdriver

    program, path = chromium()
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", "lang=en",
        f"user-data-dir={tmp_path / 'browser'}", "window-size=1280,900",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(path))
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


def drawn(browser: Any) -> dict[str, dict[str, list[Any]]]:
    """What each chart draws: the values of each data set, by its label; a point is a pair."""
    script = """return Object.fromEntries(arguments[0].map((id) => {
        const sets = (window.Chart && Chart.getChart(id))?.data.datasets ?? [];
        const plain = (value) => value?.x === undefined ? value : [value.x, value.y];
        return [id, Object.fromEntries(sets.map((set) => [set.label, set.data.map(plain)]))]; }))"""
    found: dict[str, dict[str, list[Any]]] = browser.execute_script(script, list(CHARTS))
    return found


def painted(browser: Any) -> dict[str, set[str]]:
    """The data sets of each chart whose colour is to be seen between its axes."""
    script = """return Object.fromEntries(arguments[0].map((id) => {
        const chart = Chart.getChart(id), area = chart.chartArea, scale = chart.currentDevicePixelRatio;
        const place = [area.left, area.top, area.width, area.height].map((value) => Math.round(value * scale));
        const pixels = chart.ctx.getImageData(...place).data;
        const seen = (colour) => { const wanted = colour.match(/\\w\\w/g).map((part) => parseInt(part, 16));
            for (let i = 0; i < pixels.length; i += 4)
                if (pixels[i + 3] > 60 && wanted.every((value, k) => Math.abs(pixels[i + k] - value) < 12)) return true;
            return false; };
        return [id, chart.data.datasets.filter((set) => seen(set.backgroundColor)).map((set) => set.label)]; }))"""
    found: dict[str, list[str]] = browser.execute_script(script, list(CHARTS))
    return {chart: set(labels) for chart, labels in found.items()}


def expected(episode: dict[str, Any], runs: list[dict[str, Any]], homes: list[str]) -> dict[str, dict[str, list[Any]]]:
    """What each chart has to draw, from the answers of /simulate/step and /comparison alone."""
    hours, names, now = episode["hours"], episode["homes"], episode["hours"][-1]
    live, nothing, other = "Cooperative MADDPG (broadcast, live)", "No control (cars charge on arrival)", "MARLISA"
    price = [hour["price"] for hour in hours]
    net = {nothing: runs[0]["net"], other: runs[1]["net"], live: [sum(hour["net"]) for hour in hours]}
    bought = {live: [sum(max(hour["net"][names.index(home)], 0) for hour in hours) for home in homes]}
    for label, run in zip((nothing, other), runs, strict=True):
        bought[label] = []
        for home in homes:
            i = names.index(home)
            rest = [hour["load"][i] - hour["pv"][i] for hour in hours]
            bought[label].append(sum(max(a + b, 0) for a, b in zip(rest, run["homes"][home], strict=True)))
    chargers = [charger["home"] for charger in episode["chargers"]]
    actions = {home: now["actions"][names.index(home)] for home in names}
    cars = {
        home: [kwh for kwh, place in zip(now["chargers"], chargers, strict=True) if place == home] for home in names
    }
    number = {home: home.removeprefix("Building_") for home in names}
    assert chargers.count("Building_15") == 2 and len(actions["Building_1"]) == 3 and len(now["appliances"]) == 1
    mean = lambda key: [100 * sum(hour[key]) / len(hour[key]) for hour in hours]  # noqa: E731
    return {
        "comparisonControlChart": {label: net[label] for label in (nothing, live)},
        "threeWayComparisonChart": net,
        "multiAgentBuildingsChart": bought,
        "allBuildingsActionsChart": {
            "Battery action": [[number[home], actions[home][0]] for home in names],
            "Car action": [[number[home], y] for home in names for y in actions[home][1 : 1 + chargers.count(home)]],
            "Appliance action": [["1", actions["Building_1"][2]]],
            "Sun (kWh)": [-kwh for kwh in now["pv"]],
            "Battery (kWh)": now["battery"],
            "Car (kWh)": [sum(cars[home]) for home in names],
            "Appliance (kWh)": [now["appliances"][0] if home == "Building_1" else 0 for home in names],
        },
        "flexibilityChart": {
            live: net[live],
            "Price (EUR/kWh)": price,
            "Batteries, mean (%)": mean("battery_soc"),
            "Cars, mean (%)": mean("car_soc"),
        },
        "priceResponseChart": {
            label: [[x, y] for x, y in zip(price, net[label], strict=True)] for label in (nothing, live)
        },
    }


def flat(values: list[Any]) -> list[float]:
    return [float(number) for value in values for number in (value if isinstance(value, list) else [value])]


def pause(browser: Any) -> None:
    """Let nothing move on, once the answer under way has come."""
    browser.execute_script("paused || document.getElementById('pause').click()")
    until(lambda: all(drawn(browser).values()))
    time.sleep(0.5)


def test_what_the_dashboard_draws(browser: Any, results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = exported(tmp_path_factory)
    settings = {"data": find("offline").schema.parent, "results": results, "seconds": 120}
    port = free_port()
    with running(folder, port=port, **settings) as (client, process):
        browser.get(f"{client.base_url}/static/dashboard.html?start={START}")
        pause(browser)  # before the first answer, which is then the only one

        # Every number is the service's: of the same hours, simulated again, and of the runs in those hours.
        charts, count = drawn(browser), browser.execute_script("return hours.length")
        with httpx.Client(base_url=client.base_url, timeout=120) as again:
            again.post("/simulate/reset", json={"start": START})
            episode = again.post("/simulate/step", json={"hours": count}).json()
            runs = again.get("/comparison", params={"start": START, "hours": count}).json()["runs"]
        wanted = expected(episode, runs, browser.execute_script("return chosen"))
        for chart, sets in wanted.items():
            assert charts[chart].keys() == sets.keys(), chart
            for label, values in sets.items():
                where = f"{chart}: {label}"
                assert len(values) in (count, 17, 8, 5, 1) and len(charts[chart][label]) == len(values), where
                assert flat(charts[chart][label]) == pytest.approx(flat(values), abs=1e-9), where
                # Only the one appliance has nothing beside it to differ from.
                assert len(set(flat(values))) > 1 or label.startswith("Appliance"), where
        visible = {
            chart: {label for label, values in sets.items() if any(flat(values))} for chart, sets in charts.items()
        }
        seen = painted(browser)
        assert all(labels <= seen[chart] for chart, labels in visible.items())

        # Controllers have the colours of the thesis' figures.
        colours = "return Chart.getChart('threeWayComparisonChart').data.datasets.map((set) => set.borderColor)"
        looks = [LOOKS[name].color.lower() for name in ("marlisa", "cooperative_maddpg")]
        assert browser.execute_script(colours)[1:] == looks

        # Energies and actions have their zeros at one height.
        zeros = "const { y, action } = Chart.getChart('allBuildingsActionsChart').scales; return [y, action].map("
        assert browser.execute_script(zeros + "(axis) => axis.getPixelForValue(0) - axis.getPixelForDecimal(0.5))") == [
            0,
            0,
        ]

        # Spanish and back.
        browser.find_element("css selector", "[data-language=es]").click()
        assert browser.execute_script("return document.documentElement.lang") == "es"
        assert "política en vivo" in browser.find_element("css selector", "h1").text
        assert "edición sin conexión" in browser.find_element("id", "about").text
        assert "MADDPG cooperativo (difusión, en vivo)" in drawn(browser)["threeWayComparisonChart"]
        assert "en frío" in browser.find_element("id", "footing").text
        browser.find_element("css selector", "[data-language=en]").click()

        # Where the episode began stands there when its first hours have left the page.
        began = "live episode begins with the hour Aug 25, 09:00"
        assert began in browser.find_element("id", "footing").text
        browser.execute_script("hours = hours.slice(24); say()")
        # So does that it began cold, and the others did not.
        assert began in (footing := browser.find_element("id", "footing").text) and "first buys to catch up" in footing
        browser.execute_script("begun = false; look()")
        until(lambda: browser.execute_script("return !looking && hours.length === 48"))

        # What is read aloud changes with the state, not with each answer; headers say of what they are.
        assert browser.find_element("css selector", "[role=status]").text == "Live. Paused."
        assert "Last answer" in browser.find_element("id", "status").text
        assert browser.find_element("id", "pause").get_attribute("aria-pressed") is None
        scopes = "return [...document.querySelectorAll('#summary th')].map((each) => each.scope)"
        assert browser.execute_script(scopes) == ["col"] * 4 + ["row"] * 3

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
        assert painted(browser) == seen

        # Dates beside each other do not touch.
        apart = """return arguments[0].slice(0, 5).every((id) => { const axis = Chart.getChart(id).scales.x,
            width = (tick) => axis.ctx.measureText(tick.label).width;
            return axis.ticks.every((tick, i) => !i || axis.getPixelForTick(i) - axis.getPixelForTick(i - 1)
                > (width(tick) + width(axis.ticks[i - 1])) / 2); })"""
        assert browser.execute_script(apart, list(CHARTS))

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
        assert painted(browser) == seen  # what was there stays
    with running(folder, port=port, **settings):
        until(lambda: status().startswith("Live."))


def test_what_the_dashboard_bears(browser: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    status = lambda: browser.find_element("id", "status").text  # noqa: E731
    settings = {"data": find("offline").schema.parent, "results": tmp_path, "seconds": 120, "token": "a secret"}
    with running(exported(tmp_path_factory), **settings) as (client, _):
        page = f"{client.base_url}/static/dashboard.html?start={START}"
        browser.get(page)
        browser.execute_script("localStorage.setItem('language', 'xx')")
        browser.get(page)

        # A token that no header can hold is none, and another can be given.
        form = browser.find_element("id", "access")
        for token, done in (("ключ", lambda: "does not answer" in status()), ("a secret", lambda: "Live." in status())):
            until(form.is_displayed)
            browser.find_element("id", "token").clear()
            browser.find_element("id", "token").send_keys(token)
            form.find_element("css selector", "button").click()
            until(done)
        assert not form.is_displayed()
        pause(browser)
        assert "no evaluated run of the offline edition" in status()
        assert "continuous year" not in browser.find_element("id", "footing").text  # there is none to speak of

        # Answers to a look that was under way when the episode was begun anew change nothing.
        browser.execute_script("""window.held = []; const own = fetch; window.fetch = (...given) =>
            own(...given).then((answer) => new Promise((done) => held.push(() => done(answer))));""")
        count = lambda: browser.execute_script("return held.length")  # noqa: E731
        browser.execute_script("look(); document.getElementById('restart').click()")
        until(lambda: count() == 2)
        browser.execute_script("held[1]()")  # one of the two is the step's, the other is the reset's
        browser.execute_script("held[0]()")
        until(lambda: count() == 3)
        time.sleep(0.5)
        assert count() == 3
        browser.execute_script("held[2]()")
        until(lambda: count() == 4)
        browser.execute_script("held[3]()")
        until(lambda: not browser.execute_script("return looking"))
        rows = browser.execute_script("return hours.map((hour) => hour.row)")
        assert len(rows) == 48 and "Live." in status()
        assert not [entry for entry in browser.get_log("browser") if "TypeError" in entry["message"]]


def test_another_page_that_moves_the_episode_on_empties_nothing(
    browser: Any, results: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {"data": find("offline").schema.parent, "results": results, "seconds": 120}
    rows = lambda: browser.execute_script("return hours.map((hour) => hour.row)")  # noqa: E731

    def follow(wanted: list[int]) -> None:
        browser.execute_script("paused && document.getElementById('pause').click()")  # looks at once
        until(lambda: rows() == wanted and "Another page" in browser.find_element("id", "status").text)
        pause(browser)
        assert browser.execute_script("return Chart.getChart('threeWayComparisonChart').data.labels") == wanted

    with running(exported(tmp_path_factory), **settings) as (client, _):
        browser.get(f"{client.base_url}/static/dashboard.html?start={START}")
        pause(browser)  # before the first answer, which is then the only one
        before = rows()
        assert "Another page" not in browser.find_element("id", "status").text

        # It stepped on: a gap of five hours, and the runs' values are still those of the hours beside them.
        client.post("/simulate/step", json={"hours": 5})
        row = before[-1] + 6
        follow([*before, *range(row, row + 6)])
        assert drawn(browser)["threeWayComparisonChart"]["MARLISA"] == [21.0 + row % 24 for row in rows()]

        # It began again: what comes before its hours stays.
        client.post("/simulate/reset", json={"start": START})
        client.post("/simulate/step", json={"hours": 24})
        follow([*range(START, START + 30)])
