"""How the code is laid out, in figures: import floors, modules per folder, untyped records.

Run it: python benchmarks/structure.py
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("supernet", "search", "predictors", "hardware", "app")
# Folders in which the files themselves are what there is to choose from.
REGISTRIES = ("supernet/families", "search/strategies", "predictors/models")
UNTYPED = re.compile(r"Mapping\[str, Any\]|dict\[str, Any\]")


def main() -> None:
    """Print every figure as JSON."""
    folders = Counter(
        str(path.parent.relative_to(ROOT)) for package in PACKAGES for path in modules_of(package)
    )
    largest = {f: n for f, n in folders.most_common() if f not in REGISTRIES}
    report = {
        "import_floors": {package: longest_chain(package) for package in PACKAGES},
        "modules_in_largest_folders": dict(list(largest.items())[:5]),
        "lines_with_untyped_records_in_app": count_lines("app", UNTYPED),
        "fmt_skip_in_packages": sum(
            count_lines(package, re.compile(r"# fmt: skip")) for package in PACKAGES
        ),
    }
    print(json.dumps(report, indent=2))


def modules_of(package: str) -> list[Path]:
    """Every module of a package but its ``__init__`` files."""
    return [p for p in sorted((ROOT / package).rglob("*.py")) if p.name != "__init__.py"]


def count_lines(package: str, pattern: re.Pattern[str]) -> int:
    """How many lines of a package's sources hold a pattern."""
    sources = (ROOT / package).rglob("*.py")
    return sum(bool(pattern.search(line)) for p in sources for line in p.read_text().splitlines())


def longest_chain(package: str) -> int:
    """Modules on the longest chain of imports inside a package, those in functions included.

    Raises:
        ValueError: The imports of the package make a circle.
    """
    sources = {dotted_name(p): p for p in (ROOT / package).rglob("*.py")}
    imports = {
        name: set(imported_modules(path, sources)) - {name} for name, path in sources.items()
    }
    below: list[str] = []

    @cache
    def floor(name: str) -> int:
        if name in below:
            raise ValueError(f"imports make a circle: {' -> '.join([*below, name])}")
        below.append(name)
        height = 1 + max((floor(found) for found in sorted(imports[name])), default=0)
        below.pop()
        return height

    return max(floor(name) for name in sources)


def dotted_name(path: Path) -> str:
    """The name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules among ``known`` that a file imports, wherever in the file it does."""
    package = (
        dotted_name(path) if path.name == "__init__.py" else dotted_name(path.parent / "x")[:-2]
    )
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
            module = node.module or ""
            if node.level:
                module = f"{base}.{module}".rstrip(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                if inner in known or module in known:
                    yield inner if inner in known else module


if __name__ == "__main__":
    main()
