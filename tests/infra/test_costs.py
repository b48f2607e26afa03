"""Each figure of the guide's cost tables is what its arithmetic gives, with prices of the dated file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from roost.storage.aws.cost import prices
from tests.infra.terraform import INFRA

GUIDE = (INFRA / "operations.md").read_text(encoding="utf-8")
COSTS = GUIDE[GUIDE.index("## What it costs") :]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in COSTS.splitlines()
    if re.search(r"\| \d+\.\d\d USD", line)
]
PRICED = {*prices()["usd_per_million"].values(), *prices()["others"]["usd"].values()}


def terms(arithmetic: str) -> str:
    """The numbers and signs of a row's arithmetic: without words, and what is said besides."""
    text = arithmetic.partition(";")[0]
    text = text.rpartition(": ")[2].replace(",", "").replace(" x ", " * ")
    return " ".join(re.findall(r"\d+(?:\.\d+)?|[-+*/()]", text))


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_figure_is_what_its_arithmetic_gives(row: list[str]) -> None:
    figure = float(row[1].split()[0])
    assert eval(terms(row[2])) == pytest.approx(figure, abs=0.0051)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_its_prices_are_those_of_the_file(row: list[str]) -> None:
    assert PRICED & {float(number) for number in re.findall(r"\d+\.\d+", terms(row[2]))}


def test_there_is_a_row_for_everything_that_is_compared() -> None:
    assert len(ROWS) == 19
    text = "\n".join([*(row[2] for row in ROWS), *re.findall(r"\(\d+ GB x [^)]*\)", COSTS)])
    for name, price in prices()["others"]["usd"].items():
        assert re.search(rf"\b{price:g}", text.replace("25.00", "25").replace("8.00", "8")), name


def test_every_price_has_a_source() -> None:
    assert prices()["sources"].keys() == prices()["usd_per_million"].keys()
    assert prices()["others"]["sources"].keys() == prices()["others"]["usd"].keys()


def test_what_a_wake_up_costs() -> None:
    [(arithmetic, figure)] = re.findall(r"(8 x 0\.625 \+ 3 x 0\.40) = (\d\.\d\d) USD", COSTS)
    assert eval(terms(arithmetic)) == pytest.approx(float(figure))


def test_what_blobs_cost() -> None:
    [(figure, count, price)] = re.findall(r"are (\d\.\d\d) USD\na month \((\d+) GB x ([\d.]+)\)", COSTS)
    assert float(price) == prices()["others"]["usd"]["s3_gb_month"]
    assert float(count) * float(price) == pytest.approx(float(figure))


def test_how_many_alarms_the_example_has() -> None:
    """An alarm is charged by its metrics."""
    [row] = [row for row in ROWS if "alarms of the example" in row[0]]
    example = json.loads(Path(__file__).with_name("states.json").read_text(encoding="utf-8"))["lambda"]
    alarms = [one["values"] for one in example if one["type"] == "aws_cloudwatch_metric_alarm"]
    counts = [sum(bool(query["metric"]) for query in alarm["metric_query"]) or 1 for alarm in alarms]
    assert row[2].startswith(f"{sum(counts)} x ")


def test_how_many_times_less_than_others() -> None:
    """\"A fortieth of Step Functions and a thirteenth of durable functions\"."""
    write = prices()["usd_per_million"]["dynamodb_write_unit"]
    others = prices()["others"]["usd"]
    assert round(others["step_functions_transition"] / write) == 40
    assert round(others["lambda_durable_operation"] / write) == 13
