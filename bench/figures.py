"""How a benchmark reports: a table for people, JSON for machines."""

import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass
class Figures:
    """Named figures with a unit, and the raw data behind them. A figure that could not be measured is left out."""

    title: str
    figures: dict[str, tuple[float, str]] = field(default_factory=dict[str, tuple[float, str]])
    raw: dict[str, object] = field(default_factory=dict[str, object])

    def add(self, name: str, value: float, unit: str) -> None:
        """Records a figure."""
        self.figures[name] = (value, unit)

    def show(self, targets: dict[str, str]) -> None:
        """Prints the table; `targets` says per figure what it is compared with."""
        table = Table(title=self.title)
        for column, side in (("figure", "left"), ("value", "right"), ("unit", "left"), ("compared with", "left")):
            table.add_column(column, justify="right" if side == "right" else "left")
        for name, (value, unit) in self.figures.items():
            table.add_row(name, f"{value:,.2f}", unit, targets.get(name, ""))
        Console().print(table)

    def write(self, path: Path) -> None:
        """Writes `{"figures": …, "machine": …, "raw": …}`."""
        content = {
            "figures": {name: {"value": round(value, 3), "unit": unit} for name, (value, unit) in self.figures.items()},
            "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
            "raw": self.raw,
        }
        path.write_text(json.dumps(content, indent=2) + "\n")


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed. Raises IndexError for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
