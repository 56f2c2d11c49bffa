import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maekit import checkpoint
from maekit.config import to_dict
from maekit.data.transforms import Preprocessing
from maekit.errors import CheckpointError
from maekit.models.mae import MaskedAutoencoder, ModelConfig

MODEL = ModelConfig(
    size="tiny", image_size=(16, 24), patch_size=8, in_channels=3, embed_dim=16, depth=1, num_heads=2,
    decoder_dim=8, decoder_depth=1, decoder_num_heads=2,
)  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    mae = MaskedAutoencoder(MODEL)
    preprocessing = Preprocessing(
        image_size=(16, 24), in_channels=3, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    state = {
        "encoder": mae.encoder.state_dict(),
        "decoder": mae.decoder.state_dict(),
        "model": to_dict(MODEL),
        "preprocessing": to_dict(preprocessing),
    }
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    checkpoint.save(path, state)
    return path, mae, state


def test_load_encoder__never_masks_and_prepares_pictures(saved):
    path, mae, _ = saved
    for place in (path, str(path), path.parents[1]):
        encoder = checkpoint.load_encoder(place)
    assert not encoder.training
    images = encoder.preprocess(torch.randint(0, 255, (20, 30, 3), dtype=torch.uint8).numpy())
    features = encoder(images)
    assert features.cls.shape == (1, 16)
    assert features.patches.shape == (1, 6, 16)
    assert torch.equal(features.patches, encoder(images).patches)
    assert torch.equal(features.patches, mae.encoder.eval()(images).patches)


def test_load_mae__needs_the_decoder(saved):
    path, _, state = saved
    assert checkpoint.load_mae(path).config == MODEL
    checkpoint.save(path, state | {"decoder": {}})
    checkpoint.load_encoder(path)
    with pytest.raises(CheckpointError, match="holds no decoder"):
        checkpoint.load_mae(path)


def test_load_weights__incomplete_is_an_error_that_counts(saved):
    _, mae, state = saved
    number = len(state["encoder"])
    assert (
        checkpoint.load_weights(mae.encoder, state["encoder"], "encoder")
        == f"encoder {number}/{number}"
    )
    partly = {name: tensor for name, tensor in state["encoder"].items() if name != "norm.weight"}
    with pytest.raises(
        CheckpointError, match=rf"encoder {number - 1}/{number}; missing norm\.weight"
    ):
        checkpoint.load_weights(mae.encoder, partly, "encoder")
    wrong = state["encoder"] | {"norm.weight": torch.zeros(7), "module.x": torch.zeros(1)}
    with pytest.raises(
        CheckpointError, match=r"left over module\.x; norm\.weight is \[7\] where \[16\]"
    ):
        checkpoint.load_weights(mae.encoder, wrong, "encoder")


@pytest.mark.parametrize("size", [0, 1, 100, 0.5, -1])
def test_load__truncated(saved, size):
    path = saved[0]
    full = path.stat().st_size
    os.truncate(path, int(full * size) if isinstance(size, float) else size % full)
    with pytest.raises(CheckpointError, match="is empty" if size == 0 else "is damaged"):
        checkpoint.load(path)


def test_load__runs_no_code(tmp_path):
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    torch.save({"format": 1, "encoder": {}, "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(
        CheckpointError, match=r"names (posix|nt)\.system, which could run code; it was not"
    ) as caught:
        checkpoint.load(tmp_path / "evil.pt")
    assert "weights_only" not in str(caught.value)
    assert not marker.exists()
    torch.save({"format": 1, "encoder": {}, "args": argparse.Namespace(a=1)}, tmp_path / "args.pt")
    with pytest.raises(CheckpointError, match=r"names argparse\.Namespace"):
        checkpoint.load(tmp_path / "args.pt")


def test_load__not_ours(tmp_path):
    torch.save({"model": {}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of maekit"):
        checkpoint.load(tmp_path / "x.pt")
    torch.save({"format": 99, "encoder": {}}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match="format 99, newer than this maekit's"):
        checkpoint.load(tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.load(tmp_path / "none.pt")


def test_find__says_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"no run folder: it has no checkpoints/last\.pt"):
        checkpoint.find(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint or run folder"):
        checkpoint.find(tmp_path / "none")


@pytest.mark.slow
def test_save__a_full_disk_is_called_that_and_the_old_file_stays(tmp_path):
    path = tmp_path / "last.pt"
    code = (
        "import resource, sys, torch; from pathlib import Path; from maekit import checkpoint\n"
        "from maekit.errors import TrainingError\n"
        "path = Path(sys.argv[1]); checkpoint.save(path, {'encoder': {'w': torch.ones(10)}})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: checkpoint.save(path, {'encoder': {'w': torch.ones(1_000_000)}})\n"
        "except TrainingError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("No space left to write")
    assert len(checkpoint.load(path)["encoder"]["w"]) == 10
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_source__no_unsafe_reader():
    """No file of the package may read what can run code."""
    forbidden = (
        "weights_only=False",
        "pickle.load",
        "yaml.load(",
        "allow_pickle=True",
        "strict=False)",
    )
    source = Path(checkpoint.__file__).parent
    for path in source.rglob("*.py"):
        text = path.read_text().replace("zip(", "")
        for word in forbidden[:4]:
            assert word not in text, f"{path} has {word}"
        assert "load_state_dict" not in text or "strict=False" not in text, path
