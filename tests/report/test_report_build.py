"""The page: whole, self-contained, the same each time, and graceful about what is not there."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from epigram import report
from epigram.errors import ConfigError, DataError, StorageError
from epigram.report import curves, folder, movies

PICTURES = {
    "accuracy", "nll-kl", "weights-first", "weights-second", "units", "units-left", "removability",
    "pixels", "bytes", "calibration", "predicted-size",
}  # fmt: skip


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are composed but not rendered, for tests that do not look at them."""
    monkeypatch.setattr("epigram.report.run_page.png", lambda figure: b"a picture")


def test_page_and_pictures(pages: dict[str, Path]) -> None:
    page = pages["mlp"]
    assert page == page.parents[1] / "report" / "index.html"
    files = {path.name for path in page.parent.iterdir()}
    assert {f"{stem}.png" for stem in PICTURES} <= files
    assert {"weights-first.gif", "weights-second.gif"} <= files
    html = page.read_text("utf-8")
    assert html.count("<figure") == len(PICTURES)
    assert len(html) < 3_000_000
    assert not re.findall(r'(?:src|href|srcset)="(?!data:)', html)
    assert "url(" not in html
    assert "<script" not in html
    assert html.count("alt=") == html.count("<img")
    assert 'alt=""' not in html


def test_pictures_inside_are_the_files_beside(pages: dict[str, Path]) -> None:
    import base64

    html = pages["convnet"].read_text("utf-8")
    inside = {base64.b64decode(code) for code in re.findall(r"base64,([\w+/=]+)", html)}
    beside = {
        p.read_bytes() for p in pages["convnet"].parent.iterdir() if p.suffix in (".png", ".gif")
    }
    assert inside == beside


def test_missed_floor_is_said_first(pages: dict[str, Path]) -> None:
    headline = re.search(r"<h1>(.*?)</h1>", pages["convnet"].read_text("utf-8"))
    assert headline is not None
    assert headline[1].endswith("not met.")


def test_plain_run_has_a_page(pages: dict[str, Path]) -> None:
    html = pages["plain"].read_text("utf-8")
    assert "LeNet-300-100 on MNIST" in html
    assert "This run removed nothing" in html
    assert "no compressed file" in html
    assert html.count("<figure") == 2


def test_same_folder_same_bytes(
    runs: dict[str, Path], pages: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / runs["convnet"].name
    shutil.copytree(runs["convnet"], copy, ignore=shutil.ignore_patterns("report"))
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 23, "axes.facecolor": "pink"}):  # a user's own settings
        report.build(copy)
    assert dict(mpl.rcParams) == before
    for path in (copy / "report").iterdir():
        assert path.read_bytes() == (pages["convnet"].parent / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    "gone", ["result.json", "config.json", "metrics.jsonl", "report_data.npz", "frames"]
)
@pytest.mark.usefixtures("unrendered")
def test_what_is_absent_is_left_out(runs: dict[str, Path], tmp_path: Path, gone: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(runs["convnet"], copy, ignore=shutil.ignore_patterns("report", gone))
    html = report.build(copy).read_text("utf-8")
    assert "nan" not in re.sub(r"base64,[\w+/=]+", "", html).lower().replace("finance", "")
    sentence = {
        "result.json": "has not written its result yet",
        "config.json": "The run",
        "metrics.jsonl": "hold no accuracy",
        "report_data.npz": "Calibration was not measured",
        "frames": "no weight movie",
    }[gone]
    assert sentence in html


@pytest.mark.usefixtures("unrendered")
def test_torn_lines_and_frames_are_skipped_and_said(runs: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(runs["convnet"], copy, ignore=shutil.ignore_patterns("report"))
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "structure", "epo')
    frame = copy / "frames" / "structure-0004.npz"
    frame.write_bytes(frame.read_bytes()[:200])
    html = report.build(copy).read_text("utf-8")
    assert "1 line(s) of metrics.jsonl could not be read" in html
    with Image.open(copy / "report" / "weights-first.gif") as movie:
        assert movie.n_frames == 3


def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    run = tmp_path / "<b>run"
    run.mkdir()
    nasty = "<script>alert(1)</script>"
    (run / "result.json").write_text(json.dumps({"recipe": nasty, "environment": {nasty: nasty}}))
    (run / "config.json").write_text(json.dumps({nasty: nasty}))
    html = report.build(run).read_text("utf-8")
    assert "<script" not in html
    assert "<b>" not in html


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_damaged_result_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(DataError, match=r"result\.json"):
        report.build(tmp_path)


def test_not_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run's folder"):
        report.build(tmp_path)
    with pytest.raises(ConfigError, match="no folder"):
        report.build(tmp_path / "nowhere")


def test_page_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / "report").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        report.build(tmp_path)


def test_report_does_not_import_torch_or_pyplot() -> None:
    code = "import sys, epigram.report; print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


# --- what the pictures show -------------------------------------------------------------------


def white_rows(path: Path) -> list[np.ndarray]:
    """For every frame of a movie, which pixels are white."""
    with Image.open(path) as movie:
        frames = []
        for place in range(movie.n_frames):
            movie.seek(place)
            frames.append((np.asarray(movie.convert("RGB")) == 255).all(axis=2))
    return frames


def test_removed_rows_and_columns_turn_white(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "frames").mkdir()
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(20, 40)).astype(np.float32)
    for epoch, removed in ((1, 0), (2, 5)):
        shot = weights.copy()
        shot[:removed] = np.nan
        shot[:, :removed] = np.nan
        np.savez(tmp_path / "frames" / f"structure-{epoch:04d}.npz", first=shot)
    found = movies.movie(folder.read_run(tmp_path), "first")
    assert isinstance(found, movies.Movie)
    (tmp_path / "m.gif").write_bytes(found.gif)
    before, after = white_rows(tmp_path / "m.gif")
    zoom, top, left = 20, movies.STRIP, movies.MARGIN
    rows = slice(top, top + 20 * zoom)
    columns = slice(left, left + 40 * zoom)
    assert not before[rows, columns].any()
    assert after[top : top + 5 * zoom, columns].all()
    assert after[rows, left : left + 5 * zoom].all()
    assert not after[top + 5 * zoom : top + 20 * zoom, left + 5 * zoom : left + 40 * zoom].any()
    assert "In the last frame 15 of 20 units are left, reading 35 of 40 inputs" in found.caption


