"""Pictures as data: opened safely, understood, compared; rows that name them, folders and arrays of them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from burnish.data.checks import check_examples
from burnish.data.duplicates import between, near
from burnish.data.formats import Examples, examples
from burnish.data.sources import read
from burnish.data.split import group_keys, split
from burnish.errors import DataError
from burnish.pictures import READERS, as_part, decode, families, inside, look, sheet
from burnish.types import Dialog, ImagePart, Labelled, Message, Origin, TextPart, content
from picture_files import drawn, write_pictures, write_table
from test_structure import modules_after

ROOT = Path(__file__).resolve().parents[1]


def read_as(source: Path, **options: object) -> Examples:
    return examples(read(str(source)), **options)  # type: ignore[arg-type]


def labelled(*parts: ImagePart, label: str = "a") -> list[Labelled]:
    return [Labelled(content=(part,), labels=(label,), origin=Origin("rows", number)) for number, part in enumerate(parts)]


# ------------------------------------------------------------------------------------------------------------------------- opening


def test_whatever_a_file_holds_becomes_eight_bit_rgb_the_right_way_up(tmp_path: Path) -> None:
    """Pain 23: a picture that is shown to the model otherwise than to people fails without a word."""
    base = drawn("disc", 1)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees
    wide_HW = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64
    glass = base.convert("RGBA")
    glass.putalpha(0)
    made = {
        "plain.png": base,
        "grey.png": base.convert("L"),
        "palette.gif": base.convert("P"),
        "ink.jpg": base.convert("CMYK"),
        "wide.png": PIL.Image.fromarray(wide_HW),
        "glass.png": glass,
    }
    for name, image in made.items():
        image.save(tmp_path / name)
    PIL.Image.new("RGB", (40, 20), "red").save(tmp_path / "turned.jpg", exif=exif)
    seen = {name: decode(as_part(tmp_path / name)) for name in [*made, "turned.jpg"]}
    assert {image.mode for image in seen.values()} == {"RGB"}
    assert seen["turned.jpg"].size == (20, 40)
    assert np.array_equal(np.asarray(seen["plain.png"]), np.asarray(base))
    assert np.asarray(seen["glass.png"]).min() == 255, "what is transparent is laid on white"
    wide = np.asarray(seen["wide.png"])[..., 0]
    assert wide.min() == 0 and wide.max() == round(wide_HW.max() / 257), "16 bits are spread, not cut off"
    looks = {name: look(as_part(tmp_path / name)) for name in seen}
    assert [name for name, one in looks.items() if one.turned] == ["turned.jpg"]
    assert [name for name, one in looks.items() if one.transparent] == ["glass.png"]
    assert [name for name, one in looks.items() if one.sixteen_bit] == ["wide.png"]
    assert [name for name, one in looks.items() if one.is_blank] == ["glass.png", "turned.jpg"]


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that says it is gigantic."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def broken_files(folder: Path) -> dict[str, str]:
    """Files that are no usable pictures, each with a word of what is said of it."""
    stream = io.BytesIO()
    drawn("disc", 2, side=64).save(stream, format="JPEG")
    whole = stream.getvalue()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "words.png").write_bytes(b"this is no picture")
    (folder / "other.png").write_bytes(whole)
    (folder / "bomb.png").write_bytes(bomb(60_000, 60_000))
    (folder / "dense.png").write_bytes(bomb(9_000, 9_000))
    (folder / "empty.png").write_bytes(b"")
    PIL.Image.new("RGB", (3, 40)).save(folder / "thin.png")
    return {
        "cut.jpg": "cannot be decoded", "words.png": "cannot be decoded", "other.png": "cannot be decoded", "bomb.png": "is gigantic",
        "dense.png": "is gigantic", "empty.png": "cannot be decoded", "thin.png": "is tiny",
    }  # fmt: skip


def test_a_broken_gigantic_or_tiny_picture_names_row_and_file_all_at_once(tmp_path: Path) -> None:
    """Pain 23: unreadable pictures are skipped elsewhere. A bomb is known by its header: nothing of it is decoded."""
    expected = broken_files(tmp_path)
    drawn("disc", 3).save(tmp_path / "fine.png")
    names = [*expected, "fine.png", "missing.png"]
    (tmp_path / "rows.csv").write_text("image,label\n" + "".join(f"{name},x\n" for name in names), encoding="utf-8")
    found = read_as(tmp_path / "rows.csv", format="pictures")
    assert len(found.examples) == 1 and len(found.problems) == len(names) - 1
    for line, (name, words) in enumerate({**expected, "missing.png": "there is no such picture"}.items(), 2):
        line += name == "missing.png"
        assert any(f"rows.csv:{line}: image: " in one and name in one and words in one for one in found.problems), name
    assert not any("<_io" in one or " at 0x" in one for one in found.problems), "nothing of the library's insides is told"


@pytest.mark.parametrize(
    "given", ["../secret.png", "link.png", "https://host/a.png", "file:///etc/a.png", "data:image/png;base64,AA", "/etc/hosts"]
)
def test_a_path_that_leaves_the_folder_of_the_data_is_refused(tmp_path: Path, given: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    drawn("disc", 4).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match=r"leaves the folder|nothing is fetched"):
        inside(given, folder)


def test_a_file_that_changed_between_reading_and_training_is_noticed(tmp_path: Path) -> None:
    drawn("disc", 5).save(tmp_path / "a.png")
    part = as_part(tmp_path / "a.png")
    drawn("disc", 6).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="was changed"):
        decode(part)


def test_a_format_of_pictures_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What CONTRIBUTING promises of registries: a reader and its ending, and rows may name such files."""
    monkeypatch.setitem(READERS, ".raw", lambda data: PIL.Image.frombytes("L", (8, 8), data))
    (tmp_path / "a.raw").write_bytes(bytes(range(64)))
    (tmp_path / "rows.csv").write_text("image,label\na.raw,x\n", encoding="utf-8")
    found = read_as(tmp_path / "rows.csv", format="pictures")
    assert not found.problems and look(found.examples[0].content[0]).width == 8  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------------------------ near copies


