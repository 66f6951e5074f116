"""Films with sound for a browser: WebM, VP9 and Opus, written and read by ffmpeg.

A film plays at the same speed everywhere: its frames lie ``1 / frames_per_s`` apart, the first at
0, and a key frame comes at least every second, so that a player can jump. The bytes follow from
pictures and sound alone; nothing in the file is random or says when it was made.
"""

import contextlib
import dataclasses
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from steelyard.data.formats.base import atomic_path

INSTALL = "pip install imageio-ffmpeg (or, on Debian: apt install ffmpeg)"
OPUS_RATE = 48_000
"""Samples per second in which Opus keeps any sound."""

_QUALITY = ("-crf", "40", "-deadline", "good", "-cpu-used", "5", "-row-mt", "1")
_COLOURS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
_SAME_BYTES = ("-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact")


@dataclasses.dataclass(frozen=True)
class Media:
    """What a film holds.

    Attributes:
        frames: Number of pictures.
        frames_per_s: How many are shown in a second.
        width: Of a picture, pixels.
        height: Of a picture, pixels.
        has_audio: Whether there is a sound track.
    """

    frames: int
    frames_per_s: float
    width: int
    height: int
    has_audio: bool

    @property
    def duration_s(self) -> float:
        """Length of the pictures."""
        return self.frames / self.frames_per_s


def ffmpeg() -> str:
    """Find the encoder: the binary of imageio-ffmpeg, else ``ffmpeg`` on the path.

    Raises:
        ImportError: There is neither; names the command that installs one.
    """
    with contextlib.suppress(ImportError, RuntimeError):
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    found = shutil.which("ffmpeg")
    if found is None:
        raise ImportError(f"films are written and read by ffmpeg, which is not here: {INSTALL}")
    return found


