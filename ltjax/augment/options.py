"""The options of augmentation, on the device and on the host; free of JAX."""

import dataclasses

from ltjax.errors import FLAG, integer, number, one_of, option

# Names of `ltjax.augment.searched.POLICIES`, written here too since this module is free of JAX.
POLICY_NAMES = ("none", "trivial", "autoaugment_cifar", "autoaugment_imagenet")


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of the training images."""

    max_shift: int = option(
        1, integer(0, 4096), "largest random shift in pixels, of the zero-padded image"
    )
    flip: bool = option(False, FLAG, "mirror each image left to right with probability 1/2")
    rand_ops: int = option(
        0, integer(0, 16), "number of RandAugment operations per image; 0 turns it off"
    )
    rand_magnitude: float = option(9.0, number(0, 10), "strength of the RandAugment operations")
    policy: str = option(
        "none",
        one_of(*POLICY_NAMES),
        "TrivialAugment, or a policy that AutoAugment found, on each image",
    )
    cutout: int = option(
        0, integer(0, 4096), "side in pixels of the square that Cutout erases; 0 turns it off"
    )
    erasing: float = option(
        0.0, number(0, 1), "probability that random erasing fills a rectangle of an image"
    )
    crop_area: float = option(
        1.0,
        number(0, 1, open_low=True),
        "streamed: smallest share of the area that a random crop keeps; 1 turns cropping off",
    )
    colour_jitter: float = option(
        0.0,
        number(0, 1),
        "streamed: largest relative change of brightness, contrast and saturation; 0 turns it off",
    )

    @property
    def none(self) -> bool:
        """Whether images are left as they are."""
        off = (self.max_shift, self.flip, self.rand_ops, self.cutout, self.erasing)
        return not any((*off, self.colour_jitter)) and self.crop_area == 1 and self.policy == "none"
