"""Photograph the labelling app with real films: ``docs/figures/label-*.png``.

Plays graded experts of SweepInto, films them, starts ``steelyard label serve`` and opens its page
in Debian's Chromium. Needs ``pip install playwright`` and ``apt install chromium`` (or another
place in ``STEELYARD_CHROMIUM``). Eight films are drawn without a graphics card: about a minute.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from steelyard.data.segments import save_segments
from steelyard.training.segment_generation import GenerationConfig, record_scripted

TARGET = Path(__file__).resolve().parent.parent / "docs" / "figures"
CHROMIUM = os.environ.get("STEELYARD_CHROMIUM", "/usr/bin/chromium")
STEELYARD = [sys.executable, "-m", "steelyard.cli"]
SIZE = {"width": 1280, "height": 800}
COLOURS = 128


def make_films(folder: Path) -> Path:
    """Segments of experts of several grades, filmed."""
    config = GenerationConfig(episodes=2, episode_steps=64, segment_steps=64, noise_scales=(0.1,))
    dataset = folder / "2026-11-21-10-00-00"
    save_segments(dataset, record_scripted("dense/SweepInto-v3", config, seed=0))
    subprocess.run([*STEELYARD, "data", "film", str(dataset)], check=True)
    return dataset


def serve(dataset: Path, *options: str) -> tuple[subprocess.Popen, str]:
    """Start the app; return its process and address."""
    command = [*STEELYARD, "label", "serve", str(dataset), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("open "))
    return process, line.split()[1].rstrip("/")


def photograph(page: Page, name: str) -> None:
    """Write one picture, with few colours so that it stays small."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    TARGET.mkdir(parents=True, exist_ok=True)
    picture.save(TARGET / name, optimize=True)
    print(f"{TARGET / name}: {(TARGET / name).stat().st_size / 1000:.0f} kB")


def watch(page: Page, until_s: float) -> None:
    """Wait until the first clip shows a moment, then hold it."""
    place = "document.querySelector('video')?.currentTime ?? 0"
    while page.evaluate(place) < until_s:
        time.sleep(0.02)
    page.keyboard.press(" ")
    time.sleep(0.5)


def main() -> None:
    """Draw all pictures."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        dataset = make_films(Path(folder))
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--autoplay-policy=no-user-gesture-required", "--no-sandbox"],
        )
        process, base = serve(dataset, "--mode", "pair", "--annotator", "ana", "--repeat", "0")
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(base)
        for _ in range(3):
            watch(page, 1.8)
            page.keyboard.press("ArrowLeft")
            time.sleep(1)
        watch(page, 2.2)
        photograph(page, "label-pair.png")
        page.keyboard.press("?")
        time.sleep(0.3)
        photograph(page, "label-keys.png")
        process.terminate()
        process.wait()

        process, base = serve(dataset, "--repeat", "0")
        page = browser.new_page(viewport=SIZE, color_scheme="dark")
        page.goto(f"{base}/?annotator=eve")
        for key in ("3", "5", "2"):
            watch(page, 1.8)
            page.keyboard.press(key)
            time.sleep(1)
        watch(page, 2.2)
        photograph(page, "label-rate.png")
        browser.close()
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
