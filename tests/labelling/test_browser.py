"""The page in a real browser: real films with sound, real keys, real clicks.

Needs Debian's Chromium (``apt install chromium``, or ``STEELYARD_CHROMIUM``) and Playwright.
"""

import itertools
import json
import os
import re
import time
from pathlib import Path

import pytest
from label_samples import Server, make_dataset, serving

CHROMIUM = os.environ.get("STEELYARD_CHROMIUM", "/usr/bin/chromium")
FRAME_S = 0.05

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is absent: apt install chromium"
)


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        flags = ["--autoplay-policy=no-user-gesture-required", "--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


class Page:
    """A window of one annotator; whatever goes wrong in it is an error at the end."""

    def __init__(self, chromium, url: str, annotator: str, **options):
        self.context = chromium.new_context(viewport={"width": 1280, "height": 800}, **options)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(url)
        if annotator:
            self.page.wait_for_selector("#name-dialog[open]")
            self.page.keyboard.type(annotator)
            self.page.keyboard.press("Enter")

    def _said(self, message) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def _asked(self, request) -> None:
        if not request.url.startswith("http://127.0.0.1:"):
            self.wrong.append(request.url)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def js(self, code: str):
        return self.page.evaluate(code)

    def until(self, code: str, seconds: float = 15) -> None:
        # Asked from outside: the page's own policy forbids the eval of `wait_for_function`.
        end = time.monotonic() + seconds
        while not self.page.evaluate(code):
            assert time.monotonic() < end, f"never: {code}; {self.page.inner_text('body')}"
            time.sleep(0.01)

    def task(self) -> list[str]:
        return self.js("[...document.querySelectorAll('video')].map(v => v.src)")

    def times(self) -> list[float]:
        return self.js("[...document.querySelectorAll('video')].map(v => v.currentTime)")

    def ready(self) -> None:
        """Until an answer would count."""
        self.until("document.querySelector('video') && !document.querySelector('#answers.waiting')")

    def answer(self, key: str) -> None:
        self.ready()
        before = self.done
        self.press(key)
        self.until(f"Number(document.querySelector('#counts b').textContent) === {before + 1}")

    @property
    def done(self) -> int:
        return int(self.page.inner_text("#counts b"))

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def forgive_refusals(self) -> None:
        """The browser reports each request to a dead server; nothing else may go wrong."""
        dead = re.compile("net::ERR_(CONNECTION_(REFUSED|RESET|CLOSED)|EMPTY_RESPONSE)")
        self.wrong = [text for text in self.wrong if not dead.search(text)]

    def close(self) -> None:
        self.context.close()
        assert self.wrong == []


@pytest.fixture
def folder(tmp_path):
    return make_dataset(tmp_path / "2026-11-21-10-00-00", segments=16, seconds=1.0)


@pytest.fixture(scope="module")
def long_clips(tmp_path_factory):
    """A server of clips of four seconds with sound, which several annotators use."""
    folder = tmp_path_factory.mktemp("data") / "2026-11-21-10-00-00"
    with serving(make_dataset(folder, segments=4, seconds=4.0), "--mode", "pair") as server:
        yield server


def test_twenty_pairs_by_keyboard_only_and_undo_across_a_restart(chromium, folder):
    keys = ["ArrowLeft", "ArrowRight", "Shift+ArrowLeft", "Shift+ArrowRight", "ArrowDown", "t", "b"]
    options = ("--mode", "pair", "--sound", "off", "--repeat", "0")
    with serving(folder, *options) as server:
        window = Page(chromium, server.url, "ana")
        window.press("]", "]")  # twice as fast
        for number in range(20):
            window.answer(keys[number % len(keys)])
        assert window.done == 20
        third_last = window.task()
        window.press("u")
        window.until("document.querySelector('#counts b').textContent === '19'")
        window.press("Control+z")
        window.until("document.querySelector('#counts b').textContent === '18'")
        port = server.base.rpartition(":")[2]
        server.kill()
    log = Page.task(window)
    with serving(folder, *options, "--port", port):
        window.page.reload()  # the name is remembered, and the same pair is open
        window.until("document.querySelectorAll('video').length === 2")
        assert window.task() == log
        assert window.done == 18
        window.press("u")
        window.until("document.querySelector('#counts b').textContent === '17'")
        for key in ("ArrowLeft", "b", "Shift+ArrowRight"):
            window.answer(key)
        assert window.done == 20
        assert window.task() == third_last
        history = server_history(window)
        assert [(h["answer"], h["strength"]) for h in history[:3]] == [
            ("right", 2),
            ("both_bad", 0),
            ("left", 1),
        ]
        answers = [(h["answer"], h["strength"]) for h in reversed(history[3:])]
        told = {
            "ArrowLeft": ("left", 1),
            "ArrowRight": ("right", 1),
            "Shift+ArrowLeft": ("left", 2),
            "Shift+ArrowRight": ("right", 2),
            "ArrowDown": ("tie", 0),
            "t": ("tie", 0),
            "b": ("both_bad", 0),
        }
        assert answers == [told[keys[n % len(keys)]] for n in range(17)]
        window.close()


def server_history(window: Page) -> list[dict]:
    return window.js("fetch('/api/history?annotator=ana&count=50').then(r => r.json())")


def test_an_answer_counts_only_after_half_of_each_clip(chromium, long_clips):
    window = Page(chromium, long_clips.url, "answer")
    window.until("document.querySelector('video')?.currentTime > 0.4")
    window.press("ArrowLeft")
    assert "Watch 50 % of the left clip first" in window.text("#hint")
    # A jump is not watching.
    window.js("document.querySelectorAll('video').forEach(v => v.currentTime = 3.2)")
    window.until("document.querySelector('video').currentTime > 3.5")
    window.press("ArrowRight")
    assert "first" in window.text("#hint")
    assert window.done == 0
    window.answer("ArrowLeft")
    assert window.js("fetch('/api/progress?annotator=answer').then(r => r.json())")["done"] == 1
    window.close()


def worst_gap(window: Page, samples: int) -> float:
    """Largest difference of the two clips' times over some drawn frames, in seconds of film."""
    return window.page.evaluate(
        """(samples) => new Promise((resolve) => {
          const [left, right] = document.querySelectorAll("video");
          let worst = 0;
          const drawn = () => {
            if (!left.ended && !right.ended && !left.seeking && !right.seeking) {
              worst = Math.max(worst, Math.abs(left.currentTime - right.currentTime));
            }
            if (--samples) requestAnimationFrame(drawn); else resolve(worst);
          };
          requestAnimationFrame(drawn);
        })""",
        samples,
    )


def settled_gap(window: Page) -> float:
    """The gap once the clock had time to correct it; neighbours on this machine may steal it."""
    gaps = []
    for _ in range(4):
        gaps.append(worst_gap(window, 25))
        if gaps[-1] < FRAME_S:
            break
    return gaps[-1]


def test_both_clips_keep_one_clock(chromium, long_clips):
    window = Page(chromium, long_clips.url, "clips")
    window.until("document.querySelector('video')?.currentTime > 0.2")
    assert settled_gap(window) < FRAME_S
    window.press("[", "[", "[")
    assert window.text("#speed") == "0.25×"
    assert window.js("[...document.querySelectorAll('video')].every(v => v.playbackRate < 0.3)")
    assert settled_gap(window) < FRAME_S
    window.press("]", "]", "]", "]", "]", "]")
    assert window.text("#speed") == "2×"
    assert settled_gap(window) < FRAME_S
    window.press("[", "[", "r")
    assert window.text("#speed") == "1×"
    # One clip is pushed ahead, and then one is held back.
    window.js("document.getElementById('right').currentTime += 0.8")
    time.sleep(0.3)
    assert settled_gap(window) < FRAME_S
    window.js("document.getElementById('right').pause()")
    time.sleep(0.3)
    assert settled_gap(window) < FRAME_S
    assert window.js("[...document.querySelectorAll('video')].every(v => !v.paused)")
    window.close()


def test_frames_step_together_and_exactly_one_at_a_time(chromium, long_clips):
    window = Page(chromium, long_clips.url, "step")
    window.until("document.querySelector('video')?.currentTime > 0.5")
    window.press(" ")
    window.until("[...document.querySelectorAll('video')].every(v => v.paused)")
    still = "[...document.querySelectorAll('video')].every(v => !v.seeking)"
    places = []
    for key in [".", ".", ".", ",", ","]:
        window.press(key)
        window.until(still)
        left, right = window.times()
        assert left == pytest.approx(right, abs=1e-3)
        places.append(left)
    steps = [b - a for a, b in itertools.pairwise(places)]
    assert steps == pytest.approx([FRAME_S, FRAME_S, -FRAME_S, -FRAME_S], abs=1e-3)
    window.press(" ")
    window.until(f"document.querySelector('video').currentTime > {places[-1] + 0.1}")
    window.close()


def test_the_left_waits_until_the_right_can_play(chromium, long_clips):
    right = long_clips.tasks("waits")["tasks"][0]["clips"][1]["media"]
    window = Page(chromium, "about:blank", "")
    held = []
    window.wrong.clear()
    window.page.route(f"**/media/{right}", lambda route: held.append(route))
    window.page.goto(f"{long_clips.url}?annotator=waits")
    window.until("document.querySelector('video')?.readyState >= 3")
    time.sleep(0.5)
    assert window.times() == [0, 0]
    for route in held:
        route.continue_()
    window.page.unroute(f"**/media/{right}")
    window.until("document.querySelector('video').currentTime > 0.3")
    assert settled_gap(window) < FRAME_S
    window.close()


PEAKS = """async () => {
  const videos = [...document.querySelectorAll("video")];
  window.meters ??= new Map();
  window.audio ??= new AudioContext();
  await window.audio.resume();
  const meters = videos.map((video) => {
    if (!window.meters.has(video)) {
      const meter = window.audio.createAnalyser();
      window.audio.createMediaElementSource(video).connect(meter).connect(window.audio.destination);
      window.meters.set(video, meter);
    }
    return window.meters.get(video);
  });
  const peaks = videos.map(() => 0);
  for (let n = 0; n < 12; n += 1) {
    await new Promise((resolve) => setTimeout(resolve, 25));
    meters.forEach((meter, side) => {
      const wave = new Float32Array(meter.fftSize);
      meter.getFloatTimeDomainData(wave);
      peaks[side] = Math.max(peaks[side], ...wave.map(Math.abs));
    });
  }
  return peaks;
}"""


def test_sound_comes_from_exactly_one_side(chromium, long_clips):
    window = Page(chromium, long_clips.url, "comes")
    window.until("document.querySelector('video')?.currentTime > 0.2")
    window.js(PEAKS)  # the meters begin to listen
    left, right = window.js(PEAKS)
    assert left > 0.2
    assert right < 1e-4
    window.until("document.querySelector('figure.right.sounding')")  # the second loop
    time.sleep(0.2)
    left, right = window.js(PEAKS)
    assert left < 1e-4
    assert right > 0.2
    for shown, sides in {"♪ left": (True, False), "♪ right": (False, True),
                         "♪ none": (False, False)}.items():  # fmt: skip
        window.press("m", "r")
        assert window.text("#sound") == shown
        time.sleep(0.25)
        assert tuple(peak > 0.2 for peak in window.js(PEAKS)) == sides
    window.close()


def test_with_sound_each_side_must_be_heard(chromium, folder):
    with serving(folder, "--mode", "pair") as server:
        window = Page(chromium, server.url, "ana")
        seen = "parseFloat(document.querySelector('figure.right .seen i').style.width)"
        window.until(f"document.querySelector('figure.left.enough') && {seen} > 52")
        window.press("ArrowLeft")
        assert "Listen to 50 % of the right clip" in window.text("#hint")
        window.answer("ArrowLeft")  # in the second loop the right one sounds
        window.close()


def test_a_rating_is_one_key_and_a_long_scale_takes_digits(chromium, folder):
    with serving(folder, "--mode", "rate", "--sound", "off") as server:
        window = Page(chromium, server.url, "ana")
        for key in ("5", "1", "3"):
            window.answer(key)
        window.press("9")
        assert window.done == 3
        window.page.click("text=best")  # a mouse works, too
        window.ready()
        window.page.click("text=best")
        window.until("document.querySelector('#counts b').textContent >= '4'")
        assert [h["answer"] for h in server_history(window)][-3:] == ["3", "1", "5"]
        window.close()
    with serving(folder, "--mode", "rate", "--scale", "100", "--sound", "off") as server:
        window = Page(chromium, server.url, "ana")
        window.ready()
        window.press("1", "0", "1", "Enter")
        assert "from 1 to 100" in window.text("#hint")
        window.press("8", "8", "Backspace", "7")
        assert window.text("#entry") == "87"
        window.answer("Enter")
        assert server_history(window)[0]["answer"] == "87"
        window.close()


def test_a_skip_needs_no_watching_and_comes_back_at_the_end(chromium, tmp_path):
    folder = make_dataset(tmp_path / "d", segments=3, seconds=1.0)
    with serving(folder, "--mode", "rate", "--sound", "off") as server:
        window = Page(chromium, server.url, "ana")
        window.until("document.querySelectorAll('video').length === 1")
        (first,) = window.task()
        window.press("s")
        window.until("document.querySelector('#counts').textContent.includes('1 skipped')")
        for _ in range(2):
            window.answer("4")
        window.until("document.querySelectorAll('video').length === 1")
        assert window.task() == [first]
        window.answer("2")
        window.until("document.querySelector('.empty h2')")
        assert "All judged" in window.text("#stage")
        window.page.click("text=Write the exports")
        window.until("document.querySelector('#hint').textContent.includes('ratings.jsonl')")
        assert len((folder / "export/ratings.jsonl").read_text().splitlines()) == 3
        window.press("u")
        window.until("document.querySelectorAll('video').length === 1")
        window.close()


def test_an_answer_given_while_the_server_is_dead_arrives_once(chromium, folder):
    options = ("--mode", "pair", "--sound", "off")
    with serving(folder, *options) as server:
        window = Page(chromium, server.url, "ana")
        window.answer("ArrowLeft")
        window.ready()
        port = server.base.rpartition(":")[2]
        server.kill()
    window.press("ArrowRight")
    window.until("document.querySelector('#hint').textContent.includes('does not answer')")
    with serving(folder, *options, "--port", port):
        window.until("document.querySelector('#counts b').textContent === '2'")
        assert [h["answer"] for h in server_history(window)] == ["right", "left"]
        window.forgive_refusals()
        window.close()


def test_two_annotators_at_once_see_their_own_tasks_and_the_agreement(chromium, tmp_path):
    folder = make_dataset(tmp_path / "d", segments=22, seconds=0.5)
    options = ("--mode", "rate", "--sound", "off", "--repeat", "0", "--min-watched", "0.2")
    with serving(folder, *options) as server:
        ana, ben = (Page(chromium, server.url, name) for name in ("ana", "ben"))
        for window in (ana, ben):
            window.press("]", "]")
        for number in range(22):
            ana.answer("5" if number % 2 else "4")
            ben.answer("4" if number % 3 else "5")
        assert (ana.done, ben.done) == (22, 22)
        ana.press("a")
        ana.until("document.querySelector('#agreement').textContent.includes('Krippendorff')")
        shown = ana.text("#agreement")
        assert "Between ana (22), ben (22)" in shown
        assert "n = 22" in shown
        assert "too few" in shown  # no question was repeated
        ana.press("Escape")
        for window in (ana, ben):
            window.close()


def test_the_page_shows_its_keys_and_both_themes_and_no_secret(chromium, folder):
    with serving(folder, "--mode", "pair", "--annotator", "ana") as server:
        window = Page(chromium, server.url, "", color_scheme="dark")
        window.until("document.querySelectorAll('video').length === 2")
        window.press("?")
        shown = window.text("#keys-dialog")
        for word in ("Shift", "both bad", "Ctrl+Z", "Space", "slower, faster"):
            assert word in shown
        window.press("Escape")
        dark = window.js("getComputedStyle(document.body).backgroundColor")
        window.press("d")
        light = window.js("getComputedStyle(document.body).backgroundColor")
        assert dark != light
        page = window.page.content()
        for word in ("checkpoint", "noise", "reward", "episode"):
            assert word not in page
        window.close()


@pytest.mark.slow
def test_a_thousand_segments_by_keyboard_through_kills_and_undos(chromium, tmp_path):
    folder = make_dataset(tmp_path / "2026-11-21-10-00-00", segments=1000, windows=4, seconds=0.5)
    options = ("--mode", "rate", "--sound", "off", "--repeat", "0")
    server = Server(folder, *options)
    port = server.base.rpartition(":")[2]
    window = Page(chromium, server.url, "ana")
    window.press("]", "]")  # twice as fast
    start = time.monotonic()
    pressed = 0
    while pressed < 1000:
        window.answer(str(1 + pressed % 5))
        pressed += 1
        if pressed % 100 == 0:
            for count in range(1, 4):
                window.press("u")
                told = str(pressed - count)
                window.until(f"document.querySelector('#counts b').textContent === '{told}'")
            pressed -= 3
            for _ in range(3):
                window.answer(str(1 + pressed % 5))
                pressed += 1
        if pressed in (333, 666, 999):
            server.kill()
            server = Server(folder, *options, "--port", port)
            window.page.reload()
            window.until(f"document.querySelector('#counts b')?.textContent === '{pressed}'")
            window.press("]", "]")
    print(f"1000 segments, 30 undos, 3 kills: {time.monotonic() - start:.0f} s")
    window.until("document.querySelector('.empty h2')")
    assert server.http.post("/api/export", json={}).is_success
    lines = (folder / "export/ratings.jsonl").read_text().splitlines()
    assert len(lines) == len({json.loads(line)["segment"] for line in lines}) == 1000
    assert [json.loads(line)["rating"] for line in lines] == [1 + n % 5 for n in range(1000)]
    log = (folder / "export/judgements.jsonl").read_text().splitlines()
    undone = [json.loads(line)["undone"] for line in log]
    assert sum(moment is not None for moment in undone) == 30
    server.close()
    window.forgive_refusals()
    window.close()
