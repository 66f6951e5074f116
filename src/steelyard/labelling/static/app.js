// The page: asks, plays, takes the answer, goes on. All state that matters is on the server.

import { ServerError, get, post, postSurely, uuid } from "./api.js";
import { Player, isLoaded, makeVideo, release } from "./player.js";
import { $, agreementTable, answerButtons, element, figures, hint, keyTable, showProgress } from "./view.js";

let session;
let annotator = null;
let tasks = [];
let progress = null;
let busy = true;
let entry = "";
const ready = new Map(); // films of the next tasks, loading: "task:side" -> video

const watch = { since: null, spent: 0 }; // response time, without the time the page was hidden

const player = new Player({
  sound: "off",
  onframe: drawFrame,
  onblocked: () => hint("Press Space to start: the browser plays sound only after a key."),
  onfail: (side) => {
    const figure = $("stage").children[side];
    const media = tasks[0]?.clips[side]?.media;
    figure?.append(
      element("p", { class: "failed" }, `This film cannot be played (segment ${media}). `,
        `S skips it; \`steelyard data film --only ${media}\` makes it again.`),
    );
  },
});

// Showing

function render(reply) {
  progress = reply.progress;
  showProgress(progress);
  tasks = reply.tasks;
  entry = "";
  $("answers").replaceChildren(...(tasks.length ? answerButtons(session, answer) : []));
  for (const id of ["transport", "beam", "skip"]) $(id).hidden = !tasks.length;
  $("beam").hidden ||= session.mode !== "pair";
  if (!tasks.length) return finished();
  const task = tasks[0];
  const videos = task.clips.map((film, side) => take(task, film, side));
  $("question").textContent =
    session.mode === "pair" ? "Which one is better?" : "How good is this?";
  player.show(task.clips, videos);
  $("stage").replaceChildren(...figures(videos, task.clips));
  $("transport").querySelector("#half").style.left = `${100 * session.min_watched}%`;
  watch.spent = 0;
  watch.since = document.hidden ? null : performance.now();
  busy = false;
  drawFrame();
}

function finished() {
  player.clear();
  $("question").textContent = "";
  const save = element("button", { type: "button", class: "primary" }, "Write the exports");
  save.addEventListener("click", async () => {
    const { files } = await post("/api/export", {});
    hint(`Written: ${files.join(", ")}`);
  });
  $("stage").replaceChildren(
    element("div", { class: "empty" }, element("h2", {}, "All judged. Thank you!"),
      element("p", {}, `${progress.done} judgements are saved. U takes the last one back; `,
        "A shows the agreement."), save),
  );
  hint("");
  busy = false;
}

function take(task, film, side) {
  const key = `${task.id}:${side}`;
  const video = ready.get(key) ?? makeVideo(film);
  ready.delete(key);
  return video;
}

/** Load the films of the next two tasks, each once those before it are there.
 *
 * A browser opens six connections to one server; films that wait in all of them would hold up the
 * answer.
 */
function prefetch() {
  const wanted = new Set();
  let before = player.videos;
  for (const task of tasks.slice(1, 3)) {
    const keys = task.clips.map((_, side) => `${task.id}:${side}`);
    if (before.every(isLoaded)) {
      task.clips.forEach((film, side) => {
        if (!ready.has(keys[side])) ready.set(keys[side], makeVideo(film));
      });
    }
    for (const key of keys) wanted.add(key);
    if (!keys.every((key) => ready.has(key))) break;
    before = keys.map((key) => ready.get(key));
  }
  for (const [key, video] of ready) {
    if (wanted.has(key)) continue;
    ready.delete(key);
    release(video);
  }
}

