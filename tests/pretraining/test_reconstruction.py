import pytest
import torch

from maekit.data.transforms import Normalise, Preprocessing
from maekit.masking import random_mask
from maekit.models.mae import MaskedAutoencoder, ModelConfig
from maekit.patches import patchify
from maekit.pretraining.reconstruction import note_for, reconstruct


@pytest.mark.parametrize("target", ["pixel", "norm_pixel"])
def test_reconstruct__panels_agree_with_the_mask(target):
    model = ModelConfig(
        size="tiny",
        image_size=(16, 24),
        patch_size=8,
        in_channels=3,
        depth=1,
        decoder_depth=1,
        target=target,
    )
    mae = MaskedAutoencoder(model).eval()
    normalise = Normalise(
        Preprocessing(image_size=(16, 24), in_channels=3, mean=(0.4,) * 3, std=(0.2,) * 3)
    )
    images = torch.rand(2, 3, 16, 24)
    mask = random_mask(torch.rand(2, 6), 0.5)
    panels, loss = reconstruct(mae, normalise, images, mask)
    assert loss == float(mae(normalise(images), mask).loss.detach())
    cut = {name: patchify(panel, 8) for name, panel in panels.items()}
    torch.testing.assert_close(panels["Target"], images)
    assert cut["Masked"].isnan().all(-1).equal(mask.masked)
    torch.testing.assert_close(
        cut["With visible patches"][~mask.masked], cut["Target"][~mask.masked]
    )
    assert torch.equal(cut["With visible patches"][mask.masked], cut["Reconstructed"][mask.masked])
    if target == "norm_pixel":  # put back through each patch's own mean and deviation
        drawn, true = cut["Reconstructed"], cut["Target"]
        prediction = mae(normalise(images), mask).prediction
        expected = prediction * true.std(-1, keepdim=True) + true.mean(-1, keepdim=True)
        torch.testing.assert_close(drawn, expected, atol=1e-3, rtol=1e-3)


def test_note_for__says_where_true_statistics_are_used():
    assert "true mean and deviation" in note_for("norm_pixel")
    assert note_for("pixel") == ""
