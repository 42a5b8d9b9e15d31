"""Folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nnvis.errors import InputError

PLAIN = {"kind": "image_folder", "val_fraction": 0.0, "standardize": False}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two blue cats of 4 × 6 pixels, one red dog; files that are no images beside them."""
    for name, colour in (("cat/1.png", (0, 0, 255)), ("cat/2.JPG", (0, 0, 255)), ("dog/1.png", (255, 0, 0))):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), colour).save(file)
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"?")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_colours_sizes_and_classes(root: Path, load: Any) -> None:
    splits = load(root=str(root), size=[8, 5], **PLAIN)
    assert splits.classes == ("cat", "dog")
    images = splits.train.inputs[splits.train.rows.argsort()]
    assert images.shape == (3, 3, 8, 5)
    assert torch.allclose(images[:2, 2], torch.tensor(1.0), atol=0.02)  # cats are blue, JPEG but nearly
    assert torch.equal(images[2], torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 8, 5))
    assert load(root=str(root), grayscale=True, **PLAIN).input_shape == (1, 32, 32)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_way_to_store_white_is_white(mode: str, root: Path, load: Any) -> None:
    for file in root.glob("*/*.*"):
        file.unlink()
    for folder in ("cat", "dog"):
        Image.new("RGB", (3, 3), "white").convert(mode).save(root / folder / "1.tiff")
    assert torch.equal(load(root=str(root), size=[2, 2], **PLAIN).train.inputs, torch.ones(2, 3, 2, 2))


def test_photographs_are_turned_upright(root: Path, load: Any) -> None:
    lying = Image.new("RGB", (8, 8), "black")
    lying.paste("white", (0, 0, 4, 8))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the left edge is the top
    lying.save(root / "dog" / "1.png", exif=exif)
    splits = load(root=str(root), size=[8, 8], grayscale=True, **PLAIN)
    upright = splits.train.inputs[splits.train.targets == 1][0, 0]
    assert torch.equal(upright[[0, -1]], torch.tensor([[1.0], [0.0]]).expand(2, 8))


def test_palettes_with_transparency_load_quietly(root: Path, load: Any) -> None:
    image = Image.new("RGB", (4, 4), "red").convert("P")
    image.save(root / "dog" / "1.png", transparency=b"\x00\x80")
    load(root=str(root), **PLAIN)


def test_unreadable_images_are_named(root: Path, load: Any) -> None:
    (root / "cat" / "3.png").write_bytes(b"no picture")
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(root / "dog" / "2.png")
    whole = (root / "dog" / "1.png").read_bytes()
    (root / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError) as caught:
        load(root=str(root), **PLAIN)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        str(root / name) for name in ("cat/3.png", "dog/2.png", "dog/3.png")
    ]
    assert lines[1].endswith("not an image that can be read: mode I;16, expected 8 bits a channel")


def test_folders_that_cannot_be_used(root: Path, load: Any) -> None:
    with pytest.raises(InputError, match=r"^data.root: .*/cat: found 0 folders, expected two or more: one a class"):
        load(root=str(root / "cat"), **PLAIN)
    with pytest.raises(InputError, match=r"^data.root: .*/nowhere: there is no such folder"):
        load(root=str(root / "nowhere"), **PLAIN)
    (root / "empty").mkdir()
    with pytest.raises(InputError, match=r"^data.root: .*/empty: no images in it, expected files such as"):
        load(root=str(root), **PLAIN)
