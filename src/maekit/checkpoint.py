"""Checkpoints: written whole or not at all, checked before use, tensors and plain data only.

A checkpoint is a torch file (a zip archive) read with `weights_only=True`. Its checksum is the
CRC-32 that the archive holds for every record; torch does not look at it, `load` does.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maekit.config import from_dict
from maekit.data.transforms import Preprocessing, Preprocessor
from maekit.errors import CheckpointError, TrainingError, explain_write
from maekit.models.classifier import Classifier, HeadConfig, probabilities
from maekit.models.mae import MaskedAutoencoder, ModelConfig
from maekit.models.vit import ViT
from maekit.runtime import replace_file

FORMAT = 1


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint in the place of `path`, which keeps its old content until then.

    Raises:
        TrainingError: If it cannot be written, e.g. for want of space.
    """
    try:
        with replace_file(path) as file:
            torch.save({"format": FORMAT, **state}, file)
    except OSError as error:
        raise TrainingError(explain_write(path, error)) from error
    except RuntimeError as error:
        # torch says "unexpected pos" where a write came up short; that is a full disk.
        if "unexpected pos" in str(error) or "PytorchStreamWriter" in str(error):
            raise TrainingError(
                f"No space left to write {path}. Free some space; nothing older was touched."
            ) from error
        raise


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU after checking its checksums; nothing in it is executed.

    Raises:
        CheckpointError: If it is missing, damaged, unsafe, or none of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}.")
    _check(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        what = f"names {named.group(1)}" if named else "holds more than tensors and plain data"
        raise CheckpointError(f"{path} {what}, which could run code; it was not loaded.") from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__}.") from error
    if not isinstance(state, dict) or "format" not in state or "encoder" not in state:
        raise CheckpointError(f"{path} is no checkpoint of maekit.")
    if state["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {state['format']}, newer than this maekit's {FORMAT}; upgrade "
            "maekit."
        )
    return state