def test_colours_are_symmetric_about_zero_and_fixed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "frames").mkdir()
    for epoch, size in ((1, 1.0), (2, 0.5)):
        values = size * np.array([[-1.0, 0.0, 1.0]], dtype=np.float32)
        np.savez(tmp_path / "frames" / f"s-{epoch:04d}.npz", first=values)
    found = movies.movie(folder.read_run(tmp_path), "first")
    assert isinstance(found, movies.Movie)
    colours = []
    with Image.open(io.BytesIO(found.gif)) as movie:
        for place in range(2):
            movie.seek(place)
            picture = np.asarray(movie.convert("RGB")).astype(int)
            y = movies.STRIP + 10
            colours.append([picture[y, movies.MARGIN + x] for x in (60, 400, 740)])
    palette = movies._palette()
    zero = palette[3 * (movies.LEVELS // 2) :][:3]
    assert colours[0][1].tolist() == zero
    assert colours[1][1].tolist() == zero
    ends = [palette[:3], palette[3 * (movies.LEVELS - 1) :][:3]]
    assert [colours[0][0].tolist(), colours[0][2].tolist()] == ends
    # half the weight is half way along the scale, on its own side
    middle = [palette[3 * 3 :][:3], palette[3 * 9 :][:3]]
    assert [colours[1][0].tolist(), colours[1][2].tolist()] == middle


def test_long_movie_of_a_large_layer_keeps_its_budget(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "frames").mkdir()
    rng = np.random.default_rng(0)
    for epoch in range(12):  # nothing is like the frame before: the worst case
        noise = rng.normal(size=(300, 784)).astype(np.float32)
        np.savez(tmp_path / "frames" / f"s-{epoch:04d}.npz", first=noise)
    found = movies.movie(folder.read_run(tmp_path), "first")
    assert isinstance(found, movies.Movie)
    with Image.open(io.BytesIO(found.gif)) as movie:
        assert movie.n_frames == movies.FEWEST_FRAMES
    assert f"{movies.FEWEST_FRAMES} of 12 epochs are shown" in found.caption


def line(stage: str, epoch: int) -> dict[str, object]:
    return {"stage": stage, "epoch": epoch, "control": {"accuracy": 0.5}}


@pytest.mark.parametrize("second", [1, 3], ids=["starts again", "counts on"])
def test_stages_follow_each_other(second: int) -> None:
    history = [
        line("plain", 1),
        line("a", 1),
        line("a", 2),
        line("b", second),
        line("b", second + 1),
    ]
    placed = curves.timeline(history, plain=False)
    assert [epoch for epoch, _ in placed] == [1, 2, 3, 4]
    assert [epoch for epoch, _ in curves.timeline(history, plain=True)] == [1]


def test_epoch_run_twice_counts_once(tmp_path: Path) -> None:
    lines = [line("a", 1), line("a", 2), line("a", 2) | {"step": 7}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    history = folder.read_run(tmp_path).history
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert history[1]["step"] == 7
