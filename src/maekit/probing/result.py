"""What probing found, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from maekit.analysis.classification import ClassificationScores
from maekit.report.progress import print_table

Method = Literal["knn", "linear", "sgd", "attentive"]
METHODS: tuple[Method, ...] = ("knn", "linear", "sgd", "attentive")
_TITLES: dict[Method, str] = {
    "knn": "k-NN",
    "linear": "linear, L-BFGS",
    "sgd": "linear, SGD",
    "attentive": "attentive",
}


@dataclass(frozen=True, kw_only=True)
class Score:
    """One classifier on the features of one frozen encoder."""

    encoder: Literal["pre-trained", "untrained"]
    method: Method
    features: Literal["mean", "cls", "patches"]
    """Mean of the patch tokens, class token, or every patch token."""
    layer: int
    """Block whose output is used, counted from 1."""
    chosen: str
    """What was chosen on held-out training pictures, in words."""
    val_top1: float
    """Top-1 on the pictures that chose it, in [0, 1]."""
    test: ClassificationScores
    """On pictures that chose nothing."""
    seconds: float
    """For choosing and fitting, without the features of k-NN and linear probes."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """The encoder beside the same one untrained."""

    classes: list[str]
    num_train: int
    num_val: int
    """Held out of training to choose by; then all of it is fitted."""
    num_test: int
    chance: float
    """Accuracy of always naming the test's most frequent class."""
    leaked: int
    """Test pictures that are equal, byte for byte, to one used for training or choosing."""
    notes: list[str]
    """How the pictures were divided and what was left out, in words."""
    scores: list[Score]
    protocol: str

    def top1(self, method: Method, features: str, encoder: str = "pre-trained") -> float:
        """Returns one accuracy on the test, in [0, 1].

        Raises:
            KeyError: If that was not measured.
        """
        for score in self.scores:
            if (score.method, score.features, score.encoder) == (method, features, encoder):
                return score.test.top1
        raise KeyError((method, features, encoder))


def print_result(result: ProbeResult) -> None:
    """Prints a row for each classifier, the two encoders side by side."""
    by_name = {(score.encoder, score.method, score.features): score for score in result.scores}
    rows = []
    for (encoder, method, features), score in by_name.items():
        if encoder == "untrained":
            continue
        test, untrained = score.test, by_name.get(("untrained", method, features))
        row = [
            _TITLES[method],
            features,
            f"{100 * test.top1:.1f} %",
            f"{100 * test.top1_low:.1f} to {100 * test.top1_high:.1f}",
        ]
        if len(by_name) > len({key[1:] for key in by_name}):
            row.append("–" if untrained is None else f"{100 * untrained.test.top1:.1f} %")
        rows.append((*row, score.chosen))
    beside = ("untrained",) if rows and len(rows[0]) == 6 else ()
    print_table(
        f"{len(result.classes)} classes; {result.num_train} pictures to fit, {result.num_val} more "
        f"to choose by, {result.num_test} to test; always the most frequent class: "
        f"{100 * result.chance:.1f} %. Top-1 on the test"
        f"{', and that of the same encoder untrained' if beside else ''}.",
        ("classifier", "features", "top-1", "95 %", *beside, "chosen"),
        rows,
    )
