"""The commands, links, flags and paths that a text of this repository names."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

# A command begins with variables of its own, and names a script or a program.
COMMAND = r"(?:[A-Z_]+=[^\s`]+ +)*(?:sh|python3?|env/bin/python) +(?:-m +[\w.]+|[\w./+-]+\.(?:sh|py)\b)"
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")
PLACE = re.compile(r"(?:spos|utils|benchmarks|scripts|tests|docs|logs|images|architectures)/[\w./+-]*\w/?")
SECTION = re.compile(r"""([\w/]+\.md),\s+(?:#\s+)?(["'])([^"']+)\2""")
# What a synopsis leaves open: optional parts, alternatives, numbers, the arguments of another program.
OPTIONAL = re.compile(r" *\[([^\[\]]+)\]")
ALTERNATIVES = re.compile(r"(?<=\s)[\w-]+(?:\|[\w-]+)+")
OPEN = re.compile(r" (?:ARGUMENTS|arguments) (?:OF|of) \w+\.py")


@dataclass(frozen=True)
class Document:
    """A text by the name of its file: a page, the header of a script, or the docstring of a program."""

    name: str
    text: str

    @classmethod
    def read(cls, path: Path, root: Path) -> Document:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            text = ast.get_docstring(ast.parse(text)) or ""
        elif path.suffix == ".sh":
            comments = re.match(r"(?:#.*\n)*", text)
            text = re.sub(r"^# ?", "", comments[0] if comments else "", flags=re.MULTILINE)
        return cls(path.relative_to(root).as_posix(), text)

    @property
    def is_page(self) -> bool:
        return self.name.endswith(".md")

    def prose(self) -> str:
        """The text without fenced blocks, with a line for each of theirs."""
        return FENCE.sub(lambda match: "\n" * match[0].count("\n"), self.text) if self.is_page else self.text

    def blocks(self, language: str) -> List[str]:
        """The fenced blocks of a language."""
        return [body for _, found, body in FENCE.findall(self.text) if found == language] if self.is_page else []

    def outputs(self) -> List[Tuple[str, str]]:
        """(command, what it prints), wherever a block of output follows one of commands."""
        found = re.findall(r"^```sh\n([^`]*)```\n\n```\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)
        return [(command, output) for command, output in found if self.is_page]

    def spans(self) -> List[str]:
        """What stands between single backquotes, on one line each."""
        return [" ".join(span.split()) for span in SPAN.findall(self.prose())]

    def commands(self) -> List[str]:
        """Texts for a shell: whole blocks, and every command in a line or a span, with what a synopsis leaves open."""
        return self.blocks("sh") + [form for command in self._single_commands() for form in forms(command)]

    def _single_commands(self) -> List[str]:
        texts = [SPAN.sub("", self.prose()), *self.blocks("")]
        lines = [line.strip() for text in texts for line in re.sub(r"\\\n *", "", text).split("\n")]
        found = [re.split(r"\s{2,}|\s#", line)[0] for line in lines if re.match(COMMAND, line)]
        spans = [span for span in self.spans() if re.match(f"{COMMAND}|make ", span)]
        return found + [f"{span} --help" if is_name(span) else span for span in spans]

    def hidden_commands(self) -> List[str]:
        """Commands inside a sentence without backquotes: nobody sees where they end."""
        lines = SPAN.sub("", re.sub(r"\\\n *", "", self.prose())).split("\n")
        return [line for line in lines for match in re.finditer(rf"\b{COMMAND}", line) if line[: match.start()].strip()]

    def links(self) -> List[str]:
        return [target for target in LINK.findall(SPAN.sub("", self.prose())) if not re.match(r"\w+:", target)]

    def anchors(self) -> List[str]:
        """The anchors of a page's headings, as GitHub makes them."""
        seen: Dict[str, int] = {}
        anchors = []
        for heading in self.headings():
            anchor = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading.lower())).replace(" ", "-")
            seen[anchor] = seen.get(anchor, -1) + 1
            anchors.append(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        return anchors

    def headings(self) -> List[str]:
        return re.findall(r"^#+ +(.*?) *$", self.prose(), re.MULTILINE)

    def flags(self) -> List[str]:
        return FLAG.findall(self.text)

    def flags_with_values(self) -> List[Tuple[str, str]]:
        """(flag, value) of spans that are nothing else, where the value is a word."""
        matches = [re.fullmatch(rf"({FLAG.pattern}) ([a-z][\w+-]*)", span) for span in self.spans()]
        return [(match[1], match[2]) for match in matches if match]

    def places(self) -> List[str]:
        """Files and folders of the repository in spans."""
        return [span for span in self.spans() if PLACE.fullmatch(span)]

    def imports(self) -> List[Tuple[str, str]]:
        """(module, name) of everything that Python blocks import; no name stands for the module itself."""
        found = []
        for node in (node for block in self.blocks("python") for node in ast.walk(ast.parse(block))):
            if isinstance(node, ast.Import):
                found += [(alias.name, "") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [(node.module or "", alias.name) for alias in node.names]
        return found


def is_name(span: str) -> bool:
    """Whether a span names a program without calling it."""
    return bool(re.fullmatch(r"(?:python3? -m|sh scripts/run\.sh) [\w.]+", span))


def forms(command: str) -> List[str]:
    """The commands that a synopsis stands for: each alternative once, N a number, optional names left out."""
    text = OPTIONAL.sub(lambda match: "" if match[1].isupper() else f" {match[1]}", OPEN.sub("", command))
    text = re.sub(r"(?<=\s)(?:N|\.\.\.)(?=\s|$)", lambda match: "2" if match[0] == "N" else "", text)
    choices = [match[0].split("|") for match in ALTERNATIVES.finditer(text)]
    return [_take(text, i) for i in range(max(map(len, choices), default=1))]


def _take(text: str, i: int) -> str:
    def one(match: re.Match) -> str:
        words = match[0].split("|")
        return words[min(i, len(words) - 1)]

    return ALTERNATIVES.sub(one, text)