function drawFrame() {
  if (!player.videos.length) return;
  const { duration, time } = player;
  $("played").style.width = `${duration ? (100 * time) / duration : 0}%`;
  $("clock").textContent = `${time.toFixed(2)} / ${duration.toFixed(2)} s`;
  $("toggle").textContent = player.wanted ? "❚❚" : "▶";
  $("speed").textContent = `${player.speed}×`;
  const told = { alternate: "in turn", left: "left", right: "right", off: "none" };
  const sounds = player.films.some((film) => film.sound);
  const one = player.films.length === 1;
  const mode = one && player.soundMode !== "off" ? "on" : told[player.soundMode];
  $("sound").textContent = sounds ? `♪ ${mode}` : "♪ no sound";
  player.watched().forEach(({ seen }, side) => {
    const figure = $("stage").children[side];
    if (!figure) return;
    figure.querySelector(".seen i").style.width = `${Math.min(100, 100 * seen)}%`;
    figure.classList.toggle("enough", missing(side) === null);
    figure.classList.toggle("sounding", side === player.sounding);
  });
  const blocked = player.videos.some((_, side) => missing(side) !== null);
  if ($("answers").classList.contains("waiting") && !blocked) hint("");
  $("answers").classList.toggle("waiting", blocked);
  prefetch();
}

/** What is still to be watched of a side before an answer counts, none if nothing is. */
function missing(side) {
  const { seen, heard } = player.watched()[side];
  const name = player.films.length === 1 ? "the clip" : ["the left clip", "the right clip"][side];
  const share = `${Math.round(100 * session.min_watched)} %`;
  if (seen < session.min_watched) return `Watch ${share} of ${name} first.`;
  const sounds = session.sound !== "off" && player.films[side].sound;
  if (sounds && heard < session.min_watched) {
    return `Listen to ${share} of ${name} first (M chooses the side that sounds).`;
  }
  return null;
}

// Judging

async function answer(choice, strength) {
  if (busy || !tasks.length) return;
  if (choice !== "skip") {
    const first = player.videos.map((_, side) => missing(side)).find((text) => text !== null);
    if (first) return hint(first, true);
  }
  busy = true;
  pauseWatch();
  const seen = player.watched();
  const body = {
    client_uuid: uuid(),
    annotator,
    task: tasks[0].id,
    answer: choice,
    strength,
    response_ms: Math.round(watch.spent),
    watched_left_s: seen[0].seconds,
    watched_right_s: seen[1]?.seconds ?? 0,
  };
  acknowledge(choice, strength);
  localStorage.setItem(pendingKey(), JSON.stringify(body));
  await send(body);
}

async function send(body) {
  try {
    const reply = await postSurely("/api/judgements", body, () =>
      hint("The server does not answer. Your answer is kept and sent again.", true));
    localStorage.removeItem(pendingKey());
    hint("");
    render(reply);
  } catch (error) {
    // Only what the server read and refused is let go; a wrong token, say, is no verdict on it.
    if ([409, 422].includes(error.status)) localStorage.removeItem(pendingKey());
    await reload(error);
  }
}

async function reload(error) {
  if (!(error instanceof ServerError)) throw error;
  await load();
  hint(error.message, true);
}

async function undo() {
  if (busy) return;
  if (!progress?.last) return hint("Nothing to undo.");
  busy = true;
  try {
    const body = { annotator, judgement: progress.last };
    const reply = await postSurely("/api/undo", body, () =>
      hint("The server does not answer; trying again.", true));
    render(reply);
    hint("Taken back. Judge it again.");
  } catch (error) {
    await reload(error);
  }
}

function acknowledge(choice, strength) {
  for (const button of $("answers").children) {
    button.classList.toggle("chosen", button.dataset.answer === `${choice}${strength}`);
  }
  $("beam").className = ["left", "right"].includes(choice) ? choice : "";
  setTimeout(() => ($("beam").className = ""), 350);
}

const pendingKey = () => `pending:${session.dataset_sha256}:${annotator}`;

async function load() {
  busy = true;
  render(await get(`/api/task?annotator=${encodeURIComponent(annotator)}`));
}

async function begin(name) {
  annotator = name;
  sessionStorage.setItem("annotator", name);
  $("who").textContent = name;
  const pending = localStorage.getItem(pendingKey());
  if (pending) return send(JSON.parse(pending));
  return load();
}

// Time

function pauseWatch() {
  if (watch.since !== null) watch.spent += performance.now() - watch.since;
  watch.since = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) pauseWatch();
  else if (!busy) watch.since ??= performance.now();
});

// Dialogs

