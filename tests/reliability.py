"""Figures of reliability: what `make torture` prints when all is done."""

from dataclasses import dataclass, field


@dataclass
class Figures:
    """A table of promises and what was found."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def add(self, promise: str, found: str) -> None:
        self.lines.append((promise, found))

    def __str__(self) -> str:
        width = max((len(promise) for promise, _ in self.lines), default=0)
        return "\n".join(f"{promise:{width}}  {found}" for promise, found in self.lines)
