"""One image file to pixels, for every format that is read."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm", ".pnm")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # and none that starts another program
_GREY_MODES = ("1", "L", "LA")
_PHOTOMETRIC, _MIN_IS_WHITE = 262, 0  # TIFF's tag, and its value of inverted images


def decode(content: bytes, grey: bool | None = None) -> np.ndarray:
    """The pixels of an image file, uint8 [H, W, 1] if they are (or are to be) grey, else [H, W, 3].

    Photographs are turned upright (EXIF). Black is put behind what is transparent; of an animation the first frame is
    read; 16-bit grey is scaled to bytes (v / 257, rounded), of 16-bit colours the high byte is kept.

    Raises:
        Exception: an unreadable file. Pillow's decoders raise OSError, SyntaxError, struct.error and more.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that nothing depends on here
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            image.verify()  # the checksums of PNG, which decoding skips
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return _pixels(image, grey)


def resize(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """An image uint8 [H, W, C] at another height and width, or at so many pixels per side (Lanczos)."""
    height, width = (size, size) if isinstance(size, int) else size
    if image.shape[:2] == (height, width):
        return image
    shown = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    return np.asarray(shown.resize((width, height), Image.Resampling.LANCZOS)).reshape(height, width, -1)


def middle(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest part of an image [H, W, C], about its centre, that has the shape of height x width pixels."""
    scale = min(image.shape[0] / height, image.shape[1] / width)
    sides = [max(1, round(scale * side)) for side in (height, width)]
    top, left = ((whole - side) // 2 for whole, side in zip(image.shape[:2], sides, strict=True))
    return image[top : top + sides[0], left : left + sides[1]]


def _pixels(image: Image.Image, grey: bool | None) -> np.ndarray:
    if grey is None:
        grey = image.mode in _GREY_MODES or _has_16_bits(image)
    if _has_16_bits(image):
        image = _in_bytes(image)
    elif image.mode in ("I", "F") or ";" in image.mode:
        raise ValueError(f"pixels of Pillow's mode {image.mode}, expected 8 or 16 bits per channel")
    elif image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    array = np.asarray(image.convert("L" if grey else "RGB"))
    return array[..., None] if grey else array


def _has_16_bits(image: Image.Image) -> bool:
    # Pillow scales the grey levels of PGM files to 16 bits, whatever their maximum is.
    return image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")


def _in_bytes(image: Image.Image) -> Image.Image:
    if "transparency" in image.info:
        raise ValueError("16-bit grey with a transparent level, expected 8 bits, or an image without transparency")
    levels = np.asarray(image).astype(np.float32)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _MIN_IS_WHITE:  # which Pillow inverts at 8 bits alone
        levels = 65535 - levels
    return Image.fromarray(np.rint(levels / 257).astype(np.uint8))
