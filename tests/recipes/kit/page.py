"""The page of a recipe: its blocks are the configuration that is run."""

import re
from pathlib import Path

PAGES = Path(__file__).resolve().parents[3] / "docs" / "recipes"
# A block has a name where its first line has a language and a name: ```toml auth-sidecar.toml
BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Page:
    """`docs/recipes/NAME.md`."""

    def __init__(self, name):
        self.path = PAGES / f"{name}.md"
        self.blocks = {}
        for block, text in BLOCK.findall(self.path.read_text()):
            if block in self.blocks:
                raise ValueError(f"{self.path.name} has two blocks {block}")
            self.blocks[block] = text

    def block(self, name, places=None):
        """The text of a block; `places` are the addresses, paths and tokens that differ here, each of which it has."""
        text = self.blocks[name]
        for shown, actual in (places or {}).items():
            if shown not in text:
                raise ValueError(f"{self.path.name}: {name} has no {shown}")
            text = text.replace(shown, str(actual))
        return text
