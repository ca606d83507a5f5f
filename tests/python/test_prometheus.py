"""A real Prometheus beside wrappers: it reads what they serve, and rules and dashboard name what it has read.

Goal: whoever points a scraper at ``metrics_port`` and takes ``alerts.yml`` and the dashboard has no name to
correct and no empty panel.
Method: Debian's Prometheus scrapes a wrapper that delivers and one that cannot, and is asked over its own
interface, with the queries of the dashboard as Grafana fills them in. When each rule fires, and what it says
then, stands in ``fixtures/alerts.yml``, for ``promtool``.
Where it is not installed this is skipped; with ``CI=true`` that is a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import MakeWrapper, make_batch, until

OPERATIONS = Path(__file__).parents[2] / "docs/operations"
ALERTS = OPERATIONS / "alerts.yml"
DASHBOARD = OPERATIONS / "grafana-dashboard.json"
RULES_TEST = Path(__file__).parents[1] / "fixtures/alerts.yml"
# Four scrapes, as Grafana has it.
RATE_INTERVAL = "4s"


@pytest.fixture(autouse=True)
def programs() -> None:
    """Prometheus and its tool, or no test."""
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            text = f"{program} is not installed: apt-get install --no-install-recommends prometheus"
            assert os.environ.get("CI") != "true", text
            pytest.skip(text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Prometheus:
    """One that scrapes a port each second and knows our rules."""

    def __init__(self, directory: Path, scraped: int) -> None:
        self._port = free_port()
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {"job_name": "zerobus", "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}
            ],
        }
        # What is JSON is YAML too.
        (directory / "prometheus.yml").write_text(json.dumps(configuration))
        self._log = (directory / "prometheus.log").open("w+")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """What it answers; nothing while it starts."""
        if self._process.poll() is not None:
            self._log.seek(0)
            pytest.fail(f"Prometheus has ended: {self._log.read()}")
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}?{query}") as answer:
                return json.load(answer)["data"]
        except (ConnectionError, urllib.error.URLError):
            return None

    def value(self, query: str) -> float | None:
        """The sum of what a query finds, if it finds something."""
        answer = self.ask("query", query=f"sum({query})")
        return float(answer["result"][0]["value"][1]) if answer and answer["result"] else None

    def names(self) -> set[str]:
        """Every name that it has read."""
        return set(self.ask("label/__name__/values") or ())


@contextlib.contextmanager
def scraping(directory: Path, port: int) -> Iterator[Prometheus]:
    prometheus = Prometheus(directory, port)
    try:
        yield prometheus
    finally:
        prometheus.end()


def named(text: str) -> set[str]:
    """The metrics that expressions name: not what stands in braces, in brackets, or behind ``by``."""
    expressions = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|without)\s*\([^)]*\)", " ", text)
    return set(re.findall(r"\bzerobus_\w+", expressions))


def dashboard_expressions(value: Any) -> Iterator[str]:
    """The queries of a dashboard, wherever they stand in it."""
    if isinstance(value, dict):
        if isinstance(value.get("expr"), str):
            yield value["expr"]
        for item in value.values():
            yield from dashboard_expressions(item)
    elif isinstance(value, list):
        for item in value:
            yield from dashboard_expressions(item)


def test_the_rules_load() -> None:
    checked = subprocess.run(
        ["promtool", "check", "rules", ALERTS], capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert re.search(r"SUCCESS: \d+ rules found", checked.stdout), checked.stdout


def test_each_rule_fires_when_it_should_and_not_otherwise() -> None:
    told = RULES_TEST.read_text()
    for name in re.findall(r"- alert: (\w+)", ALERTS.read_text()):
        assert re.search(rf"alertname: {name}, eval_time", told), f"when does {name} not fire?"
        assert re.search(rf"alertname: {name}\n", told), f"when does {name} fire?"
    tested = subprocess.run(
        ["promtool", "test", "rules", RULES_TEST], capture_output=True, text=True, timeout=30, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def filled(text: str, tables: list[str]) -> str:
    """A query as Grafana sends it when all tables are chosen: a regular expression within a string."""
    chosen = "|".join(re.escape(table).replace("\\", "\\\\") for table in tables)
    return text.replace("$table", f"({chosen})").replace("$__rate_interval", RATE_INTERVAL)


def legends(prometheus: Prometheus, target: dict[str, Any], tables: list[str], since: float) -> list[str]:
    """What a query of a panel draws, by the names in its legend; lines without a value are not drawn."""
    answer = prometheus.ask(
        "query_range",
        query=filled(target["expr"], tables),
        start=str(since),
        end=str(time.time()),
        step="1",
    )
    assert answer is not None, f"{target['expr']} is no query"

    def legend(labels: dict[str, str]) -> str:
        return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), target["legendFormat"])

    lines = [line for line in answer["result"] if any(value != "NaN" for _, value in line["values"])]
    return [legend(line["metric"]) for line in lines]


def test_every_panel_of_the_dashboard_draws_lines_that_can_be_told_apart(
    online: MakeWrapper, offline: MakeWrapper, tmp_path: Path
) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    tables_query = dashboard["templating"]["list"][1]["query"]
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", tables_query)
    assert asked is not None, tables_query
    metric, label = asked.groups()
    port, since = free_port(), time.time()
    delivering = online(metrics_port=port)
    waiting = offline(metrics_port=port, table_name="main.default.others")
    with scraping(tmp_path, port) as prometheus:
        drawn: dict[str, list[str]] = {}

        async def send() -> None:
            await delivering.send_batch(make_batch(rows=5))
            await waiting.send_batch(make_batch(rows=3))

        def is_complete() -> bool:
            # Rates need something to come for a while.
            asyncio.run(send())
            tables = prometheus.ask(f"label/{label}/values", **{"match[]": metric})
            if not tables or len(tables) < 2:
                return False
            drawn.clear()
            for panel in dashboard["panels"]:
                for target in panel["targets"]:
                    found = legends(prometheus, target, tables, since)
                    if not found:
                        drawn.clear()
                        return False
                    drawn.setdefault(panel["title"], []).extend(found)
            return True

        until(is_complete, "every query to find something")
    assert len(drawn) == len(dashboard["panels"])
    for title, names in drawn.items():
        assert len(set(names)) == len(names), f"{title} draws lines of one name: {names}"
    assert set(drawn["Rows that wait"]) == {
        "main.default.events writer-001",
        "main.default.others writer-001",
    }


def test_prometheus_has_every_metric_that_rules_and_dashboard_name(
    online: MakeWrapper, offline: MakeWrapper, tmp_path: Path
) -> None:
    port = free_port()
    wanted = {
        "alerts.yml": {
            name
            for rule in re.findall(r"^\s*expr: (.*)$", ALERTS.read_text(), re.MULTILINE)
            for name in named(rule)
        },
        "dashboard": {
            name
            for expression in dashboard_expressions(json.loads(DASHBOARD.read_text()))
            for name in named(expression)
        },
    }
    assert min(map(len, wanted.values())) >= 5, wanted
    delivering = online(metrics_port=port)
    # Of another table: logs are told apart by table and writer.
    waiting = offline(metrics_port=port, table_name="main.default.others")
    with scraping(tmp_path, port) as prometheus:

        async def send() -> None:
            await delivering.send_batch(make_batch(rows=5))
            await delivering.flush(timeout=20)
            await waiting.send_batch(make_batch(rows=3))

        asyncio.run(send())
        until(lambda: prometheus.value("zerobus_rows_stored_total") == 8, "both logs")
        assert prometheus.value("zerobus_rows_delivered_total") == 5
        assert prometheus.value('up{job="zerobus"}') == 1

        def fill() -> bool:
            # How fast a log fills is known once something has come for a while.
            asyncio.run(waiting.send_batch(make_batch(rows=3)))
            time.sleep(0.2)
            return "zerobus_log_time_until_full_seconds" in prometheus.names()

        until(fill, "the pace of the log")
        names = prometheus.names()
        for file, of_file in wanted.items():
            assert of_file <= names, f"{file} names what is not there: {sorted(of_file - names)}"

        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        assert len(rules) == ALERTS.read_text().count("- alert:")
        until(
            lambda: all(
                rule["health"] == "ok"
                for group in prometheus.ask("rules")["groups"]
                for rule in group["rules"]
            ),
            "every rule to be evaluated",
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            served = page.read()
    linted = subprocess.run(
        ["promtool", "check", "metrics"], input=served, capture_output=True, timeout=30, check=False
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr
