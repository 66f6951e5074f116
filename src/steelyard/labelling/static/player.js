// One clock for one or two films. The left film is the master; the right one follows it.
//
// Both start when both can play, and either one stalling pauses both. At each drawn frame of the
// right film its time is compared with the master's: above half a frame its rate is nudged by 5 %,
// above three frames it jumps. The shorter film holds its last frame; both loop together. At most
// one side sounds.

export const SPEEDS = [0.25, 0.5, 0.75, 1, 1.5, 2];
const BINS = 200;

export function makeVideo(film) {
  const video = document.createElement("video");
  video.preload = "auto";
  video.muted = true;
  video.playsInline = true;
  video.disablePictureInPicture = true;
  video.tabIndex = -1;
  video.src = `/media/${film.media}`;
  return video;
}

/** Whether a film is here from its first frame to its last. */
export function isLoaded(video) {
  const { buffered, duration } = video;
  return buffered.length === 1 && buffered.start(0) < 0.1 && buffered.end(0) > duration - 0.1;
}

/** Let go of a film and its connection: a browser opens six to one server. */
export function release(video) {
  video.pause();
  video.removeAttribute("src");
  video.load();
}

/** What of one film was seen, and heard, as marks along its length. */
class Coverage {
  constructor() {
    this.seen = new Uint8Array(BINS);
    this.heard = new Uint8Array(BINS);
    this.last = null;
  }

  advance(time, duration, sounding) {
    // A jump is not watching: only short steps forward count.
    if (this.last !== null && time > this.last && time - this.last < 1) {
      const from = Math.floor((this.last / duration) * BINS);
      const to = Math.min(BINS, Math.ceil((time / duration) * BINS));
      this.seen.fill(1, from, to);
      if (sounding) this.heard.fill(1, from, to);
    }
    this.last = time;
  }

  share(marks) {
    return marks.reduce((sum, mark) => sum + mark, 0) / BINS;
  }
}

export class Player {
  constructor({ sound, onframe, onblocked, onfail }) {
    this.soundMode = sound; // "alternate", "left", "right" or "off"
    this.speed = 1;
    this.onframe = onframe;
    this.onblocked = onblocked;
    this.onfail = onfail;
    this.videos = [];
    this.films = [];
    this.coverage = [];
    this.loops = 0;
    this.wanted = false;
    this.turn = 0; // counts what is shown, so that events of earlier films are ignored
  }

  show(films, videos) {
    this.clear();
    const turn = this.turn;
    this.films = films;
    this.videos = videos;
    this.coverage = videos.map(() => new Coverage());
    this.loops = 0;
    this.wanted = true;
    videos.forEach((video, side) => {
      video.addEventListener("error", () => turn === this.turn && this.onfail(side));
      if (video.error) this.onfail(side);
      for (const name of ["canplay", "canplaythrough", "loadeddata", "waiting", "seeked", "pause"]) {
        video.addEventListener(name, () => turn === this.turn && this.settle());
      }
      video.addEventListener("ended", () => turn === this.turn && this.ended());
      video.addEventListener("seeking", () => (this.coverage[side].last = null));
      video.currentTime = 0;
      this.watch(video, side, turn);
    });
    this.applySound();
    this.applySpeed();
    this.settle();
  }

  clear() {
    this.turn += 1;
    this.videos.forEach(release);
    this.videos = [];
  }

  get frame() {
    return Math.min(...this.films.map((film) => film.frame_s));
  }

  get duration() {
    return Math.max(0, ...this.videos.map((video) => video.duration || 0));
  }

  get time() {
    return Math.max(0, ...this.videos.map((video) => video.currentTime));
  }

  get playing() {
    return this.wanted && this.videos.some((video) => !video.paused && !video.ended);
  }