def _check(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty.") from error
        mismatch = ": checksum mismatch" if "CRC" in str(error) else " or none of ours"
        raise CheckpointError(f"{path} is damaged{mismatch} (not a complete archive).") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: checksum mismatch in {damaged}.")


def find(place: Path) -> Path:
    """Returns the checkpoint that a path names: the file itself, or the last one of a run folder.

    Raises:
        CheckpointError: If there is none.
    """
    if place.is_file():
        return place
    last = place / "checkpoints" / "last.pt"
    if last.is_file():
        return last
    if place.is_dir():
        raise CheckpointError(f"{place} is no run folder: it has no checkpoints/last.pt.")
    raise CheckpointError(f"There is no checkpoint or run folder {place}.")


def load_weights(module: nn.Module, tensors: Mapping[str, torch.Tensor], what: str) -> str:
    """Loads every tensor of a module, strictly.

    Returns:
        What was loaded, e.g. `encoder 150/150`.

    Raises:
        CheckpointError: If a tensor is missing, left over, or of another shape.
    """
    expected = module.state_dict()
    missing = expected.keys() - tensors.keys()
    extra = tensors.keys() - expected.keys()
    shapes = [
        f"{name} is {list(tensors[name].shape)} where {list(expected[name].shape)} is needed"
        for name in expected.keys() & tensors.keys()
        if tensors[name].shape != expected[name].shape
    ]
    if missing or extra or shapes:
        loaded = len(expected) - len(missing) - len(shapes)
        problems = [f"missing {name}" for name in sorted(missing)] + [
            f"left over {name}" for name in sorted(extra)
        ]
        problems += sorted(shapes)
        raise CheckpointError(
            f"The weights do not fit: {what} {loaded}/{len(expected)}; {'; '.join(problems[:3])}"
            f"{'; …' if len(problems) > 3 else ''}."
        )
    module.load_state_dict(dict(tensors), strict=True)
    return f"{what} {len(expected)}/{len(expected)}"


def preprocessing_of(state: Mapping[str, Any]) -> Preprocessing:
    """Returns how pictures were prepared for the encoder of a checkpoint."""
    return from_dict(Preprocessing, state["preprocessing"], "checkpoint")


def load_encoder(path: str | Path) -> ViT:
    """Loads the encoder of a checkpoint or run folder, for features.

    Args:
        path: A checkpoint, or the folder of a run (its last checkpoint).

    Returns:
        The encoder in eval mode. Calling it on normalised images never masks and gives
        `Features(cls, patches)`; `encoder.preprocess(pictures)` makes such images.

    Raises:
        CheckpointError: If there is no complete encoder.
    """
    return build_encoder(load(find(Path(path))))


def build_encoder(state: Mapping[str, Any]) -> ViT:
    """Builds the encoder of a checkpoint that was read.

    Raises:
        CheckpointError: If it is not complete.
    """
    model = from_dict(ModelConfig, state["model"], "checkpoint")
    encoder = ViT(model.encoder())
    load_weights(encoder, state["encoder"], "encoder")
    encoder.preprocess = Preprocessor(preprocessing_of(state))
    return encoder.eval()


def untrained_encoder(state: Mapping[str, Any], seed: int) -> ViT:
    """Builds the encoder of a checkpoint with random weights, to compare with."""
    torch.manual_seed(seed)
    return ViT(from_dict(ModelConfig, state["model"], "checkpoint").encoder()).eval()


class Recogniser:
    """A classifier with its preprocessing: pictures in, classes out."""

    def __init__(self, model: Classifier, preprocess: Preprocessor, classes: list[str]) -> None:
        self.model, self.preprocess, self.classes = model, preprocess, classes

    @torch.no_grad()
    def __call__(self, pictures: object) -> Float[Tensor, "b classes"]:
        """Returns the probability of each class for one picture or several.

        Args:
            pictures: As `Preprocessor` takes them: paths, PIL images or arrays.
        """
        return probabilities(self.model(self.preprocess(pictures)))


def load_classifier(path: str | Path) -> Recogniser:
    """Loads a classifier from the checkpoint or run folder of a fine-tuning (its best checkpoint).

    Returns:
        A callable from pictures to probabilities, in the order of its `classes`.

    Raises:
        CheckpointError: If there is no complete classifier.
    """
    place = Path(path)
    best = place / "checkpoints" / "best.pt"
    found = best if best.is_file() else find(place)
    return build_classifier(load(found), found)


def build_classifier(state: Mapping[str, Any], path: Path) -> Recogniser:
    """Builds the classifier of a checkpoint that was read from `path`.

    Raises:
        CheckpointError: If it is none or not complete.
    """
    if "classes" not in state or "head" not in state:
        raise CheckpointError(
            f"{path} holds no classifier; make one with mae finetune FOLDER --init {path}."
        )
    config, classes = state["config"], list(state["classes"])
    head = from_dict(HeadConfig, config["head"], "checkpoint")
    model = Classifier(build_encoder(state), head, len(classes), config["mode"] == "frozen")
    load_weights(model.head, state["head"], "head")
    return Recogniser(model.eval(), Preprocessor(preprocessing_of(state)), classes)


def load_mae(path: str | Path) -> MaskedAutoencoder:
    """Loads encoder and decoder of a checkpoint or run folder, for reconstructions.

    Raises:
        CheckpointError: If there is no complete encoder or no complete decoder.
    """
    found = find(Path(path))
    return build_mae(load(found), found)


def build_mae(state: Mapping[str, Any], path: Path) -> MaskedAutoencoder:
    """Builds encoder and decoder of a checkpoint that was read from `path`.

    Raises:
        CheckpointError: If one of them is not complete.
    """
    if not state.get("decoder"):
        raise CheckpointError(
            f"{path} holds no decoder, so nothing can be reconstructed from it; use a checkpoint "
            "of a pre-training run."
        )
    mae = MaskedAutoencoder(from_dict(ModelConfig, state["model"], "checkpoint"))
    load_weights(mae.encoder, state["encoder"], "encoder")
    load_weights(mae.decoder, state["decoder"], "decoder")
    mae.encoder.preprocess = Preprocessor(preprocessing_of(state))
    return mae.eval()
