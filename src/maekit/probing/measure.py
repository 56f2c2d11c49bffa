"""Classifiers on the features of frozen encoders: chosen on held-out pictures, fitted, tested."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maekit.analysis.classification import ClassificationScores, score_classification
from maekit.analysis.neighbours import choose_k, knn_probabilities
from maekit.analysis.probes import accuracy, choose_penalty, fit_linear_probe
from maekit.data.labelled import Labelled, LabelledData
from maekit.data.transforms import Preprocessing
from maekit.features import extract, extract_patches, whole_views
from maekit.models.classifier import probabilities
from maekit.models.vit import ViT
from maekit.probing.heads import (
    SGD_RATES,
    Examples,
    fit_attentive_probe,
    fit_sgd_probes,
    guess,
)
from maekit.probing.result import Method, Score
from maekit.report.progress import counting

# Neighbours to choose from.
KS = (1, 3, 5, 10, 20, 50, 100)
# Patch tokens kept at a time; of more, a part of the pictures is used, and said so.
_MOST_BYTES = 2 << 30
_SEARCH_STEPS, _FINAL_STEPS = 300, 1000


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What is measured, and with what."""

    data: LabelledData
    preprocessing: Preprocessing
    methods: Sequence[Method]
    ks: Sequence[int]
    """Neighbours to choose from."""
    temperature: float
    """Of the votes of neighbours."""
    seed: int
    num_workers: int
    device: torch.device


def measure(how: Measuring, encoder: ViT, name: Literal["pre-trained", "untrained"]) -> list[Score]:
    """Measures one encoder by every method asked for."""
    scores: list[Score] = []
    if pooled_methods := [method for method in how.methods if method != "attentive"]:
        fit, held, test = (
            _pooled(how, encoder, part, f"{title}, {name}")
            for part, title in (
                (how.data.train, "training"),
                (how.data.val, "validation"),
                (how.data.test, "test"),
            )
        )
        for method in pooled_methods:
            for features in fit:
                started = time.monotonic()
                guessed, chosen, val_top1 = _FITS[method](
                    how, fit[features], held[features], test[features].features
                )
                scores.append(
                    Score(
                        encoder=name,
                        method=method,
                        features=features,
                        layer=encoder.config.depth,
                        chosen=chosen,
                        val_top1=val_top1,
                        test=_tested(how, guessed),
                        seconds=round(time.monotonic() - started, 2),
                    )
                )
    if "attentive" in how.methods:
        scores.append(_attentive(how, encoder, name))
    return scores


def _tested(how: Measuring, guessed: Tensor) -> ClassificationScores:
    labels = torch.from_numpy(how.data.test.labels)
    return score_classification(guessed, labels, how.data.classes, how.seed)


def _pooled(
    how: Measuring, encoder: ViT, part: Labelled, title: str
) -> dict[Literal["mean", "cls"], Examples]:
    with counting(f"Features of {title}") as progress:
        table = extract(
            encoder, part.source, how.preprocessing, how.num_workers, how.device, progress
        )
    labels = torch.from_numpy(part.labels)
    pooled: dict[Literal["mean", "cls"], Examples] = {"mean": Examples(table.mean, labels)}
    if table.cls is not None:
        pooled["cls"] = Examples(table.cls, labels)
    return pooled


def _both(fit: Examples, held: Examples) -> Examples:
    """What was held out to choose by is fitted too, once the choice is made."""
    return Examples(torch.cat([fit.features, held.features]), torch.cat([fit.labels, held.labels]))


# Guesses on the test, what was chosen, and top-1 on the pictures that chose it.
_Fitted = tuple[Tensor, str, float]


def _knn(how: Measuring, fit: Examples, held: Examples, test: Tensor) -> _Fitted:
    number = len(how.data.classes)
    ks = [k for k in how.ks if k <= len(fit.labels)] or [len(fit.labels)]
    k, top1 = choose_k(*fit, *held, number, ks, how.temperature)
    guessed = knn_probabilities(*_both(fit, held), test, number, [k], how.temperature)[k]
    return guessed, f"k {k}", top1


def _linear(how: Measuring, fit: Examples, held: Examples, test: Tensor) -> _Fitted:
    number = len(how.data.classes)
    penalty, top1 = choose_penalty(*fit, *held, number)
    probe = fit_linear_probe(*_both(fit, held), number, penalty)
    return probe.probabilities(test), f"penalty {penalty:g}", top1