def test_near_copies_are_found_and_other_pictures_are_not(tmp_path: Path) -> None:
    """Saved again, smaller, lighter: the same picture. The same kind of thing elsewhere: another one."""
    base = drawn("disc", 7, side=96)
    base.save(tmp_path / "a.png")
    base.save(tmp_path / "b.jpg", quality=60)
    base.resize((48, 48)).save(tmp_path / "c.png")
    base.point(lambda level: min(255, level + 12)).save(tmp_path / "d.png")
    for number in range(20):
        drawn("disc", 100 + number, side=96).save(tmp_path / f"other{number}.png")
    PIL.Image.new("RGB", (40, 40), "white").save(tmp_path / "white.png")
    PIL.Image.new("RGB", (40, 40), "black").save(tmp_path / "black.png")
    parts = tuple(as_part(path) for path in sorted(tmp_path.iterdir()))
    family = families(parts)
    same = [Path(part.path).name for part in parts if family[part.sha256] == family[as_part(tmp_path / "a.png").sha256]]
    assert same == ["a.png", "b.jpg", "c.png", "d.png"]
    assert len(set(family.values())) == len(parts) - 3
    rows = labelled(*parts)
    assert [len(cluster) for cluster in near(rows)] == [4] and near(rows, threshold=1.0) == ()
    copies = between(rows[:1], rows[1:])
    assert [one for _, one, _ in copies] == [0, 2, 3], "b, c and d, not the black one between them"


def test_rows_that_show_the_same_picture_are_never_divided(tmp_path: Path) -> None:
    """Several questions about one photo: who learned one answer knows the photo."""
    base = drawn("cross", 8)
    base.save(tmp_path / "a.png")
    base.save(tmp_path / "again.bmp")
    parts = [as_part(tmp_path / "a.png"), as_part(tmp_path / "a.png"), as_part(tmp_path / "again.bmp")]
    drawn("cross", 9).save(tmp_path / "b.png")
    parts.append(as_part(tmp_path / "b.png"))
    rows = [
        Dialog(
            messages=(Message("user", (part, TextPart(f"question {n}?"))), Message("assistant", content(f"answer {n}"))),
            origin=Origin("rows", n),
        )
        for n, part in enumerate(parts)
    ]
    groups = group_keys(rows)
    assert len(set(groups[:3])) == 1 and groups[3] != groups[0]
    assert near(rows) == (), "they are no near copies of each other"


def test_what_is_odd_about_pictures_is_told(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (30, 30), "white").save(tmp_path / "blank.png")
    drawn("disc", 10, side=12).save(tmp_path / "small.png")
    PIL.Image.fromarray((np.arange(900).reshape(30, 30) % 4000).astype(np.uint16)).save(tmp_path / "twelve.png")
    drawn("disc", 11).save(tmp_path / "film.gif", save_all=True, append_images=[drawn("cross", 11)])
    parts = [as_part(tmp_path / name) for name in ("blank.png", "small.png", "twelve.png", "film.gif")]
    found = check_examples(labelled(*parts, ImagePart("gone.png", "00")))
    gone = found.rule("unreadable_picture")
    assert gone is not None and gone.level == "error" and "rows:4" in gone.message and "gone.png" in gone.message
    rules = {
        one.rule: one.origins[0].line
        for one in found.findings
        if one.level != "error" and one.rule.endswith(("picture", "frames", "bits"))
    }
    assert rules == {"blank_picture": 0, "small_picture": 1, "dark_picture": 2, "sixteen_bits": 2, "several_frames": 3}


# ---------------------------------------------------------------------------------------------------------------- folders and arrays


