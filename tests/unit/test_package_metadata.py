"""The README in the package's metadata: no link in it leads nowhere."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from release.components import all_components, bill_of_materials, closure

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def hooks() -> Any:
    """The module with the hooks of the build."""
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def targets(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", text)


def test_without_an_address_of_the_documentation_no_relative_link_is_left(hooks: Any) -> None:
    text = hooks.portable_readme(README, None)
    assert all(each.startswith("https://") for each in targets(text))
    assert "![" not in text
    assert "The benchmarks compare it with other libraries:" in " ".join(text.split())
    assert len(text) > 0.6 * len(README)


def test_with_an_address_each_page_has_an_absolute_link(hooks: Any) -> None:
    text = hooks.portable_readme(README, "https://docs.example.org/en/")
    pages = [each for each in targets(README) if each.startswith("docs/") and ".md" in each]
    assert len(targets(text)) == len(pages)
    assert "[An outbox](https://docs.example.org/en/outbox.html)" in text
    assert "(https://docs.example.org/en/index.html#install)" in text


def test_every_link_of_the_readme_is_a_file() -> None:
    for each in targets(README):
        path, _, anchor = each.partition("#")
        assert (ROOT / path).is_file(), each
        if anchor:
            headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}
            assert anchor in slugs, each


def test_the_hook_sets_the_readme(hooks: Any) -> None:
    metadata: dict[str, Any] = {}
    hooks.ReadmeHook(str(ROOT), {}).update(metadata)
    assert metadata["readme"]["content-type"] == "text/markdown"
    assert metadata["readme"]["text"].startswith("# ratelimit-mail")
    assert PROJECT["dynamic"] == ["readme"]


def test_the_documentation_lists_the_libraries_of_the_core_with_their_licences() -> None:
    page = (
        (ROOT / "docs/security.md").read_text(encoding="utf-8").partition("## What is installed")[2]
    )
    rows = dict(re.findall(r"^\| ([a-z-]+) \| (\S.+?) \| .+ \|$", page, re.MULTILINE))
    rows.pop("library")
    assert set(closure()) <= set(rows)
    direct = {re.split("[>=]", each)[0] for each in PROJECT["dependencies"]}
    assert direct <= set(rows)


def test_the_bill_of_materials_names_each_component_and_what_it_needs() -> None:
    components = all_components()
    bill = bill_of_materials(components)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert [each["name"] for each in bill["components"]] == [each.name for each in components]
    references = {each["bom-ref"] for each in bill["components"]}
    needs = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    assert set(needs) == references
    assert all(set(each) <= references for each in needs.values())
    assert {"attrs", "limits", "redis"} <= {each.name for each in components if not each.extras}
    assert all(each.licence != "unknown" for each in components if not each.extras)


def test_the_site_names_the_version() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert f"copyright: ratelimit-mail {PROJECT['version']}," in menu
