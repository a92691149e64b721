"""The options of augmentation, on the device and on the host; free of JAX."""

import dataclasses

from ltjax.errors import FLAG, integer, number, option


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """What a configuration says of the augmentation."""

    max_shift: int = option(1, integer(0), "random shift in pixels")
    flip: bool = option(False, FLAG, "mirror half of the images")
    rand_ops: int = option(0, integer(0), "operations of RandAugment an image; 0 is off")
    rand_magnitude: float = option(9.0, number(0, 10), "of RandAugment")
    cutout: int = option(0, integer(0), "side of the erased square in pixels; 0 is off")
    crop_area: float = option(
        1.0, number(0, 1, open_low=True), "streamed: least area of a random crop; 1 is no crop"
    )
    colour_jitter: float = option(
        0.0, number(0, 1), "streamed: brightness, contrast, saturation; 0 is off"
    )
