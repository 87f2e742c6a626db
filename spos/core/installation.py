"""Installation of this project: its folder, and how to add what is missing."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of a checkout; where it is installed, the folder of its packages
IN_CHECKOUT = (ROOT / "scripts" / "setup.sh").is_file()


def install_command(extra: str = "") -> str:
    """What brings the packages that are needed, or those of an extra: "cluster", "deploy" or "dev"."""
    if IN_CHECKOUT:
        return f"sh scripts/setup.sh --{extra}" if extra else "sh scripts/setup.sh"
    return f"pip install 'spos[{extra}]'" if extra else "pip install spos"
