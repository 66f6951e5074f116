"""What a check of a dataset found: typed findings, the report made of them, and the two errors."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

Severity = Literal["error", "warning", "note"]


class DatasetError(ValueError):
    """A dataset breaks a rule; the message names the rule, the value and the place."""


class DatasetNotFoundError(FileNotFoundError):
    """No dataset lies where one was asked for."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a check has to say.

    Attributes:
        severity: ``"error"`` stops the import; ``"warning"`` says that the data were repaired or
            lost something; ``"note"`` says what was assumed.
        rule: Short name of the rule, e.g. ``"finite"``.
        message: The rule, the value got and the legal values, in one sentence.
        episode: Episode of the first (or worst) offending row, counted from 0.
        row: That row, counted from 0 inside its episode.
    """

    severity: Severity
    rule: str
    message: str
    episode: int | None = None
    row: int | None = None

    def __str__(self) -> str:
        return f"{self.severity:<7} {self.rule}: {self.message}"


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What the import checks found in one dataset; prints as a short text.

    Attributes:
        path: The dataset, as the caller named it.
        format: Name of the format it is in.
        findings: Everything found, errors first.
        summary: One line about the content; empty if the dataset could not be read.
    """

    path: str
    format: str
    findings: tuple[Finding, ...]
    summary: str

    @property
    def ok(self) -> bool:
        """Whether the dataset can be used: no finding is an error."""
        return not errors_of(self.findings)

    def raise_if_failed(self) -> None:
        """Raise the first error that was found.

        Raises:
            DatasetError: A finding is an error.
        """
        raise_first_error(self.findings, self.path)

    def __str__(self) -> str:
        head = f"{self.path} ({self.format}): {'ok' if self.ok else 'not usable'}"
        lines = [head, *([f"  {self.summary}"] if self.summary else [])]
        return "\n".join([*lines, *(f"  {finding}" for finding in self.findings)])


def errors_of(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that stop an import."""
    return [finding for finding in findings if finding.severity == "error"]


def raise_first_error(findings: Sequence[Finding], place: str) -> None:
    """Raise the first error among ``findings``, if there is one, and count the others.

    Args:
        findings: What a check returned.
        place: The dataset they are about, as the user named it.

    Raises:
        DatasetError: A finding is an error.
    """
    errors = errors_of(findings)
    if errors:
        more = f" ({len(errors) - 1} more: run `steelyard data check`)" if len(errors) > 1 else ""
        raise DatasetError(f"{place}: {errors[0].message}{more}")


def worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Order findings by severity, keeping their order within one."""
    order = ("error", "warning", "note")
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))
