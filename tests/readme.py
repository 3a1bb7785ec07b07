"""The README, and the blocks of code in it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


ALL_BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
"""Language and text of each."""


def blocks(language: str) -> list[str]:
    """Return the blocks of code in a language, in their order."""
    return [text for name, text in ALL_BLOCKS if name == language]


BLOCKS = blocks("python")


def file_name(block: str) -> str | None:
    """Return what a block says it is saved as, in its first line: `# app.py`."""
    found = re.match(r"# (\w+\.py)\n", block)
    return None if found is None else found[1]


def save_files(folder: Path) -> None:
    """Save the blocks that are to be saved, as a reader does."""
    for block in BLOCKS:
        if (name := file_name(block)) is not None:
            (folder / name).write_text(block, "utf-8")
