"""CityLearn rolled by actions that come over HTTP: what an energy manager would do with the service.

python -m thesis_lib.serving.client http://localhost:8000 --hours 168
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import httpx

from thesis_lib.community import dataset as datasets
from thesis_lib.community import original
from thesis_lib.community.dataset import DatasetError
from thesis_lib.community.kpis import Service, Trajectory, evaluate
from thesis_lib.community.original import Lists


class ServiceError(RuntimeError):
    """The service did not answer, is another one, or of another edition than the data; its text is one line."""


class RemotePolicy:
    """The policy behind a service: observations to actions, CityLearn's lists on both sides."""

    def __init__(self, client: httpx.Client):
        """``client``: its base_url is the service's; it keeps one connection open."""
        self.client = client

    def edition(self) -> str:
        """Of the data that the policy was trained on.

        Raises:
            ServiceError: no answer, a refusal, or an answer of something else than the service.
        """
        edition: str = self._ask("GET", "/schema", "edition")
        return edition

    def act(self, observations: Lists) -> Lists:
        """What each home does.

        Raises:
            ServiceError: no answer, a refusal, or an answer of something else than the service.
        """
        lists = [[float(value) for value in home] for home in observations]
        actions: Lists = self._ask("POST", "/predict", "actions", json={"observations": lists})
        return actions

    def _ask(self, method: str, path: str, key: str, **body: Any) -> Any:
        url = self.client.base_url
        try:
            answer = self.client.request(method, path, **body)
        except httpx.TransportError as error:
            raise ServiceError(f"{url} does not answer ({type(error).__name__}): is it up?") from None
        said = " ".join(answer.text.split())[:300]
        if answer.status_code != 200:
            raise ServiceError(f"{url} answered {answer.status_code}: {said}")
        try:
            return answer.json()[key]
        except (ValueError, KeyError, TypeError):  # no JSON, not this key, no object
            raise ServiceError(f"{url} is not the service, its {path} says no {key} but: {said or 'nothing'}") from None


def roll(env: Any, client: httpx.Client) -> Trajectory:
    """Step CityLearn to its end with the service's actions.

    Args:
        env: CityLearnEnv with central_agent=False.
        client: of the service.

    Returns:
        The trajectory.

    Raises:
        ServiceError: see `RemotePolicy.act`.
        ValueError: an action that is no number.
    """
    return original.drive(env, RemotePolicy(client).act)


def main(arguments: Sequence[str] | None = None) -> int:
    """Roll CityLearn with a service's actions and print the KPIs of those hours.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.serving.client", description=main.__doc__)
    parser.add_argument("url", help="of the service, such as http://localhost:8000")
    parser.add_argument("--hours", type=int, default=168, help="from row 0 (default: 168)")
    parser.add_argument("--edition", default="auto", choices=datasets.EDITIONS, help="of the data (default: auto)")
    given = parser.parse_args(arguments)
    token = os.environ.get("THESIS_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        data = datasets.find(given.edition)
        with httpx.Client(base_url=given.url, headers=headers, timeout=30) as client:
            if (edition := RemotePolicy(client).edition()) != data.edition:
                raise ServiceError(
                    f"{given.url} serves a policy of the {edition} edition, the data found are the {data.edition} one: "
                    f"give --edition {edition}"
                )
            env = datasets.load(data, end=given.hours)
            env.reset()
            logging.getLogger("httpx").setLevel(logging.WARNING)  # CityLearn turned its line for each request on
            rows = evaluate(roll(env, client), Service.from_citylearn(env))
    except (ServiceError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = rows[rows.split == "year"].dropna(subset=["value"])
    print(rows[["kpi", "value", "unit"]].to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