def test_a_folder_of_class_folders_is_guessed_and_divided(tmp_path: Path) -> None:
    write_pictures(tmp_path / "set" / "train", 6)
    write_pictures(tmp_path / "set" / "val", 2, first=50)
    (tmp_path / "set" / "LICENSE.txt").write_text("free", encoding="utf-8")
    found = read_as(tmp_path / "set")
    assert found.format == "pictures" and not found.problems and len(found.examples) == 16
    assert {one.labels for one in found.examples} == {("cross",), ("disc",)}  # type: ignore[union-attr]
    assert found.examples[0].origin.file.endswith("train/cross/000.png")
    part = split(found.examples, dev=0.2, test=0.2, seed=0)
    assert part.train and part.dev and part.test
    drawn("disc", 12).save(tmp_path / "set" / "loose.png")
    with pytest.raises(DataError, match=r"1 of 17 pictures lie outside the class folders \(loose.png\)"):
        read(str(tmp_path / "set"))


def test_pictures_without_labels_and_labels_without_pictures_are_told(tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    drawn("disc", 13).save(tmp_path / "loose" / "a.png")
    with pytest.raises(DataError, match=r"needs the columns image and label"):
        read_as(tmp_path / "loose", format="pictures")
    file = write_table(tmp_path / "table", 1)
    file.write_text(
        file.read_text(encoding="utf-8") + '{"image": null, "label": "disc"}\n{"image": "photos/disc/000.png"}\n', encoding="utf-8"
    )
    said = read_as(file, format="pictures").problems
    assert any(":3: image: expected the path of a picture, found nothing" in one for one in said)
    assert any(":4: label: is missing" in one for one in said)


def arrays(path: Path, **given: np.ndarray) -> Path:
    np.savez(path, **given)
    return path


def test_arrays_are_read_by_part_with_names_for_their_classes(tmp_path: Path) -> None:
    pixels = np.stack([np.asarray(drawn("disc", n)) for n in range(4)])
    labels = np.array([[0], [1], [1], [0]], dtype=np.uint8)
    file = arrays(
        tmp_path / "set.npz",
        train_images=pixels[:3, ..., 0],
        train_labels=labels[:3],
        val_images=pixels[3:, ..., 0],
        val_labels=labels[3:],
    )
    found = read_as(file, names=["normal", "ill"])
    assert [one.labels for one in found.examples] == [("normal",), ("ill",), ("ill",), ("normal",)]  # type: ignore[union-attr]
    (one,) = read_as(Path(f"{file}/val")).examples
    assert one.origin == Origin(str(file), 1, "val") and one.labels == ("0",)  # type: ignore[union-attr]
    assert np.array_equal(np.asarray(decode(one.content[0]))[..., 0], pixels[3, ..., 0])  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"no such part; it has train, val.*Did you mean 'val'"):
        read(f"{file}/vall")
    several = arrays(tmp_path / "several.npz", images=pixels, labels=np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]))
    assert [one.labels for one in read_as(several).examples] == [("0", "2"), (), ("1",), ("0", "1", "2")]  # type: ignore[union-attr]
    said = read_as(file, names=["normal"]).problems
    assert len(said) == 2 and "neither among the names normal nor their number" in said[0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"images": np.zeros((2, 8, 8)), "labels": np.zeros(2, int)}, "expected uint8"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(3, int)}, "3 labels for 2 pictures"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array(["a", None], dtype=object)}, "cannot be read"),
        ({"weights": np.zeros(3)}, "holds the arrays weights"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(tmp_path: Path, given: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(str(arrays(tmp_path / "a.npz", **given)))


def test_an_array_that_says_it_is_gigantic_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish.pictures import arrays as module

    file = arrays(tmp_path / "a.npz", images=np.zeros((50, 64, 64), np.uint8), labels=np.zeros(50, int))
    monkeypatch.setattr(module, "MOST_BYTES", 100_000)
    with pytest.raises(DataError, match=r"array 'images' takes 0\.0 GB, at most"):
        read(str(file))
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        read(str(tmp_path / "b.npz"))
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as made:
        made.writestr("images.npy", b"\x93NUMPY no header")
    with pytest.raises(DataError, match="cannot be read"):
        read(str(tmp_path / "c.npz"))


# --------------------------------------------------------------------------------------------------------------------- the rest


def test_a_sheet_shows_each_picture_unstretched() -> None:
    page = PIL.Image.open(
        io.BytesIO(sheet([drawn("disc", n) for n in range(9)] + [PIL.Image.new("RGB", (200, 50), "red")], ["é – x"] * 10))
    )
    assert page.size == (8 * 112, 2 * 128) and page.format == "JPEG"
    red = np.asarray(page)[128:240, 112:224].astype(int)
    height = int(((red[..., 0] > 200) & (red[..., 1] < 80)).any(axis=1).sum())
    assert 24 <= height <= 32, "four times as wide as high"


def test_a_run_on_texts_never_loads_pillow() -> None:
    """The text path must not have become slower by pictures: what reads rows imports no library for them."""
    code = "import burnish.gather, burnish.data.checks; from burnish.data.sources import read; from burnish.data.formats import examples; "
    code += "from burnish.data.checks import check_examples; "
    code += f"rows = examples(read({str(ROOT / 'src/burnish/assets/samples/support.jsonl')!r})).examples; check_examples(rows[:50])"
    assert not {"PIL", "torchvision"} & modules_after(code)
