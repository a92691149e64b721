"""Files of every kind: the right picture, or one clear reason."""

import struct
import zlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from ltjax.augment.host import HostAugment, center_crop, color_jitter, random_resized_crop
from ltjax.augment.opencv import cv2
from ltjax.data.decode import DecodeError, decode, image_size
from tests.data.pictures import encoded, picture

IMAGE = picture()


def close(a, b, most=6.0):
    assert a.shape == b.shape
    assert np.abs(a.astype(float) - b).mean() < most


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "webp", "tiff"])
def test_formats(kind):
    close(decode(encoded(IMAGE, kind)), IMAGE)


def test_gray_becomes_color():
    gray = IMAGE[..., 0]
    close(decode(encoded(gray, "png")), np.repeat(gray[..., None], 3, axis=2), 0.01)


def test_alpha_is_dropped():
    alpha = np.concatenate([IMAGE, np.full((*IMAGE.shape[:2], 1), 100, np.uint8)], axis=2)
    close(decode(encoded(alpha, "png")), IMAGE, 0.01)


def test_cmyk():
    import io

    buffer = io.BytesIO()
    Image.fromarray(IMAGE).convert("CMYK").save(buffer, "jpeg", quality=98)
    close(decode(buffer.getvalue()), IMAGE, 12)


def test_sixteen_bits_become_eight():
    deep = IMAGE[..., 0].astype(np.uint16) * 257
    out = decode(encoded(deep, "png"))
    close(out, np.repeat(IMAGE[..., :1], 3, axis=2), 1.0)


def test_orientation_is_followed():
    import io

    exif = Image.Exif()
    exif[274] = 6  # shown turned by 90 degrees clockwise
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "jpeg", quality=95, exif=exif)
    close(decode(buffer.getvalue()), np.rot90(IMAGE, -1))


def test_reduced_scale():
    large = picture(400, 600)
    out = decode(encoded(large, quality=95), at_least=90)
    assert out.shape == (100, 150, 3)
    close(out, np.asarray(Image.fromarray(large).resize((150, 100), Image.Resampling.BOX)))
    assert decode(encoded(large), at_least=300).shape == (400, 600, 3)


@hypothesis.given(st.binary(max_size=300))
def test_any_bytes_give_a_picture_or_a_reason(data):
    try:
        found = decode(data)
    except DecodeError as e:
        found = str(e)
    assert isinstance(found, str) or found.ndim == 3


@hypothesis.given(st.integers(2, 400), st.sampled_from(["jpeg", "png"]))
@hypothesis.settings(max_examples=30)
def test_cut_files_never_pass_for_whole_ones(cut, kind):
    whole = encoded(picture(80, 90), kind)
    with pytest.raises(DecodeError):
        decode(whole[: len(whole) * cut // 500])


def test_reasons():
    jpeg = encoded(picture(200, 300))
    with pytest.raises(DecodeError, match="cut off"):
        decode(jpeg[: len(jpeg) // 2])
    with pytest.raises(DecodeError, match="not an image"):
        decode(b"this is text, not a picture\n" * 10)
    with pytest.raises(DecodeError, match="empty"):
        decode(b"")
    with pytest.raises(DecodeError, match="60000 x 60000"):
        decode(huge_png())


def huge_png():
    """A PNG whose header promises 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    crc = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + crc


def test_size_from_the_header():
    assert image_size(encoded(IMAGE)) == (40, 60)
    assert image_size(encoded(IMAGE, progressive=True)) == (40, 60)
    assert image_size(encoded(IMAGE, "png")) == (40, 60)
    assert image_size(b"BM") is None


def test_center_crop():
    assert center_crop(picture(100, 200), 32).shape == (32, 32, 3)
    assert center_crop(picture(10, 7), 32).shape == (32, 32, 3)
    same = picture(32, 32)
    assert center_crop(same, 32) is same
    # 256 of 512: the middle half of the height is kept, times 0.875.
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 512, axis=1)[..., None]
    out = center_crop(ramp, 224)
    assert out.shape == (224, 224, 1)
    assert abs(int(out[0, 0, 0]) - 16) <= 1
    assert abs(int(out[-1, 0, 0]) - 239) <= 1


def test_random_crop_is_a_function_of_its_generator():
    image, settings = picture(120, 160), HostAugment()
    one, two, other = (
        random_resized_crop(image, np.random.default_rng(s), 32, settings) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, two)
    assert one.shape == (32, 32, 3)
    assert (one != other).any()


def test_random_crops_have_the_areas_asked_for():
    # The image holds its own column numbers, so a crop's spread is its width.
    width = 240
    ramp = np.repeat(np.arange(width, dtype=np.uint8)[None, :, None], width, axis=0)
    areas = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        crop = random_resized_crop(ramp, rng, 240, HostAugment((0.25, 0.5), (1.0, 1.0)))
        areas.append((float(np.ptp(crop[0, :, 0].astype(int))) / width) ** 2)
    assert 0.22 < min(areas) < 0.3
    assert 0.42 < max(areas) < 0.53


def test_jitter():
    image = picture()
    assert color_jitter(image, np.random.default_rng(0), 0.0) is image
    changed = color_jitter(image, np.random.default_rng(0), 0.4)
    assert changed.dtype == np.uint8
    assert (changed != image).any()
    gray = image[..., :1]
    assert color_jitter(gray, np.random.default_rng(0), 0.4).shape == gray.shape


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = cv2.imencode(".jpg", picture)[1].tobytes()
    small = cv2.imencode(".jpg", picture[:8, :8])[1].tobytes()
    header = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    nested = whole[:2] + header + whole[2:]
    assert decode(nested).shape == (40, 40, 3)
    with pytest.raises(ValueError, match="cut off"):
        decode(nested[:-300])
