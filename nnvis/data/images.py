"""Folders of images: `root/CLASS/anything.png`, one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnvis.data.problems import existing_folder, first_few
from nnvis.data.source import Source
from nnvis.errors import InputError

if TYPE_CHECKING:
    from nnvis.config import schema


def image_folder(section: schema.ImageFolder, rng: np.random.Generator) -> Source:
    """(N, C, H, W), C = 1 or 3, pixels in [0, 1]; classes and files sorted by name, other files passed over."""
    root = existing_folder(section.root, "data.root")
    files_of = _image_files(root)
    files = [file for files in files_of.values() for file in files]
    height, width = section.size
    images = np.empty((len(files), 1 if section.grayscale else 3, height, width), np.uint8)
    problems = []
    for pixels, file in zip(images, files, strict=True):
        try:
            pixels[:] = _pixels(file, height, width, section.grayscale)
        except Exception as error:  # each format has its own ways to be broken
            problems.append(f"{file}: not an image that can be read: {error}")
    if problems:
        raise InputError(first_few(problems))
    labels = np.repeat(np.arange(len(files_of)), [len(files) for files in files_of.values()])
    return Source(images, labels, tuple(files_of), full_scale=255)


def _image_files(root: Path) -> dict[str, list[Path]]:
    from PIL import Image

    suffixes = Image.registered_extensions()
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files_of = {
        folder.name: sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes) for folder in folders
    }
    if len(folders) < 2:
        found = f"found {len(folders)} folder{'s' * (len(folders) != 1)}"
        raise InputError(f"data.root: {root}: {found}, expected two or more: one a class, with its images in it")
    if empty := [name for name, files in files_of.items() if not files]:
        raise InputError(f"data.root: {root / empty[0]}: no images in it, expected files such as 1.png or 2.jpg")
    return files_of


def _pixels(file: Path, height: int, width: int, grayscale: bool) -> NDArray[np.uint8]:
    """(C, H, W). Turned as the camera says; transparency is dropped."""
    from PIL import Image, ImageOps

    with Image.open(file) as opened:
        if opened.mode.startswith(("I", "F")):
            raise ValueError(f"mode {opened.mode}, expected 8 bits a channel")  # Pillow would clip it in silence
        image = ImageOps.exif_transpose(opened)
        if image.mode == "P":
            image = image.convert("RGBA")
        image = image.convert("L" if grayscale else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
