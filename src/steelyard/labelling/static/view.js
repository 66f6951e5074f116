// What stands on the page: elements, dialogs and their texts. All text goes into text nodes.

export const $ = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const kbd = (text) => element("kbd", {}, text);

export const PAIR_BUTTONS = [
  { answer: "left", strength: 2, keys: ["⇧", "←"], text: "Left, much better", side: "left" },
  { answer: "left", strength: 1, keys: ["←"], text: "Left is better", side: "left" },
  { answer: "tie", strength: 0, keys: ["↓"], text: "Tie", side: "" },
  { answer: "both_bad", strength: 0, keys: ["B"], text: "Tie, both bad", side: "" },
  { answer: "right", strength: 1, keys: ["→"], text: "Right is better", side: "right" },
  { answer: "right", strength: 2, keys: ["⇧", "→"], text: "Right, much better", side: "right" },
];

const WORDS = { 1: "worst", 3: "fair", 5: "best" };

export function answerButtons(session, choose) {
  if (session.mode === "pair") {
    return PAIR_BUTTONS.map(({ answer, strength, keys, text, side }) => {
      const label = element("span", {}, ...keys.map(kbd));
      const button = element("button", { type: "button", class: side }, label, text);
      button.dataset.answer = `${answer}${strength}`;
      button.addEventListener("click", () => choose(answer, strength));
      return button;
    });
  }
  if (session.scale > 9) {
    const entry = element("span", { class: "entry", id: "entry", "aria-live": "polite" }, "–");
    return [entry];
  }
  return Array.from({ length: session.scale }, (_, place) => {
    const value = String(place + 1);
    const word = session.scale === 5 ? (WORDS[value] ?? "\u00a0") : "\u00a0";
    const button = element("button", { type: "button" }, kbd(value), word);
    button.dataset.answer = `${value}0`;
    button.setAttribute("aria-label", `Rating ${value} of ${session.scale}`);
    button.addEventListener("click", () => choose(value, 0));
    return button;
  });
}

export function figures(videos, films) {
  const names = videos.length === 2 ? ["Left", "Right"] : ["Clip"];
  return videos.map((video, side) => {
    const single = videos.length === 1;
    const kind = single ? "single" : names[side].toLowerCase();
    video.id = single ? "clip" : kind;
    video.setAttribute("aria-label", `${names[side]} clip`);
    const caption = element("figcaption", {}, names[side]);
    if (films[side].sound) {
      caption.append(element("span", { class: "ear", "aria-hidden": "true" }, "♪"));
    }
    const seen = element("div", { class: "seen", "aria-hidden": "true" }, element("i"));
    return element("figure", { class: kind }, video, caption, seen);
  });
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function showProgress(progress) {
  const { done, left, total, skipped, per_minute: speed, eta_s: eta } = progress;
  $("bar").style.width = `${total ? (100 * done) / total : 0}%`;
  $("progress").setAttribute("aria-valuemax", total);
  $("progress").setAttribute("aria-valuenow", done);
  const parts = [` of ${total}`];
  if (skipped) parts.push(`${skipped} skipped`);
  if (speed) parts.push(`${speed}/min`);
  if (eta !== null && left) parts.push(`${duration(eta)} left`);
  $("counts").replaceChildren(element("b", {}, String(done)), parts.join(" · "));
  $("progress").title = `${done} judged, ${left} left, ${skipped} skipped`;
}

export function hint(text, warning = false) {
  $("hint").textContent = text;
  $("hint").classList.toggle("warning", warning);
}

const COMMON_KEYS = [
  ["Space", "play or pause"],
  ["R", "from the start"],
  [", .", "one frame back, one on"],
  ["[ ]", "slower, faster: 0.25 to 2"],
  ["M", "sound: in turn, left, right, none"],
  ["S", "skip; it comes back once, at the end"],
  ["U or Ctrl+Z", "undo, as far back as you like, also after a restart"],
  ["A", "agreement"],
  ["N", "another annotator"],
  ["D", "light or dark"],
  ["?", "this list"],
];

export function keyTable(session) {
  const pair = [
    ["← →", "that side is better"],
    ["Shift + ← →", "that side is much better"],
    ["↓ or T", "tie"],
    ["B", "tie, both bad"],
  ];
  const rate =
    session.scale > 9
      ? [["0 – 9, Enter", `a rating from 1 to ${session.scale}; Backspace takes a digit back`]]
      : [[`1 – ${session.scale}`, "rating, 1 is worst"]];
  const table = element("table");
  const section = (title, rows) => {
    table.append(element("tr", {}, element("th", { colspan: "2", scope: "colgroup" }, title)));
    for (const [keys, text] of rows) {
      const shown = keys.split(" ").map((key) => (/^(or|–|\+)$/.test(key) ? ` ${key} ` : kbd(key)));
      table.append(element("tr", {}, element("td", {}, ...shown), element("td", {}, text)));
    }
  };
  section("Judge", session.mode === "pair" ? pair : rate);
  section("Watch and move", COMMON_KEYS);
  return table;
}

export function agreementTable(report) {
  const table = element("table");
  const row = (figure) => {
    const few = figure.value === null;
    const interval = few || figure.low === null ? "" : `${figure.low.toFixed(2)} – ${figure.high.toFixed(2)}`;
    return element(
      "tr",
      {},
      element("td", {}, figure.name),
      element("td", { class: "number" }, few ? "too few" : figure.value.toFixed(2)),
      element("td", { class: "interval" }, few ? `${figure.n} of ${report.too_few}` : `${interval}, n = ${figure.n}`),
    );
  };
  const section = (title, figures) => {
    table.append(element("tr", {}, element("th", { colspan: "3", scope: "colgroup" }, title)));
    table.append(...figures.map(row));
  };
  const people = Object.entries(report.answers).map(([name, count]) => `${name} (${count})`);
  if (report.between.length) section(`Between ${people.join(", ")}`, report.between);
  for (const [name, figures] of Object.entries(report.alone)) section(`${name} alone`, figures);
  const said =
    people.length < 2
      ? "Agreement is between people: it appears when a second annotator has judged, too."
      : "1 is perfect, 0 is what chance gives; 95 % intervals.";
  return [element("p", {}, people.length ? said : "Nothing was judged yet."), table];
}
