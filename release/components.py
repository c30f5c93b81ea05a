"""List the libraries that are installed with this one, with their versions and licences.

`python -m release.components` prints a table; with the name of a file, it also writes a CycloneDX
bill of materials in JSON. It looks at what is installed, for the core and for each extra.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

import attrs
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NAME: Final = "ratelimit-mail"
CLASSIFIER: Final = "License :: OSI Approved :: "


@attrs.frozen
class Component:
    """An installed library: its name, version and licence, and the libraries that it needs.

    extras: the extras of ratelimit-mail that install it; empty for a part of the core.
    """

    name: str
    version: str
    licence: str
    needs: tuple[str, ...]
    extras: tuple[str, ...] = ()


def licence_of(library: Distribution) -> str:
    """Return the licence that a library names: an SPDX expression, or the words of its author."""
    metadata = library.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    words = metadata["License"].strip() if "License" in metadata else ""
    if words and "\n" not in words and len(words) <= 60:
        return words
    classifiers = metadata.get_all("Classifier") or []
    named = [each.removeprefix(CLASSIFIER) for each in classifiers if each.startswith(CLASSIFIER)]
    return ", ".join(named) or "unknown"


def needed_by(library: Distribution, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """Yield what a library needs here, with `extras`."""
    for line in library.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": each}) for each in ("", *extras)):
            yield requirement


def closure(extra: str | None = None) -> dict[str, Component]:
    """Return the installed libraries of the core, or of the core with an extra, by name."""
    components: dict[str, Component] = {}
    waiting: list[tuple[str, tuple[str, ...]]] = [(NAME, () if extra is None else (extra,))]
    while waiting:
        name, extras = waiting.pop()
        try:
            library = distribution(name)
        except PackageNotFoundError:
            continue
        needed = list(needed_by(library, extras))
        waiting += [
            (canonicalize_name(each.name), tuple(sorted(each.extras)))
            for each in needed
            if canonicalize_name(each.name) not in components
        ]
        if name != NAME:
            needs = tuple(sorted({canonicalize_name(each.name) for each in needed}))
            components[name] = Component(name, library.version, licence_of(library), needs)
    return components


def all_components() -> list[Component]:
    """Return the libraries of the core, then those of the extras, each once."""
    core = closure()
    by_extra = {
        extra: closure(extra) for extra in distribution(NAME).metadata.get_all("Provides-Extra", [])
    }
    every = dict(
        sorted({**core, **{k: v for each in by_extra.values() for k, v in each.items()}}.items())
    )
    rest = [
        attrs.evolve(each, extras=tuple(extra for extra, has in by_extra.items() if name in has))
        for name, each in every.items()
        if name not in core
    ]
    return [*(core[name] for name in sorted(core)), *rest]


def bill_of_materials(components: Iterable[Component]) -> dict[str, Any]:
    """Return the components as CycloneDX 1.6."""
    own = distribution(NAME)
    listed = list(components)
    known = {each.name: _reference(each.name, each.version) for each in listed}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _entry(NAME, own.version, licence_of(own))},
        "components": [_entry(each.name, each.version, each.licence) for each in listed],
        "dependencies": [
            {"ref": known[each.name], "dependsOn": [known[x] for x in each.needs if x in known]}
            for each in listed
        ],
    }


def _reference(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _entry(name: str, version: str, licence: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": _reference(name, version),
        "name": name,
        "version": version,
        "purl": _reference(name, version),
        "licenses": [{"license": {"name": licence}}],
    }


def main(arguments: list[str]) -> None:
    """Print the table, and write the bill of materials if a file is named."""
    components = all_components()
    print("| library | version | licence | of |\n|---|---|---|---|")
    for each in components:
        of = ", ".join(each.extras) or "the core"
        print(f"| {each.name} | {each.version} | {each.licence} | {of} |")
    for file in arguments:
        text = json.dumps(bill_of_materials(components), indent=2)
        Path(file).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
