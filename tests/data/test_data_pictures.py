"""Tables and folders of pictures: the pixels that were stored, once decoded and once from the cache."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from epigram.data import Decoding, decoded, image_folder, parquet, pictures
from epigram.data.decoded import remembered
from epigram.errors import ConfigError, DataError

RANDOM = np.random.RandomState(1)
IMAGES = RANDOM.randint(0, 256, (6, 5, 4, 3)).astype(np.uint8)
LABELS = [2, 0, 1, 1, 0, 2]


def stored(image: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def write_table(path: Path, **columns: object) -> Path:
    cells = [{"bytes": stored(image), "path": "x.png"} for image in IMAGES]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": cells, "label": LABELS} | columns), path, row_group_size=4)
    return path


def write_folder(folder: Path) -> Path:
    for number, (label, image) in enumerate(zip(LABELS, IMAGES, strict=True)):
        (folder / f"c{label}").mkdir(parents=True, exist_ok=True)
        (folder / f"c{label}" / f"{number}.png").write_bytes(stored(image))
    (folder / "c0" / "notes.txt").write_text("passed over")
    (folder / ".hidden").mkdir()
    return folder


def test_a_table(nowhere: Path) -> None:
    train = parquet.load(write_table(nowhere / "t.parquet"), name="six", num_classes=3)
    np.testing.assert_array_equal(train.inputs.numpy(), IMAGES.transpose(0, 3, 1, 2))
    assert train.inputs.is_contiguous()
    assert train.targets.tolist() == LABELS
    assert train.name == "six"


def test_several_files_are_one_split_in_order(nowhere: Path) -> None:
    for number in (1, 0):
        path = nowhere / "data" / f"train-0000{number}-of-00002.parquet"
        write_table(path, label=[number] * 6)
    files = parquet.parts(nowhere, "train")
    assert parquet.load(files).targets.tolist() == [0] * 6 + [1] * 6
    assert parquet.parts(nowhere, "test") == []


def test_a_folder(nowhere: Path) -> None:
    train = image_folder.load(write_folder(nowhere / "pets"))
    order = np.argsort(np.array(LABELS), kind="stable")
    np.testing.assert_array_equal(train.inputs.numpy(), IMAGES[order].transpose(0, 3, 1, 2))
    assert train.targets.tolist() == sorted(LABELS)
    assert (train.name, train.num_classes) == ("pets", 3)
    assert image_folder.classes(nowhere / "pets") == ["c0", "c1", "c2"]


def test_grey_and_resized(nowhere: Path) -> None:
    decoding = Decoding(mode="L", resize=(8, 2))
    train = parquet.load(write_table(nowhere / "t.parquet"), decoding=decoding)
    assert train.inputs.shape == (6, 1, 8, 2)
    by_hand = Image.fromarray(IMAGES[0]).convert("L").resize((2, 8), Image.Resampling.BILINEAR)
    assert train.inputs[0, 0].tolist() == np.asarray(by_hand).tolist()


def test_the_second_start_decodes_nothing(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, folder = write_table(nowhere / "t.parquet"), write_folder(nowhere / "pets")
    first = [parquet.load(table), image_folder.load(folder)]
    monkeypatch.setattr(pictures, "_decode_one", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    again = [parquet.load(table), image_folder.load(folder)]
    assert [one.fingerprint() for one in first] == [one.fingerprint() for one in again]
    with pytest.raises(TypeError):  # other pixels are asked for, so they are not those of the cache
        image_folder.load(folder, decoding=Decoding(mode="L"))


def test_changed_files_are_decoded_again(nowhere: Path) -> None:
    folder = write_folder(nowhere / "pets")
    before = image_folder.load(folder)
    (folder / "c0" / "1.png").write_bytes(stored(IMAGES[0]))
    after = image_folder.load(folder)
    assert torch.equal(after.inputs[0], torch.from_numpy(IMAGES[0].transpose(2, 0, 1)))
    assert not torch.equal(after.inputs[0], before.inputs[0])


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "nonsense", "half"])
def test_a_damaged_cache_is_made_anew(nowhere: Path, damage: str) -> None:
    path = write_table(nowhere / "t.parquet")
    expected = parquet.load(path).fingerprint()
    folder = nowhere / "home" / ".cache" / "epigram" / "decoded"
    (about,) = folder.glob("*.json")
    images = about.with_suffix(".npy")
    content = bytearray(images.read_bytes())
    if damage == "cut":
        images.write_bytes(content[:-7])
    elif damage == "flip":
        content[-1] ^= 1
        images.write_bytes(content)
    elif damage == "missing":
        images.unlink()
    elif damage == "nonsense":
        about.write_text("[]")
    else:  # killed before the last of the three files was written
        about.unlink()
    assert parquet.load(path).fingerprint() == expected
    assert json.loads(about.read_text())["sha256"]
    assert images.read_bytes()[-1] == content[-1] ^ (damage == "flip")


def test_without_a_writable_cache_it_works_all_the_same(nowhere: Path) -> None:
    (nowhere / "home").mkdir()
    (nowhere / "home" / ".cache").write_text("a file where the folder should be")
    assert len(parquet.load(write_table(nowhere / "t.parquet"))) == 6


def test_keys_do_not_collide(nowhere: Path) -> None:
    def one(value: int) -> decoded.Decoded:
        return np.full((1, 1, 1, 1), value, np.uint8), np.array([value])

    assert int(remembered("a", lambda: one(1))[1][0]) == 1
    assert int(remembered("b", lambda: one(2))[1][0]) == 2
    assert int(remembered("a", lambda: one(3))[1][0]) == 1


LARGE = [{"bytes": stored(np.zeros((7, 7, 3), np.uint8)), "path": ""}]
CELLS = [{"bytes": stored(image), "path": ""} for image in IMAGES[:5]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": CELLS + LARGE}, r"row 5: is 7 x 7 pixels, but .*row 0 is 4 x 5 .*resize="),
        ({"image": [*CELLS, {"bytes": b"no", "path": ""}]}, "row 5: is not a picture"),
        ({"image": [*CELLS, {"bytes": None, "path": "5.png"}]}, "row 5 has no bytes"),
        ({"image": [*CELLS, None]}, "row 5 has no bytes"),
        ({"image": [b"x"] * 6}, "'image' is binary, expected a struct"),
        ({"label": ["cat"] * 6}, "'label' is string, expected integers"),
        ({"label": [None] * 6}, "'label' is null, expected integers"),
        ({"label": [1, None, 1, 1, 1, 1]}, "'label' has 1 empty rows"),
        ({"label": [3] * 6}, "has label 3"),
    ],
)
def test_bad_tables(nowhere: Path, columns: dict[str, object], message: str) -> None:
    path = write_table(nowhere / "t.parquet", **columns)
    with pytest.raises(DataError, match=message):
        parquet.load(path, num_classes=3)


def test_bad_files(nowhere: Path) -> None:
    path = write_table(nowhere / "t.parquet")
    with pytest.raises(DataError, match="has the columns image, label; expected kind"):
        parquet.load(path, label_column="kind")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="is not a parquet file that can be read"):
        parquet.load(path)
    with pytest.raises(DataError, match=r"none\.parquet: cannot be read"):
        parquet.load(nowhere / "none.parquet")
    with pytest.raises(DataError, match="got no parquet files"):
        parquet.load([])
    pq.write_table(pa.table({"image": CELLS, "label": LABELS[:5]}).slice(0, 0), path)
    with pytest.raises(DataError, match="holds no rows"):
        parquet.load(path)


def test_without_pyarrow(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'epigram\[parquet\]'"):
        parquet.load(write_table(nowhere / "t.parquet"))


def test_bad_folders(nowhere: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        image_folder.load(nowhere / "none")
    (nowhere / "empty").mkdir()
    with pytest.raises(DataError, match="has no sub-folders"):
        image_folder.load(nowhere / "empty")
    folder = write_folder(nowhere / "pets")
    (folder / "c9").mkdir()
    with pytest.raises(DataError, match=r"c9: has no pictures"):
        image_folder.load(folder)


def test_formats_that_are_programs_and_claims_of_size_are_refused() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n(x) run\n"
    with pytest.raises(DataError, match="here: is not a picture"):
        pictures.decode([("here", postscript)], 1, Decoding())
    claim = bytearray(stored(IMAGES[0], "BMP"))
    claim[18:26] = (100_000).to_bytes(4, "little") * 2
    with pytest.raises(DataError, match="here: "):
        pictures.decode([("here", bytes(claim))], 1, Decoding())


@pytest.mark.parametrize(
    "wrong", [{"mode": "CMYK"}, {"resize": (0, 3)}, {"formats": ("PNG", "EPS")}]
)
def test_decoding_is_valid_or_not_built(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Decoding(**wrong)
