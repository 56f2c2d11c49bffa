import numpy as np
import pytest
import torch
from PIL import Image

from drawn import drawn, encoded, put
from maekit.data.transforms import (
    AugmentConfig,
    EvalTransform,
    Normalise,
    Preprocessing,
    Preprocessor,
    TrainTransform,
    to_tensor,
    to_unit,
)
from maekit.errors import ConfigError, DataError

RGB = Preprocessing(image_size=(16, 24), in_channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))


@pytest.mark.parametrize("size", [(64, 96), (10, 90), (300, 20), (16, 24)])
def test_eval_transform__covers_and_cuts_the_middle(size):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    assert EvalTransform((16, 24))(image).shape == (3, 16, 24)


def test_eval_transform__leaves_the_right_size_alone():
    image = torch.randint(0, 255, (3, 16, 24), dtype=torch.uint8)
    assert torch.equal(EvalTransform((16, 24))(image), image)


def test_train_transform__size_type_and_variety():
    transform = TrainTransform((16, 24), AugmentConfig())
    image = torch.randint(0, 255, (13, 40, 50), dtype=torch.uint8)
    views = [transform(image) for _ in range(4)]
    assert all(view.shape == (13, 16, 24) and view.dtype == torch.uint8 for view in views)
    assert not torch.equal(views[0], views[1])


def test_train_transform__without_flip_never_mirrors():
    ramp = torch.linspace(0, 1, 64).expand(1, 64, 64)
    transform = TrainTransform((16, 16), AugmentConfig(flip=False, crop_scale=(0.9, 1.0)))
    assert all((view := transform(ramp))[0, 0, 0] < view[0, 0, -1] for _ in range(20))


def test_to_unit__by_the_range_of_the_type():
    assert float(to_unit(torch.tensor(255, dtype=torch.uint8))) == 1.0
    assert float(to_unit(torch.tensor(65535).to(torch.uint16))) == 1.0
    assert float(to_unit(torch.tensor(7.5))) == 7.5


def test_to_tensor__8_bits_stay_16_bits_become_unit_floats():
    assert to_tensor(np.zeros((4, 5, 1), dtype=np.uint8), 3).dtype == torch.uint8
    deep = to_tensor(np.full((4, 5, 1), 65535, dtype=np.uint16), 1)
    assert deep.dtype == torch.float32
    assert float(deep.max()) == 1.0


def test_normalise__inverse_undoes_it():
    images = torch.rand(2, 3, 16, 24)
    normalise = Normalise(RGB)
    torch.testing.assert_close(normalise.inverse(normalise(images)), images)
    assert not normalise.state_dict()  # preprocessing is no weight


def test_preprocessor__paths_images_and_arrays_agree(tmp_path):
    image = drawn(3)
    path = put(tmp_path / "a.png", encoded(image, "PNG"))
    prepare = Preprocessor(RGB)
    expected = prepare(path)
    assert expected.shape == (1, 3, 16, 24)
    for other in (str(path), image, np.asarray(image), [image], (path,)):
        assert torch.equal(prepare(other), expected)
    assert prepare([image, np.asarray(image)[:, :, 0]]).shape == (2, 3, 16, 24)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AugmentConfig(crop_scale=(0.0, 1.0)), "crop_scale"),
        (
            lambda: Preprocessing(image_size=(8, 8), in_channels=3, mean=(0.5,), std=(0.1,)),
            "one value for each of 3",
        ),
        (
            lambda: Preprocessing(image_size=(8, 8), in_channels=1, mean=(0.5,), std=(0.0,)),
            "std must be positive",
        ),
    ],
)
def test_configs__refuse(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_preprocessor__opened_pictures_follow_the_rules_of_files(tmp_path):
    """Transparency, orientation and depth are the same whether a path or an image is given."""
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = drawn(4).convert("RGBA")
    clear.putalpha(90)
    deep = Image.fromarray(np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16))
    prepare = Preprocessor(RGB)
    for number, (image, options) in enumerate(
        [(drawn(4), {"exif": exif}), (clear, {}), (deep, {})]
    ):
        path = put(tmp_path / f"{number}.png", encoded(image, "PNG", **options))
        with Image.open(path) as opened:
            assert torch.equal(prepare(opened), prepare(path))


def test_preprocessor__batches_and_what_is_no_picture(tmp_path):
    preprocess = Preprocessor(
        Preprocessing(image_size=(8, 8), in_channels=3, mean=(0.5,) * 3, std=(0.2,) * 3)
    )
    assert preprocess(np.zeros((2, 20, 20, 3), np.uint8)).shape == (2, 3, 8, 8)
    for nothing in ([], None):
        with pytest.raises(DataError, match="No picture was given"):
            preprocess(nothing)
    with pytest.raises(DataError, match=r"nope.png: file not found"):
        preprocess(tmp_path / "nope.png")
