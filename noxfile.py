"""The project's chores: `nox -l` lists them, `nox -s NAME` runs one."""

import os
import shutil
import sys
import zipfile
from itertools import chain
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint", "types", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str) -> None:
    """Install the library with its command, and what dependency groups need."""
    needed = nox.project.dependency_groups(PYPROJECT, *groups)
    session.install("-e", ".[cli,merge,report]", *needed)


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """The whole test suite on one interpreter."""
    install(session, "tests")
    session.run("pytest", *session.posargs)


@nox.session
@nox.parametrize(
    ("python", "django"),
    [("3.11", "5.2"), ("3.13", "5.2"), ("3.12", "6.1"), ("3.13", "6.1")],
)
def django(session: nox.Session, django: str) -> None:
    """The adapter for Django on each version of Django that it works with."""
    install(session, "tests")
    session.install(f"django~={django}.0")
    tests = ("backend", "checks", "admin", "outbox_command", "gunicorn")
    files = [f"tests/integration/test_django_{each}.py" for each in tests]
    session.run("pytest", *files, "docs/django.md", *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13"])
def oldest(session: nox.Session) -> None:
    """Tests with the oldest version that each dependency may have, on each Python."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    bounds = {*project["dependencies"], *chain.from_iterable(extras)}
    pins = sorted(each.replace(">=", "==", 1) for each in bounds if ">=" in each)
    session.install("-e", ".", *pins, *nox.project.dependency_groups(PYPROJECT, "tests"))
    session.run("pip", "list")
    folders = ("tests/unit", "tests/conformance", "tests/integration")
    # Old versions call what newer versions of their own dependencies deprecate.
    session.run("pytest", *folders, "-W", "default::DeprecationWarning", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Which lines and branches the tests do not reach."""
    install(session, "tests")
    session.run("pytest", "--cov", "--cov-report=term", *session.posargs)


@nox.session
def oracle(session: nox.Session) -> None:
    """The oracle and all tests of generated input with 20,000 cases each; takes long."""
    install(session, "tests")
    for selected in (["tests/properties"], ["tests/unit", "-m", "hypothesis"]):
        session.run(
            "pytest",
            "--timeout=0",
            *selected,
            *session.posargs,
            env={"HYPOTHESIS_PROFILE": "oracle"},
        )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Hostile input, 10,000 of each kind; `-- 500` tries so many. Takes up to half an hour."""
    install(session, "tests")
    [number, *more] = session.posargs or ["10000"]
    session.run(
        "pytest",
        "tests/fuzz",
        "--timeout=1800",
        "--hypothesis-show-statistics",
        *more,
        env={"FUZZ_INPUTS": number},
    )


@nox.session
def drills(session: nox.Session) -> None:
    """The faults and the largest inputs at full length, with a table; takes some minutes."""
    install(session, "tests")
    session.run(
        "pytest",
        "tests",
        "-m",
        "drill",
        "-n0",
        "-s",
        "--timeout=0",
        *session.posargs,
    )


@nox.session
def postfix(session: nox.Session) -> None:
    """A real Postfix before the policy server: 10,000 messages, and all that docs/postfix.md does.

    Installs Postfix where there are root and apt, and skips the tests elsewhere. Takes minutes.
    """
    install(session, "tests")
    if sys.platform == "linux" and shutil.which("postfix") is None:
        if os.geteuid() == 0 and shutil.which("apt-get"):
            session.run("sh", "tests/postfix/install.sh", external=True)
        else:
            session.log("Postfix is not installed, and root and apt are needed to install it")
    session.run(
        "pytest", "tests/postfix", "-m", "drill", "-n0", "-s", "--timeout=0", *session.posargs
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Static types: mypy on the tree, then mypy and pyright on the pages' code and on examples."""
    install(session, "types", "benchmarks")
    session.run("mypy")
    session.run("pytest", "tests/types", "-m", "types or not types")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """All measured beside floors and peers, for docs/benchmarks.md; `-- --quick` tries it out."""
    install(session, "benchmarks")
    figures = f"{session.create_tmp()}/benchmarks.json"
    session.run("pytest", "benchmarks", f"--benchmark-json={figures}", *session.posargs)
    session.run("python", "-m", "benchmarks.page", figures)


@nox.session
def package(session: nox.Session) -> None:
    """The source archive, the wheel from it, and a part of the tests from the archive alone."""
    folder = Path(session.create_tmp())
    shutil.rmtree(folder, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(folder), ".")
    [archive] = folder.glob("*.tar.gz")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        if not any(name.endswith("/ratelimit-mail.1") for name in opened.namelist()):
            session.error("the wheel has no man page")
    shutil.unpack_archive(archive, folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz")
    session.install(
        f"{wheel}[cli,merge,report]", *nox.project.dependency_groups(PYPROJECT, "tests")
    )
    with session.chdir(source):
        # Of the archive, only the tests are used: the library is the one in the wheel.
        session.run("pytest", "tests/unit", "docs", "README.md", *session.posargs)


@nox.session
def licences(session: nox.Session) -> None:
    """The licences of all that the core and the extras install, and a bill of materials."""
    extras = sorted(PYPROJECT["project"]["optional-dependencies"])
    session.install(f".[{','.join(extras)}]")
    session.run("python", "-m", "release.components", "ratelimit-mail.cdx.json")


@nox.session
def slower(session: nox.Session) -> None:
    """What became slower since an earlier run, by its figures: `-- OLD.json`, as of a release."""
    if len(session.posargs) != 1:
        session.error("say which run to compare with: nox -s slower -- OLD.json")
    install(session, "benchmarks")
    figures = f"{session.create_tmp()}/benchmarks.json"
    ours = "not (pyrate or throttled or token or limits)"
    session.run("pytest", "benchmarks", "-k", ours, f"--benchmark-json={figures}")
    session.run("python", "-m", "benchmarks.changes", session.posargs[0], figures)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, into `site/`, with its links checked."""
    install(session, "docs")
    session.run("zensical", "build", "--config-file", "mkdocs.yml", "--clean", "--strict")
    session.run("python", "-m", "release.site", "site")
