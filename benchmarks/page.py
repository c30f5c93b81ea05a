"""Writes docs/benchmarks.md and its pictures from the JSON file of a run, by page.md.jinja."""

import json
import sys
from pathlib import Path

import jinja2

from benchmarks import charts, contenders
from benchmarks.results import TIMES, WRONG, Results, number

ROOT = Path(__file__).parents[1]


def render(results: Results) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    names = vars(contenders) | {"results": results, "TIMES": TIMES, "WRONG": WRONG}
    return environment.get_template("page.md.jinja").render(names) + "\n"


def main() -> None:
    """Write the page from the JSON file that is named on the command line."""
    results = Results(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    (ROOT / "docs" / "benchmarks.md").write_text(render(results), encoding="utf-8")
    charts.draw(results, ROOT / "docs" / "benchmarks")


if __name__ == "__main__":
    main()
