"""The page /docs in a real browser: what every operation takes is there to read."""

from __future__ import annotations

from typing import Any

import pytest
import test_serving_dashboard as dashboard
from served import exported, running

browser = dashboard.browser


def test_the_page_shows_what_each_operation_takes(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(exported(tmp_path_factory)) as (client, _):
        browser.get(f"{client.base_url}/docs")
        text = dashboard.until(lambda: browser.execute_script("return document.getElementById('paths')?.textContent"))
        operations = [line for line in text.split("POST ")[1:]]
        for path, field in (("/predict", "observations"), ("/simulate/reset", "start"), ("/simulate/step", "hours")):
            (shown,) = [operation for operation in operations if operation.startswith(path)]
            assert f'"{field}"' in shown.split("200: ")[0], path
        assert "$ref" not in text
