"""The wheel and the sdist hold what they should, checked by opening them."""

from __future__ import annotations

import configparser
import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent
SOURCE = (
    "polysync",
    "tests",
    "docs",
    "examples",
    "benchmarks",
    ".ci",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "MANIFEST.in",
    "LICENSE",
    "README.rst",
    "CHANGELOG.rst",
    "CONTRIBUTING.rst",
    "Makefile",
    ".readthedocs.yaml",
)
LITTER = shutil.ignore_patterns("__pycache__", "*.py[cod]", "_build", "*.egg-info")


def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def listed(section: str, key: str) -> list[str]:
    return config()[section][key].split()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the sdist, built offline from a copy."""
    place = tmp_path_factory.mktemp("build")
    copy = place / "source"
    copy.mkdir()
    for name in SOURCE:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, copy / name, ignore=LITTER)
        elif path.exists():
            shutil.copy(path, copy / name)
    out = place / "dist"
    # The wheel is built from the sdist, so that what the sdist lacks shows up.
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def text(wheel: zipfile.ZipFile, ending: str) -> str:
    (name,) = [name for name in wheel.namelist() if name.endswith(ending)]
    return wheel.read(name).decode()


def package_files() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "polysync").rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix not in (".pyc", ".pyo", ".pyd")
    }


def test_wheel_holds_the_whole_package(wheel: zipfile.ZipFile) -> None:
    """Every file of the package is in the wheel: nested packages, pages, scripts."""
    assert package_files() - set(wheel.namelist()) == set()


def test_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    """No test, example or stray file is installed beside the package."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"polysync"}


def test_wheel_is_typed(wheel: zipfile.ZipFile) -> None:
    """The marker that lets type checkers use our annotations is shipped."""
    assert "polysync/py.typed" in wheel.namelist()
    assert "Classifier: Typing :: Typed" in text(wheel, ".dist-info/METADATA")


def test_wheel_names_its_entry_points(wheel: zipfile.ZipFile) -> None:
    """The command and the pytest plugin are declared."""
    points = configparser.ConfigParser()
    points.read_string(text(wheel, ".dist-info/entry_points.txt"))
    assert dict(points["console_scripts"]) == {"polysync": "polysync.cli:main"}
    assert dict(points["pytest11"]) == {"polysync": "polysync.pytest_plugin"}


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    """Name, version, floor, licence, dependencies and extras are as declared."""
    metadata = email.message_from_string(text(wheel, ".dist-info/METADATA"))
    assert metadata["Name"] == "polysync"
    assert metadata["Version"] == config()["metadata"]["version"]
    assert metadata["Requires-Python"] == ">=3.10"
    assert "Apache-2.0" in (metadata["License"] or metadata["License-Expression"])
    assert set(config()["options.extras_require"]) == set(
        metadata.get_all("Provides-Extra", [])
    )
    required = {
        re.match(r"[\w-]+", line).group()  # type: ignore[union-attr]
        for line in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in line
    }
    assert required == {"attrs", "cattrs", "urllib3", "websocket-client"}
    # A description is the README, which an index shows.
    assert "Client(" in (metadata.get_payload() or metadata["Description"])


def test_wheel_carries_the_licence(wheel: zipfile.ZipFile) -> None:
    """The full text of the licence is shipped."""
    assert "Apache License" in text(wheel, "LICENSE")


def test_no_upper_bounds() -> None:
    """Only a release known to be broken is forbidden, never one yet to come."""
    lines = config()["options"]["install_requires"].split()
    assert [line for line in lines if "<" in line or "~" in line or "==" in line] == []
    assert "websocket-client>=1.8,!=1.9.1" in lines


def test_all_is_the_sum_of_the_extras() -> None:
    """`polysync[all]` names every extra that users, not developers, ask for."""
    (everything,) = listed("options.extras_require", "all")
    inside = everything.removeprefix("polysync[").removesuffix("]").split(",")
    extras = set(config()["options.extras_require"])
    assert set(inside) == extras - {"all", "test", "docs", "lab"}
    assert inside == sorted(inside)


def test_keys_have_underscores() -> None:
    """setuptools drops the dashed spelling of keys."""
    parser = config()
    sections = [name for name in parser.sections() if name.startswith(("meta", "opt"))]
    keys = {
        key
        for name in sections
        for key in parser[name]
        if name not in ("options.extras_require", "options.package_data")
    }
    assert {key for key in keys if "-" in key} == set()


def test_sdist_is_complete(built: Path) -> None:
    """Who packages for a distribution finds the tests and the manual in the sdist."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "LICENSE",
        "README.rst",
        "CHANGELOG.rst",
        "CONTRIBUTING.rst",
        "Makefile",
        "setup.cfg",
        "setup.py",
        "pyproject.toml",
        "docs/conf.py",
        "docs/index.rst",
        "tests/conftest.py",
        "tests/test_packaging.py",
    } <= names
    assert package_files() <= names
    assert not {name for name in names if "__pycache__" in name or "_build" in name}