  /** Play where all can play, pause where one cannot. */
  settle() {
    const rest = this.videos.filter((video) => !video.ended);
    const ready = this.videos.every((video) => video.readyState >= 3 || video.ended);
    const seeking = this.videos.some((video) => video.seeking);
    if (!this.wanted || !ready || seeking) {
      for (const video of this.videos) if (!video.paused) video.pause();
      return;
    }
    for (const video of rest) {
      if (video.paused) {
        video.play().catch((error) => {
          if (error.name !== "NotAllowedError") return;
          this.wanted = false;
          this.onblocked();
        });
      }
    }
  }

  ended() {
    if (!this.videos.every((video) => video.ended)) return;
    this.loops += 1;
    this.applySound();
    this.seek(0);
  }

  seek(time) {
    for (const video of this.videos) {
      video.pause();
      video.currentTime = Math.min(time, Math.max(0, (video.duration || 0) - 1e-3));
    }
    // `settle` goes on once the last of them has arrived.
  }

  watch(video, side, turn) {
    const drawn = (_, frame) => {
      if (turn !== this.turn) return;
      if (video.duration) {
        this.coverage[side].advance(frame.mediaTime, video.duration, !video.muted);
      }
      if (side === 1) this.follow();
      this.onframe();
      video.requestVideoFrameCallback(drawn);
    };
    video.requestVideoFrameCallback(drawn);
  }

  /** Keep the right film at the master's time. */
  follow() {
    const [left, right] = this.videos;
    const shared = Math.min(left.duration, right.duration) - this.frame;
    if (!this.playing || left.ended || right.ended || left.currentTime >= shared) {
      right.playbackRate = this.speed;
      return;
    }
    const ahead = right.currentTime - left.currentTime;
    if (Math.abs(ahead) > 3 * this.frame) {
      right.currentTime = left.currentTime;
    } else if (Math.abs(ahead) > this.frame / 2) {
      right.playbackRate = this.speed * (ahead > 0 ? 0.95 : 1.05);
    } else {
      right.playbackRate = this.speed;
    }
  }

  toggle() {
    this.wanted = !this.wanted;
    this.settle();
  }

  restart() {
    this.wanted = true;
    this.seek(0);
    this.settle();
  }

  step(frames) {
    this.wanted = false;
    this.settle();
    const [master] = this.videos;
    const end = this.duration - this.frame / 2;
    // The middle of a frame's span, so that rounding cannot show the neighbour.
    const number = Math.floor(this.time / this.frame + 1e-6) + frames;
    this.seek(Math.min(Math.max((number + 0.5) * this.frame, 0), Math.max(end, 0)));
    return master;
  }

  changeSpeed(by) {
    const place = SPEEDS.indexOf(this.speed) + by;
    this.speed = SPEEDS[Math.min(Math.max(place, 0), SPEEDS.length - 1)];
    this.applySpeed();
  }

  applySpeed() {
    for (const video of this.videos) {
      video.defaultPlaybackRate = this.speed;
      video.playbackRate = this.speed;
    }
  }

  changeSound() {
    const modes = this.videos.length === 2 ? ["alternate", "left", "right", "off"] : ["left", "off"];
    const now = modes.indexOf(this.soundMode);
    this.soundMode = modes[(Math.max(now, 0) + 1) % modes.length];
    this.applySound();
  }

  /** The side that sounds now: 0, 1, or -1 for none. */
  get sounding() {
    if (this.soundMode === "off" || !this.films.some((film) => film.sound)) return -1;
    if (this.films.length === 1) return 0;
    if (this.soundMode === "alternate") return this.loops % 2;
    return this.soundMode === "left" ? 0 : 1;
  }

  applySound() {
    this.videos.forEach((video, side) => (video.muted = side !== this.sounding));
  }

  /** Per film: share seen, share heard, seconds seen. */
  watched() {
    return this.videos.map((video, side) => {
      const coverage = this.coverage[side];
      const seen = coverage.share(coverage.seen);
      return { seen, heard: coverage.share(coverage.heard), seconds: seen * (video.duration || 0) };
    });
  }
}
