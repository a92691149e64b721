"""The table of pretrained backbones."""

import re

import pytest

from ltjax.errors import InputError
from ltjax.models import BACKBONES
from ltjax.models.pretrained import PRETRAINED, SUFFIXES, entry_of
from ltjax.models.pretrained.entries import OWN_FILES


@pytest.mark.parametrize("name", PRETRAINED)
def test_entries_are_complete(name):
    entry = PRETRAINED[name]
    assert entry.backbone in BACKBONES
    assert entry.file.endswith(SUFFIXES)
    assert re.fullmatch("|[0-9a-f]{8}|[0-9a-f]{64}", entry.sha256)
    assert entry.sha256[:8] in entry.file
    assert 0 < entry.crop <= 1
    assert entry.size == 224
    assert entry.interpolation in ("bilinear", "bicubic")
    assert len(entry.mean) == len(entry.std) == 3
    assert entry.license in ("Apache-2.0", "BSD-3-Clause", "MIT")
    kinds = (entry.package, entry.repository, entry.source.startswith("https://"))
    assert sum(map(bool, kinds)) == 1


def test_entries_by_name_and_by_file():
    assert entry_of("resnet50_v2", "resnet50").crop == 224 / 232
    assert entry_of("mine.safetensors", "resnet50") is PRETRAINED["resnet50_v1"]
    assert entry_of("mine.npz", "vit_b16_gap") is OWN_FILES["vit_b16_gap"]
    assert entry_of("mine.safetensors", "convnet").mean == ()  # an export says it itself
    openclip = "hf:laion/CLIP-ViT-L-14-laion2B-s32B-b82K"
    for weights in (openclip, f"{openclip}/a/open_clip_pytorch_model.bin"):
        assert entry_of(weights, "openclip_vit_l14") is PRETRAINED["openclip_l14"]
    assert entry_of("hf:facebook/dinov2-base", "vit_b14_dinov2") is PRETRAINED["dinov2_b14"]


BAD = [
    ("resnet50_v2", "resnet18", r"is of the backbone resnet50; use config.model.name = resn"),
    ("hf:timm/vit_base_patch14_dinov2.lvd142m", "vit_b16", "is of the backbone vit_b14_dinov2; "),
    ("resnet50_v3", "resnet50", r"is neither a name .*resnet18_v1.* nor a file .* nor hf:REPO"),
    ("mine.pth", "convnet", r"no pretrained weights but the .safetensors file of an export \(--"),
    *(
        (f"hf:{wrong}", "vit_b16", r"is not allowed; use hf:OWNER/REPO or hf:OWNER/REPO/FILE")
        for wrong in ("", "bert", "a/b/c.exe", "a/../b/c.npz", "a b/c", "a/b/", "https://a/b.npz")
    ),
]


@pytest.mark.parametrize(("weights", "backbone", "message"), BAD)
def test_bad_input(weights, backbone, message):
    with pytest.raises(InputError, match=message):
        entry_of(weights, backbone)