def write_webm(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    frames_per_s: float | int,
    audio: Float32[np.ndarray, " sample"] | Callable[[], np.ndarray] | None = None,
    sample_rate: int = 44_100,
    kbit_per_s: int | None = None,
) -> Path:
    """Write a film; it lasts ``len(frames) / frames_per_s`` seconds.

    Args:
        path: Where to write, ``.webm``; replaced whole, never left half written.
        frames: Pictures, all of one size; may be a generator, one is held at a time.
        frames_per_s: Pictures a second, more than 0.
        audio: Sound of one channel in [-1, 1], or a function that returns it once the pictures are
            used up. Cut to their length, or followed by silence; none makes a film without a sound
            track.
        sample_rate: Of ``audio``, samples per second.
        kbit_per_s: Upper end of what the pictures may cost; none takes 600 at 480 x 360 and as
            much a pixel at other sizes.

    Returns:
        The path.

    Raises:
        ImportError: No encoder; see :func:`ffmpeg`.
        ValueError: No frame, frames of another type or of several sizes, sound outside [-1, 1] or
            not finite, another ending, or the encoder refuses.
    """
    if path.suffix != ".webm" or not frames_per_s > 0:
        raise ValueError(
            f"a film ends in .webm and shows more than 0 frames a second, got {path.name!r} "
            f"and {frames_per_s}"
        )
    if isinstance(audio, np.ndarray):
        _check_sound(audio, path)
    checked = _checked(frames, path)
    first = next(checked, None)
    if first is None:
        raise ValueError(f"{path}: a film has at least one frame, got none")
    height, width = first.shape[:2]
    kbit_per_s = kbit_per_s or max(50, round(600 * height * width / (480 * 360)))
    with atomic_path(path, overwrite=True) as draft, tempfile.TemporaryDirectory() as folder:
        silent = draft if audio is None else Path(folder) / "silent.webm"
        video = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        video += ["-r", f"{frames_per_s}", "-i", "-"]
        video += ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p"]
        video += ["-c:v", "libvpx-vp9", "-b:v", f"{kbit_per_s}k", *_QUALITY, *_COLOURS]
        video += ["-g", f"{max(1, round(frames_per_s))}", *_SAME_BYTES, "-f", "webm", str(silent)]
        count = _run(video, itertools.chain([first], checked), path)
        if audio is not None:
            if not isinstance(audio, np.ndarray):
                audio = audio()
                _check_sound(audio, path)
            samples = np.zeros(round(count / frames_per_s * sample_rate), np.float32)
            samples[: len(audio)] = audio[: len(samples)]
            both = ["-i", str(silent), "-f", "f32le", "-ar", f"{sample_rate}", "-ac", "1"]
            both += ["-i", "-", "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "libopus"]
            both += ["-b:a", "96k", "-ar", f"{OPUS_RATE}", *_SAME_BYTES, "-f", "webm", str(draft)]
            _run(both, [samples], path)
    return path


def probe_webm(path: Path) -> Media:
    """Say what a film holds, from its packets; nothing is decoded.

    Raises:
        ImportError: No ffmpeg.
        ValueError: The file is missing, cut off or no film; names it.
    """
    report = _read(path, ["-c", "copy", "-f", "framecrc"]).decode()
    facts, moments = {}, []
    for line in report.splitlines():
        if line.startswith("#"):
            name, _, value = line[1:].partition(": ")
            facts[name] = value
        elif line.startswith("0,"):
            moments.append(int(line.split(",")[2]))
    if "dimensions 0" not in facts or not moments:
        raise ValueError(f"{path}: no pictures in it")
    width, height = map(int, facts["dimensions 0"].split("x"))
    unit = _fraction(facts["tb 0"])
    rate = _rate(len(moments) - 1, (max(moments) - min(moments)) * unit, unit)
    return Media(len(moments), rate, width, height, "tb 1" in facts)


def read_frames(path: Path) -> UInt8[np.ndarray, "frame height width 3"]:
    """Decode all pictures of a film.

    Raises:
        ImportError: No ffmpeg.
        ValueError: As :func:`probe_webm`.
    """
    film = probe_webm(path)
    raw = _read(path, ["-map", "0:v", "-f", "rawvideo", "-pix_fmt", "rgb24"])
    return np.frombuffer(raw, np.uint8).reshape(-1, film.height, film.width, 3)


def read_sound(path: Path, sample_rate: int = OPUS_RATE) -> Float32[np.ndarray, " sample"]:
    """Decode the sound of a film, one channel.

    Raises:
        ImportError: No ffmpeg.
        ValueError: As :func:`probe_webm`, or there is no sound track.
    """
    if not probe_webm(path).has_audio:
        raise ValueError(f"{path}: no sound track in it")
    raw = _read(path, ["-map", "0:a", "-f", "f32le", "-ac", "1", "-ar", f"{sample_rate}"])
    return np.frombuffer(raw, np.float32)


def _checked(frames: Iterable[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    """Pass frames on, or refuse the first that is none or differs in size."""
    size = None
    for number, frame in enumerate(frames):
        size = size or frame.shape
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            got = f"{frame.dtype} {list(frame.shape)}"
            raise ValueError(
                f"{path}: a frame is uint8 [height, width, 3], frame {number} is {got}"
            )
        if frame.shape != size:
            sizes = f"{list(size)} and, frame {number}, {list(frame.shape)}"
            raise ValueError(f"{path}: frames have one size, got {sizes}")
        yield np.ascontiguousarray(frame)


def _check_sound(audio: np.ndarray, path: Path) -> None:
    if audio.ndim != 1 or not np.isfinite(audio).all() or (np.abs(audio) > 1).any():
        largest = float(np.abs(audio).max()) if audio.size else 0.0
        raise ValueError(
            f"{path}: sound is [sample], finite and in [-1, 1], got shape {list(audio.shape)} "
            f"with largest amplitude {largest:g}"
        )


def _run(arguments: list[str], chunks: Iterable[np.ndarray], path: Path) -> int:
    """Give ``chunks`` to the encoder and return how many there were."""
    count = 0
    command = [ffmpeg(), "-hide_banner", "-v", "error", "-nostdin", "-y", *arguments]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # the encoder's own words follow
                for chunk in chunks:
                    process.stdin.write(chunk.data)
                    count += 1
                process.stdin.close()
            code = process.wait()
        finally:
            # Frames may fail or be interrupted half way; the encoder ends with them.
            if process.poll() is None:
                process.kill()
                process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        if code:
            said.seek(0)
            raise ValueError(f"{path}: ffmpeg failed: {_last_line(said.read())}")
    return count


def _read(path: Path, arguments: list[str]) -> bytes:
    """Return what ffmpeg makes of a file, or refuse the file."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such film")
    command = [ffmpeg(), "-hide_banner", "-v", "error", "-nostdin", "-i", str(path)]
    done = subprocess.run([*command, *arguments, "-"], capture_output=True, check=False)
    if done.returncode or done.stderr:
        raise ValueError(f"{path}: not a whole film: {_last_line(done.stderr)}")
    return done.stdout


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines() or ["it said nothing"]
    return lines[-1]


def _rate(steps: int, span_s: float, unit_s: float) -> float:
    """Return frames per second, a whole number where the file's clock cannot tell it from one."""
    if not steps:
        return 1.0  # of one picture nobody can tell
    whole = max(1, round(steps / span_s))
    return float(whole) if abs(steps / whole - span_s) <= unit_s else steps / span_s


def _fraction(text: str) -> float:
    over, under = text.split("/")
    return int(over) / int(under)
