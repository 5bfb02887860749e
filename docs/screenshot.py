"""Pictures of the dashboard as it is: docs/dashboard.png and docs/dashboard_es_phone.png, from the committed policy.

    make screenshot

Starts the service on models/broadcast, opens the page in Debian's chromium, waits for noon of the fifth simulated day
and looks.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from thesis_lib import paths
from thesis_lib.serving import load

HOURS = 108  # drawn before the picture is taken: the sun shines in the last one
WIDE, PHONE = (1280, 1780), (390, 3480)  # pixels
READY = f"return window.Chart && Chart.getChart('priceResponseChart') && hours.length >= {HOURS}"


def pictures(model: Path, folder: Path) -> list[Path]:
    """Take both pictures of the service of ``model``.

    Raises:
        RuntimeError: the service did not start, or the page drew nothing within a minute.
    """
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        raise RuntimeError("no chromium: install chromium and its driver (Debian: chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    with tempfile.TemporaryDirectory() as profile, load.served(model) as (url, _, _):
        for flag in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        page = webdriver.Chrome(options, Service(driver))
        try:
            page.set_window_size(*WIDE)
            page.get(f"{url}/static/dashboard.html")
            limit = time.monotonic() + 60
            while not page.execute_script(READY):
                if time.monotonic() > limit:
                    raise RuntimeError("the dashboard drew nothing within a minute")
                time.sleep(0.2)
            page.execute_script("paused || document.getElementById('pause').click()")
            made = [folder / "dashboard.png", folder / "dashboard_es_phone.png"]
            _look(page, WIDE, made[0])
            page.find_element("css selector", "[data-language=es]").click()
            _look(page, PHONE, made[1])
        finally:
            page.quit()
    return made


def _look(page: webdriver.Chrome, size: tuple[int, int], file: Path) -> None:
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.execute_script("draw()")
    time.sleep(1.0)  # charts follow the size
    page.save_screenshot(str(file))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=paths.ROOT / "models" / "broadcast", help="folder of policy.onnx")
    args = parser.parse_args()
    try:
        for file in pictures(args.model, paths.ROOT / "docs"):
            print(file.relative_to(paths.ROOT))
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
