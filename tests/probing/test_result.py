from dataclasses import replace

import pytest
import torch

from maekit.analysis.classification import score_classification
from maekit.probing.result import ProbeResult, Score, print_result


def result():
    test = score_classification(torch.eye(2), torch.tensor([0, 1]), ["a", "b"])
    score = Score(
        encoder="pre-trained", method="knn", features="mean", layer=3, chosen="k 5", val_top1=0.5,
        test=test, seconds=0.1,
    )  # fmt: skip
    return ProbeResult(
        classes=["a", "b"], num_train=4, num_val=2, num_test=2, chance=0.5, leaked=0, notes=[],
        scores=[score], protocol="",
    )  # fmt: skip


def test_print_result__with_and_without_the_untrained_encoder(capsys):
    alone = result()
    print_result(alone)
    shown = capsys.readouterr().out
    assert "k-NN" in shown
    assert "untrained" not in shown
    beside = replace(alone.scores[0], encoder="untrained")
    print_result(replace(alone, scores=[*alone.scores, beside]))
    assert "encoder untrained" in capsys.readouterr().out


def test_top1__of_what_was_measured():
    assert result().top1("knn", "mean") == 1.0
    with pytest.raises(KeyError):
        result().top1("knn", "cls")
