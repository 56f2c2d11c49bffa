"""Pixels to tensors of one size: random crops for training, centre crops for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.v2.functional as TF
from jaxtyping import Float, Shaped
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from maekit.data.decode import decode, from_pillow
from maekit.data.pixels import Pixels, match_channels
from maekit.errors import ConfigError, DataError, DecodeError


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes to a picture during pre-training. The paper has these two (Table 1e)."""

    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Least and greatest share of a picture's area in a random crop, in (0, 1]."""
    flip: bool = True
    """Whether to mirror half of the pictures; switch off where left and right differ in meaning."""

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0.0 < low <= high <= 1.0:
            raise ConfigError(f"crop_scale must rise within (0, 1], got {list(self.crop_scale)}.")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """All that stands between a picture and the encoder; kept in the checkpoint."""

    image_size: tuple[int, int]
    """Height and width, in pixels."""
    in_channels: int
    """Channels the encoder takes; grey and colour are turned into each other."""
    mean: tuple[float, ...]
    """Mean of each channel, in unit scale (see `to_unit`)."""
    std: tuple[float, ...]
    """Standard deviation of each channel, in unit scale."""

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.in_channels:
            raise ConfigError(
                f"mean and std need one value for each of {self.in_channels} channels, got "
                f"{len(self.mean)} and {len(self.std)}."
            )
        if min(self.std) <= 0:
            raise ConfigError(f"std must be positive, got {list(self.std)}.")


def to_tensor(pixels: Pixels, channels: int) -> Shaped[Tensor, "c height width"]:
    """Turns decoded pixels into a tensor: uint8 stays, all else becomes float32 in unit scale.

    Raises:
        DecodeError: If the channels cannot be matched.
    """
    pixels = match_channels(pixels, channels)
    # A copy of its own: pixels may be mapped from a file that must not be written to.
    tensor = torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))
    return tensor if tensor.dtype == torch.uint8 else to_unit(tensor)


def to_unit(images: Shaped[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Scales integers to [0, 1] by the range of their type; floats stay as they are."""
    if images.dtype.is_floating_point:
        return images.float()
    return images.float() / torch.iinfo(images.dtype).max


class TrainTransform:
    """Random resized crop (bicubic) and mirroring.

    Draws from torch's default generator, as torchvision does; the loader seeds it for each sample.

    Source: He et al. 2022, appendix A.1, "Pre-training".
    """

    def __init__(self, image_size: tuple[int, int], config: AugmentConfig) -> None:
        crop = v2.RandomResizedCrop(
            image_size,
            scale=config.crop_scale,
            interpolation=v2.InterpolationMode.BICUBIC,
            antialias=True,
        )
        self.steps = [crop, v2.RandomHorizontalFlip()] if config.flip else [crop]

    def __call__(self, image: Shaped[Tensor, "c h0 w0"]) -> Shaped[Tensor, "c height width"]:
        """Returns one random view of a picture."""
        for step in self.steps:
            image = step(image)
        return image


class EvalTransform:
    """Scales a picture until it covers the size, and cuts the middle out."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        self.image_size = image_size

    def __call__(self, image: Shaped[Tensor, "c h0 w0"]) -> Shaped[Tensor, "c height width"]:
        """Returns the one view of a picture."""
        (height, width), (high, wide) = image.shape[-2:], self.image_size
        if (height, width) == (high, wide):
            return image
        factor = max(high / height, wide / width)
        size = [max(high, round(height * factor)), max(wide, round(width * factor))]
        image = TF.resize(image, size, v2.InterpolationMode.BICUBIC, antialias=True)
        cut: Tensor = TF.center_crop(image, [high, wide])
        return cut


class Normalise(nn.Module):
    """Brings images to mean 0 and deviation 1 a channel, on the device where they lie."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        shape = (1, preprocessing.in_channels, 1, 1)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape), persistent=False)

    def forward(
        self, images: Shaped[Tensor, "b c height width"]
    ) -> Float[Tensor, "b c height width"]:
        """Normalises integers or unit-scale floats."""
        return (to_unit(images) - self.mean) / self.std

    def inverse(
        self, images: Float[Tensor, "b c height width"]
    ) -> Float[Tensor, "b c height width"]:
        """Returns images in unit scale."""
        return images * self.std + self.mean


class Preprocessor:
    """Pictures in any form to a normalised batch for the encoder."""

    # Pictures an encoder is shown after training are few and chosen: only absurd ones are refused.
    MAX_PIXELS = 500_000_000

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.transform = EvalTransform(preprocessing.image_size)
        self.normalise = Normalise(preprocessing)

    def __call__(self, pictures: object) -> Float[Tensor, "b c height width"]:
        """Reads, scales, crops and normalises.

        Args:
            pictures: One picture or a sequence of them: paths, PIL images, or arrays of shape
                (h, w) or (h, w, c) with values in 0 to 255 (uint8), 0 to 65535 (uint16), or floats
                as in the training data. An array (n, h, w, c) is n pictures.

        Raises:
            DataError: If there is none, or a file cannot be read.
        """
        return self.normalise(self.views(pictures))  # type: ignore[no-any-return]  # Module.__call__

    def views(self, pictures: object) -> Float[Tensor, "b c height width"]:
        """Reads, scales and crops, but does not normalise: images in unit scale."""
        is_batch = isinstance(pictures, np.ndarray) and pictures.ndim == 4
        if isinstance(pictures, str | Path) or not (is_batch or isinstance(pictures, Sequence)):
            pictures = [pictures]
        several: list[object] = list(pictures)  # type: ignore[call-overload]  # a sequence by now
        if not several or several[0] is None:
            raise DataError("No picture was given; give paths, PIL images or arrays.")
        views = []
        for picture in several:
            try:
                views.append(self.view(picture))
            except DecodeError as error:
                if not isinstance(picture, str | Path):
                    raise
                raise DataError(f"{picture}: {error}.") from error
        return torch.stack(views)

    def view(self, picture: object) -> Float[Tensor, "c height width"]:
        """As `views`, of one picture.

        Raises:
            DecodeError: If it cannot be read.
        """
        return to_unit(self.transform(self._tensor(picture)))

    def _tensor(self, picture: object) -> Tensor:
        if isinstance(picture, str | Path):
            pixels = decode(Path(picture), self.MAX_PIXELS)
        elif isinstance(picture, Image.Image):
            pixels = from_pillow(picture)
        else:
            pixels = np.asarray(picture)
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if pixels.dtype not in (np.uint8, np.uint16):
            pixels = pixels.astype(np.float32)
        return to_tensor(pixels, self.preprocessing.in_channels)
