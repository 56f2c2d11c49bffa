"""Random views of labelled pictures."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor
from torchvision.transforms import RandomErasing, v2

from maekit.errors import ConfigError
from maekit.finetuning.config import RegularConfig


class FinetuneTransform:
    """Crop, mirroring, RandAugment and random erasing, all from torch's default generator.

    Source: He et al. 2022, appendix A.1, "End-to-end fine-tuning". RandAugment is torchvision's,
    whose list of operations differs a little from that of the reference.
    """

    def __init__(self, image_size: tuple[int, int], config: RegularConfig) -> None:
        self.magnitude, self.erase = config.randaugment or 0, config.erase or 0.0
        crop = v2.RandomResizedCrop(
            image_size,
            scale=config.crop_scale or (1.0, 1.0),
            interpolation=v2.InterpolationMode.BICUBIC,
            antialias=True,
        )
        self.steps = [crop, v2.RandomHorizontalFlip()] if config.flip else [crop]
        self.randaugment = v2.RandAugment(
            magnitude=self.magnitude, interpolation=v2.InterpolationMode.BILINEAR
        )

    def __call__(self, image: Shaped[Tensor, "c h0 w0"]) -> Shaped[Tensor, "c height width"]:
        """Returns one random view of a picture.

        Raises:
            ConfigError: If RandAugment is asked for pictures it cannot change.
        """
        for step in self.steps:
            image = step(image)
        if self.magnitude:
            if image.dtype != torch.uint8 or len(image) not in (1, 3):
                raise ConfigError(
                    "augment.randaugment needs 8-bit pictures of one or three channels; set it to "
                    "0 for these."
                )
            image = self.randaugment(image)
        if self.erase and float(torch.rand(())) < self.erase:
            top, left, height, width, _ = RandomErasing.get_params(
                image, (0.02, 1 / 3), (0.3, 3.3), [0.0]
            )
            noise = torch.rand(len(image), height, width)
            if image.dtype == torch.uint8:
                noise = noise * 255
            image[:, top : top + height, left : left + width] = noise.to(image.dtype)
        return image
