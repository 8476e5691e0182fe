"""Write docs/reference/configs.md: the groups, choices and keys of conf/ with their comments.

    python docs/make_reference.py

The project must be installed in the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from digitpairs.configs import CONF, choices

PAGE = Path(__file__).resolve().parent / "reference" / "configs.md"
GROUPS = {
    "task": "The question that the network answers.",
    "data": "The source of the images or points.",
    "model": "The network.",
    "aux": "The weights of the comparison's loss and of the digits' losses.",
    "optimizer": "The optimiser.",
    "scheduler": "The schedule of the learning rate.",
    "loss": "The loss of `task=disk`.",
    "trainer": "The training; `task=disk` selects `disk`.",
    "logger": "Where metrics are written beside the run's files. Several: `logger=[csv,wandb]`.",
    "callbacks": "Callbacks of Lightning, with which runs train alone. Several: "
    "`callbacks=[model_checkpoint,lr_monitor]`.",
    "experiment": "Studies: settings with the grid of a sweep.",
    "variant": "Settings of several groups that make one row of a study.",
    "smoke": "A shortened study.",
}
OVERRIDES = ("experiment", "variant", "smoke")  # their files change the keys of other groups
UNDOCUMENTED = ("defaults", "hydra", "_target_")


class Key(NamedTuple):
    """A key of a yaml file as it is typed, its default as it is written, and its comment."""

    name: str
    default: str
    comment: str


def page() -> str:
    """The page's text."""
    parts = [
        "# Config reference",
        "`GROUP=CHOICE` selects a part of the run and `KEY=VALUE` changes a value, for example "
        "`model=mlp optimizer.lr=0.01`. This page is generated from `conf/` by "
        "`python docs/make_reference.py`.",
        "## Every run",
        key_table(CONF / "config.yaml"),
        *(part for group in GROUPS for part in group_parts(group)),
    ]
    return "\n\n".join(parts) + "\n"


def group_parts(group: str) -> Iterator[str]:
    """The group's heading, the table of its choices, and a table of keys for each choice."""
    yield f"## {group}"
    yield GROUPS[group]
    files = {choice: CONF / group / f"{choice}.yaml" for choice in choices(group, [CONF])}
    rows = [[f"`{choice}`", description(path)] for choice, path in files.items()]
    yield table(["choice", "description"], rows)
    if group in OVERRIDES:
        return
    for path in sorted((CONF / group / "shared").glob("*.yaml")):
        yield f"### {group}/shared/{path.stem}"
        yield description(path)
        yield key_table(path)
    for choice, path in files.items():
        if list(keys(path)):
            yield f"### {group}={choice}"
            yield from base(group, path)
            yield key_table(path)


def base(group: str, path: Path) -> Iterator[str]:
    """A sentence for a choice that begins with the settings of another."""
    for entry in yaml.safe_load(path.read_text("utf-8")).get("defaults", []):
        if isinstance(entry, str) and entry.endswith("@_here_"):
            name = entry.removesuffix("@_here_").lstrip("/").removeprefix(f"{group}/")
            yield f"The settings of `{name}`, with these changes:"


def description(path: Path) -> str:
    """The comment at the top of a file."""
    return " ".join(
        line.removeprefix("#").strip() for line in header(path) if "@package" not in line
    )


def header(path: Path) -> list[str]:
    """The comment lines at the top of a file."""
    lines = path.read_text("utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return lines[:end]


def key_table(path: Path) -> str:
    """The table of a file's keys."""
    rows = [
        [f"`{name}`", f"`{default}`" if default else "", comment]
        for name, default, comment in keys(path)
    ]
    return table(["key", "default", "meaning"], rows)


def keys(path: Path) -> Iterator[Key]:
    """The keys of a file in its order, with the group before them where they belong to it."""
    text = path.read_text("utf-8")
    folders = path.relative_to(CONF).parts[:-1]
    in_group = folders and not any("@package _global_" in line for line in header(path))
    return nested_keys(yaml.compose(text), text, f"{folders[0]}." if in_group else "")


def nested_keys(mapping: yaml.MappingNode, text: str, prefix: str) -> Iterator[Key]:
    """The keys of a mapping in a file of this text, with `prefix` before their names."""
    lines = text.splitlines()
    for key, value in mapping.value:
        name = f"{prefix}{key.value}"
        if key.value in UNDOCUMENTED:
            continue
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            section = lines[key.end_mark.line][key.end_mark.column + 1 :]
            if comment(section):
                yield Key(name, "", comment(section))
            yield from nested_keys(value, text, f"{name}.")
        else:
            default = text[value.start_mark.index : value.end_mark.index]
            yield Key(name, default, comment(lines[value.end_mark.line][value.end_mark.column :]))


def comment(rest: str) -> str:
    """The comment in the rest of a line."""
    return rest.partition("#")[2].strip()


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    cells = [columns, ["---"] * len(columns)]
    cells += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