function askName() {
  const known = session.annotators.map((name) => {
    const button = element("button", { type: "button" }, name);
    button.addEventListener("click", () => {
      $("name").value = name;
      $("name-dialog").querySelector("form").requestSubmit();
    });
    return button;
  });
  $("known").replaceChildren(...known);
  $("name").value = annotator ?? "";
  $("name-dialog").showModal();
}

$("name-dialog").addEventListener("close", () => {
  const name = $("name").value;
  if (/^[A-Za-z0-9_-]{1,32}$/.test(name)) begin(name);
  else if (annotator === null) askName();
});

async function showAgreement() {
  $("agreement").replaceChildren(element("p", {}, "Computing …"));
  $("agreement-dialog").showModal();
  $("agreement").replaceChildren(...agreementTable(await get("/api/agreement")));
}

function showKeys() {
  $("keys").replaceChildren(keyTable(session));
  $("keys-dialog").showModal();
}

function changeTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

// Keys

function typed(key) {
  if (key === "Enter" && entry) {
    const value = Number(entry);
    if (value >= 1 && value <= session.scale) return answer(String(value), 0);
    hint(`A rating is from 1 to ${session.scale}.`, true);
    entry = "";
  } else if (key === "Backspace") entry = entry.slice(0, -1);
  else if (/^\d$/.test(key) && entry.length < 3) entry += key;
  $("entry").textContent = entry || "–";
}

function judgingKey(event) {
  const { key, shiftKey } = event;
  if (session.mode === "pair") {
    if (key === "ArrowLeft") return answer("left", shiftKey ? 2 : 1);
    if (key === "ArrowRight") return answer("right", shiftKey ? 2 : 1);
    if (key === "ArrowDown" || key.toLowerCase() === "t") return answer("tie", 0);
    if (key.toLowerCase() === "b") return answer("both_bad", 0);
    return undefined;
  }
  if (session.scale > 9 && /^(\d|Enter|Backspace)$/.test(key)) return typed(key);
  if (/^[1-9]$/.test(key) && Number(key) <= session.scale) return answer(key, 0);
  return undefined;
}

const KEYS = {
  " ": () => player.toggle(),
  r: () => player.restart(),
  ",": () => player.step(-1),
  ".": () => player.step(1),
  "[": () => player.changeSpeed(-1),
  "]": () => player.changeSpeed(1),
  m: () => player.changeSound(),
  s: () => answer("skip", 0),
  u: undo,
  a: showAgreement,
  n: askName,
  d: changeTheme,
  "?": showKeys,
};
const ONCE = new Set([" ", "r", "m", "s", "u", "a", "n", "d", "?"]); // not when a key is held

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || !session || annotator === null) return;
  if (event.ctrlKey || event.metaKey || event.altKey) {
    if (event.ctrlKey && event.key.toLowerCase() === "z") {
      event.preventDefault();
      undo();
    }
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const command = KEYS[key];
  const typing = session.mode === "rate" && session.scale > 9 && (entry || /^\d$/.test(key));
  const judging = typing
    ? /^(\d|Enter|Backspace)$/.test(key)
    : /^(Arrow(Left|Right|Down)|[tb1-9])$/.test(key);
  if (!command && !judging) return;
  // Keys mean the same wherever the focus is; Enter alone presses a button.
  event.preventDefault();
  if (event.repeat && (judging || ONCE.has(key))) return;
  if (command) command();
  else judgingKey(event);
  drawFrame();
});

for (const [id, act] of Object.entries({
  toggle: () => player.toggle(),
  restart: () => player.restart(),
  speed: () => player.changeSpeed(player.speed >= 2 ? -5 : 1),
  sound: () => player.changeSound(),
  skip: () => answer("skip", 0),
  undo,
  "open-agreement": showAgreement,
  "open-keys": showKeys,
  who: askName,
  theme: changeTheme,
})) {
  $(id).addEventListener("click", () => {
    act();
    drawFrame();
  });
}

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
session = await get("/api/session");
player.soundMode = session.sound;
$("dataset").textContent = session.dataset;
document.title = `${session.dataset} · label`;
const told = new URLSearchParams(location.search).get("annotator");
const name = told ?? sessionStorage.getItem("annotator") ?? session.annotator;
if (name && /^[A-Za-z0-9_-]{1,32}$/.test(name)) begin(name);
else askName();