def _sgd(how: Measuring, fit: Examples, held: Examples, test: Tensor) -> _Fitted:
    number = len(how.data.classes)
    probes = fit_sgd_probes(fit, number, SGD_RATES, how.seed, how.device)
    top1 = [
        accuracy(guess(probe, held.features, how.device).argmax(1), held.labels) for probe in probes
    ]
    best = max(range(len(SGD_RATES)), key=lambda number: (top1[number], -SGD_RATES[number]))
    (probe,) = fit_sgd_probes(_both(fit, held), number, (SGD_RATES[best],), how.seed, how.device)
    return guess(probe, test, how.device), f"rate {SGD_RATES[best]:g}", top1[best]


_FITS = {"knn": _knn, "linear": _linear, "sgd": _sgd}


def _attentive(how: Measuring, encoder: ViT, name: Literal["pre-trained", "untrained"]) -> Score:
    """Tries the later blocks on held-out pictures, then trains on the best one's tokens."""
    started = time.monotonic()
    depth, number = encoder.config.depth, len(how.data.classes)
    layers = sorted({max(1, round(depth * share / 10)) for share in range(5, 11)})
    fit, cut = _at_most(how, how.data.train, encoder, len(layers))
    held, _ = _at_most(how, how.data.val, encoder, len(layers))
    fit_tokens = _tokens(how, encoder, fit, layers, f"training, {name}, {len(layers)} blocks")
    held_tokens = _tokens(how, encoder, held, layers, f"validation, {name}")
    top1: dict[int, float] = {}
    with counting(f"Attentive probes, {name}") as progress:
        for tried, layer in enumerate(layers, start=1):
            examples = Examples(fit_tokens.pop(layer), torch.from_numpy(fit.labels))
            head = fit_attentive_probe(examples, number, _SEARCH_STEPS, how.seed, how.device)
            guessed = guess(head, held_tokens.pop(layer), how.device)
            top1[layer] = accuracy(guessed.argmax(1), torch.from_numpy(held.labels))
            progress(tried, len(layers))
    best = max(layers, key=lambda layer: (top1[layer], layer))
    everything, cut_last = _at_most(how, how.data.train.join(how.data.val), encoder, 1)
    tokens = _tokens(how, encoder, everything, [best], f"all training, {name}, block {best}")
    examples = Examples(tokens[best], torch.from_numpy(everything.labels))
    head = fit_attentive_probe(examples, number, _FINAL_STEPS, how.seed, how.device)
    guessed = _guess_source(how, encoder, head, best, f"Testing, {name}")
    chosen = f"block {best} of {', '.join(map(str, layers))}"
    if cut or cut_last:
        chosen += f" (memory: searched on {len(fit)}, trained on {len(everything)} pictures)"
    return Score(
        encoder=name,
        method="attentive",
        features="patches",
        layer=best,
        chosen=chosen,
        val_top1=top1[best],
        test=_tested(how, guessed),
        seconds=round(time.monotonic() - started, 2),
    )


def _at_most(
    how: Measuring, part: Labelled, encoder: ViT, num_layers: int
) -> tuple[Labelled, bool]:
    """Returns as many pictures as have room for their tokens, and whether some are left out."""
    shape = encoder.config
    size = num_layers * shape.grid.num_patches * shape.embed_dim * 2
    most = max(1, _MOST_BYTES // size)
    if len(part) <= most:
        return part, False
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(how.seed))
    return part.take(np.sort(order[:most].numpy())), True


def _tokens(
    how: Measuring, encoder: ViT, part: Labelled, layers: Sequence[int], title: str
) -> dict[int, Tensor]:
    with counting(f"Patch tokens of {title}") as progress:
        return extract_patches(
            encoder, part.source, layers, how.preprocessing, how.num_workers, how.device, progress
        )


@torch.no_grad()
def _guess_source(
    how: Measuring, encoder: ViT, head: torch.nn.Module, layer: int, title: str
) -> Tensor:
    """Guesses on the test picture by picture: its tokens need not be kept."""
    with counting(title) as progress:
        views = whole_views(
            how.data.test.source, how.preprocessing, how.num_workers, how.device, progress
        )
        parts = [
            probabilities(head(encoder.features_at(images, [layer])[layer].patches)).cpu()
            for images in views
        ]
    return torch.cat(parts)
