"use strict";

// The page of a listener. It draws what the server tells (feed.py): first the whole state, then every change. All text
// from elsewhere, such as names of classes, is set as textContent.

const SHOWN = 8; // classes of the timeline, without those that were asked for
const NOW = 5; // classes in "Now"
const SHADES = 20; // as in the pages of `panns-litert page`
const SILENT_MS = 15000; // the server says something every 5 s, so the connection is broken
const LOST_MS = 30000; // how long the state says that sound was lost

const byId = (id) => document.getElementById(id);
const make = (name, kind = "", text = "") => {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  if (text) element.textContent = text;
  return element;
};
const svg = (name, values) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
  return element;
};

let state = null; // as PageSink.state makes it; events by id
let source = ""; // the one whose windows are drawn
let link = null; // the EventSource
let place = ""; // of the last message
let connected = false;
let toldAt = 0; // when the last message came
let windowAt = 0; // when the last window came
let lost = null; // the last loss: {until, text}
const asked = new Set(); // classes that are shown whatever they score
const rows = new Map(); // of the timeline, by class: {element, strip, slider}
const entries = new Map(); // of the list of events, by key

// ---- messages

const connect = () => {
  link?.close();
  toldAt = Date.now();
  link = new EventSource(place ? `events?after=${place}` : "events");
  for (const [kind, take] of Object.entries(takers)) {
    link.addEventListener(kind, (message) => {
      connected = true;
      toldAt = Date.now();
      place = message.lastEventId || place;
      take(JSON.parse(message.data));
      draw();
    });
  }
  link.addEventListener("error", () => {
    connected = false;
    draw();
  });
};

const takers = {
  state(data) {
    state = data;
    state.events = new Map(data.events.map((event) => [event.id, event]));
    windowAt = Date.now();
    for (const index of Object.keys(data.thresholds.classes).slice(0, SHOWN)) asked.add(Number(index));
    byId("labels").replaceChildren(...data.labels.map((label) => Object.assign(make("option"), { value: label })));
    const every = data.hop === 1 ? "every second" : `every ${data.hop} s`;
    byId("about").textContent = `${data.model}, windows of ${data.window} s ${every}`;
    rows.clear();
    entries.clear();
    byId("classes").replaceChildren();
    byId("events").replaceChildren();
    drawAxis();
  },
  window(row) {
    windowAt = Date.now();
    const kept = (state.windows[row.source] ??= []);
    kept.push(row);
    while (kept[0].end < row.end - state.span || kept.length > 1000) kept.shift();
  },
  event(row) {
    if (!state.events.has(row.id)) byId("spoken").textContent = `${row.label}, ${wall(row.time)}`;
    row.clip ||= state.events.get(row.id)?.clip ?? false;
    state.events.set(row.id, row);
    if (state.events.size > 200) {
      const ended = [...state.events.values()].find((event) => event.kind === "end") ?? state.events.values().next().value;
      state.events.delete(ended.id);
    }
  },
  clip({ id }) {
    const event = state.events.get(id);
    if (event) event.clip = true;
  },
  loss(row) {
    state.losses.push(row);
    if (state.losses.length > 50) state.losses.shift();
    lost = { until: Date.now() + LOST_MS, text: `${row.seconds.toFixed(1)} s not heard: ${row.why}` };
  },
  thresholds(data) {
    state.thresholds = data;
  },
  ended() {
    state.ended = true;
  },
  ping() {},
};

setInterval(() => {
  // Also after an answer such as 503, at which an EventSource gives up.
  const silent = Date.now() - toldAt;
  if (silent > SILENT_MS || (link.readyState === EventSource.CLOSED && silent > 3000)) {
    connected = false;
    connect();
  }
  draw();
}, 1000);

// ---- drawing

let waiting = false;
const draw = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    drawState();
    if (!state) return;
    drawSources();
    drawNow();
    drawEvents();
    drawChart();
  });
};

const drawState = () => {
  const element = byId("state");
  const show = (name, text) => {
    element.dataset.state = name;
    if (element.textContent !== text) element.textContent = text;
  };
  document.body.classList.toggle("offline", !connected && state !== null && !state.ended);
  if (state?.ended) show("ended", "Listening has ended");
  else if (!connected) show(state ? "offline" : "connecting", state ? "Connection lost; trying again …" : "Connecting …");
  else if (lost && Date.now() < lost.until) show("lost", lost.text);
  else if (Date.now() - windowAt > 1000 * (state.window + 3 * state.hop + 2)) show("waiting", "Waiting for sound");
  else show("live", "Listening");
};

const drawSources = () => {
  const names = Object.keys(state.windows);
  if (!names.includes(source)) source = names[0] ?? "";
  byId("which").hidden = names.length < 2;
  const select = byId("source");
  if (select.options.length !== names.length) {
    select.replaceChildren(...names.map((name) => Object.assign(make("option", "", name), { value: name })));
  }
  select.value = source;
};

const threshold = (index) => state.thresholds.classes[index] ?? state.thresholds.on;

const drawNow = () => {
  const last = state.windows[source]?.at(-1);
  const silent = byId("silent");
  silent.hidden = Boolean(last && !last.unusable && last.scores.length);
  if (!last) silent.textContent = `The first result comes after ${state.window} s of sound.`;
  else if (last.unusable) silent.textContent = `This sound cannot be used: ${last.unusable}`;
  else silent.textContent = "Nothing that the model knows.";
  byId("tags").replaceChildren(
    ...(last?.scores ?? []).slice(0, NOW).map(([index, score]) => {
      const item = make("li", score >= threshold(index) ? "above" : "");
      const bar = make("div", "bar");
      const [level, mark] = [make("span"), make("i")];
      level.style.width = `${100 * score}%`;
      mark.style.left = `${100 * threshold(index)}%`;
      bar.append(level, mark);
      item.append(make("span", "name", state.labels[index]), make("span", "number", score.toFixed(2)), bar);
      return item;
    }),
  );
};

// The time of day where the sound was heard, of a text such as 2026-11-29T14:03:20.125+01:00.
const wall = (iso) => (iso.slice(0, 10) === today() ? "" : `${iso.slice(5, 10)} `) + iso.slice(11, 19);
const today = () => {
  const now = new Date();
  return [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
};

const drawEvents = () => {
  const several = Object.keys(state.windows).length > 1;
  const wanted = [
    ...[...state.events.values()].map((row) => [row.id, row]),
    ...state.losses.map((row) => [`lost ${row.source} ${row.start} ${row.seconds}`, row]),
  ].sort(([, a], [, b]) => Date.parse(b.time) - Date.parse(a.time));
  byId("none").hidden = wanted.length > 0;
  const list = byId("events");
  byId("list").hidden = wanted.length === 0;
  for (const [key, element] of entries) {
    if (!wanted.some(([other]) => other === key)) {
      element.remove();
      entries.delete(key);
    }
  }
  let before = list.firstElementChild;
  for (const [key, row] of wanted) {
    let element = entries.get(key);
    if (!element) entries.set(key, (element = newEntry(row)));
    fill(element, row, several);
    // Elements that are in their place are not moved: that would stop their sound.
    if (element === before) before = before.nextElementSibling;
    else list.insertBefore(element, before);
  }
};

const newEntry = (row) => {
  const element = make("li", row.kind === "lost" ? "loss" : "");
  element.append(make("time"), make("span", "name"), make("span", "more"));
  if (row.id) element.dataset.id = row.id;
  return element;
};

const fill = (element, row, several) => {
  const [time, name, more] = element.children;
  time.dateTime = time.title = row.time;
  time.textContent = wall(row.time);
  const where = several ? ` · ${row.source}` : "";
  if (row.kind === "lost") {
    name.textContent = `${row.why}${where}`;
    more.textContent = `${row.seconds.toFixed(1)} s not heard`;
    return;
  }
  const open = row.kind !== "end" && !state.ended;
  element.classList.toggle("open", open);
  name.textContent = `${row.label}${where}`;
  more.textContent = `${(row.end - row.start).toFixed(1)} s${open ? " so far" : ""} · ${row.score.toFixed(2)}`;
  if (row.clip && !element.querySelector(".sound, button")) {
    const button = make("button", "", "Play");
    button.type = "button";
    button.setAttribute("aria-label", `Play ${row.label}, ${wall(row.time)}`);
    button.addEventListener("click", () => button.replaceWith(player(row)));
    more.after(button);
  }
};

const player = (row) => {
  const box = make("div", "sound");
  const audio = make("audio");
  audio.controls = audio.autoplay = true;
  audio.src = `clips/${encodeURIComponent(row.id)}`;
  audio.setAttribute("aria-label", `Sound of ${row.label}, ${wall(row.time)}`);
  audio.addEventListener("error", () => { box.textContent = "This sound is no longer kept."; });
  box.append(audio);
  return box;
};

// ---- the timeline and its sliders

const drawAxis = () => {
  const ticks = [3, 2, 1].map((minutes) => [`−${minutes} min`, minutes * 60]).filter(([, seconds]) => seconds <= state.span);
  document.querySelector(".axis").replaceChildren(
    ...[...ticks, ["now", 0]].map(([text, seconds]) => {
      const tick = make("span", "", text);
      tick.style.left = `${100 * (1 - seconds / state.span)}%`;
      return tick;
    }),
  );
};

const drawChart = () => {
  const windows = state.windows[source] ?? [];
  const end = windows.at(-1)?.end ?? 0;
  const begin = end - state.span;
  const events = [...state.events.values()].filter((event) => event.source === source);
  const scores = new Map(); // of each class: [[from, to, score], …]
  windows.forEach((row, k) => {
    const next = windows[k + 1];
    // The newest window stands for all the sound up to its end; a window before a gap for one hop.
    const to = !next ? row.end : next.begin - row.begin > 1.5 * state.hop + state.window ? row.begin + state.hop : next.begin;
    for (const [index, score] of row.scores) {
      if (!scores.has(index)) scores.set(index, []);
      scores.get(index).push([row.begin, to, score]);
    }
  });
  for (const index of chosen(scores, events, begin)) {
    drawStrip(rows.get(index), index, scores.get(index) ?? [], events, windows, begin, end);
  }
  drawSlider(byId("on"), state.thresholds.on);
};

// Returns the classes to show. A class keeps its row as long as it is one of the highest, so that no slider moves away.
const chosen = (scores, events, begin) => {
  const best = new Map([...scores].map(([index, parts]) => [index, Math.max(...parts.map((part) => part[2]))]));
  for (const event of events) {
    if (event.end >= begin) best.set(event.index, Math.max(best.get(event.index) ?? 0, event.score));
  }
  const highest = [...best.keys()].sort((a, b) => best.get(b) - best.get(a)).filter((index) => !asked.has(index));
  const wanted = new Set([...asked, ...highest.slice(0, SHOWN)]);
  const fresh = [...wanted].filter((index) => !rows.has(index));
  const list = byId("classes");
  const used = document.activeElement?.closest(".class");
  for (const [index, row] of [...rows]) {
    if (wanted.has(index) || row.element === used) continue;
    const other = fresh.shift();
    rows.delete(index);
    if (other === undefined) row.element.remove();
    else row.element.replaceWith(newRow(other));
  }
  for (const index of fresh) if (rows.size < SHOWN + asked.size) list.append(newRow(index));
  return [...rows.keys()];
};

const newRow = (index) => {
  const element = make("div", "class");
  const slider = Object.assign(make("input"), { type: "range", min: "0.01", max: "1", step: "0.01" });
  const reset = Object.assign(make("button", "", "Reset"), { type: "button" });
  const strip = svg("svg", { class: "strip", preserveAspectRatio: "none", role: "img" });
  const cell = make("div", "threshold");
  const name = make("span", "name", state.labels[index]);
  name.title = state.labels[index];
  slider.setAttribute("aria-label", `Threshold of ${state.labels[index]}`);
  reset.setAttribute("aria-label", `Reset the threshold of ${state.labels[index]}`);
  cell.append(slider, make("output"), reset);
  element.append(name, strip, cell);
  element.dataset.index = index;
  listen(slider, index);
  reset.addEventListener("click", () => move(index, null));
  rows.set(index, { element, strip, slider });
  return element;
};

const drawStrip = (row, index, parts, events, windows, begin, end) => {
  const span = end - begin;
  const marks = [];
  const mark = (from, to, kind, more) => {
    const x = Math.max(0, from - begin);
    if (to - begin > x) marks.push(svg("rect", { x, width: to - begin - x, ...(kind ? { class: kind } : {}), ...more }));
  };
  for (const { begin: from, unusable } of windows) if (unusable) mark(from, from + state.hop, "gap", { y: 0, height: 1 });
  for (const loss of state.losses) {
    if (loss.source === source) mark(loss.start, loss.start + loss.seconds, "gap", { y: 0, height: 1 });
  }
  let run = null; // successive steps of one shade become one rectangle
  const flush = () => { if (run) mark(run.from, run.to, "", { y: 0, height: 1, "fill-opacity": run.shade / SHADES }); };
  for (const [from, to, score] of parts) {
    const shade = Math.round(SHADES * score);
    if (run && run.shade === shade && Math.abs(run.to - from) < 1e-6) run.to = to;
    else {
      flush();
      run = shade ? { from, to, shade } : null;
    }
  }
  flush();
  const own = events.filter((event) => event.index === index);
  for (const event of own) {
    const to = event.kind === "end" || state.ended ? event.end : Math.max(event.end, end);
    mark(event.start, Math.max(to, event.start + span / 300), "event", { y: 0.82, height: 0.18 });
  }
  row.strip.setAttribute("viewBox", `0 0 ${span} 1`);
  row.strip.replaceChildren(...marks);
  const best = Math.max(0, ...parts.map((part) => part[2]));
  row.strip.setAttribute("aria-label", `${state.labels[index]}: highest score ${best.toFixed(2)}, events: ${own.length}`);
  row.element.classList.toggle("follows", !(index in state.thresholds.classes));
  drawSlider(row.slider, threshold(index));
};

// A slider that is being moved stays under the hand that moves it.
const held = new Set();
const drawSlider = (slider, value) => {
  if (held.has(slider)) return;
  slider.value = value;
  slider.nextElementSibling.textContent = value.toFixed(2);
};

const listen = (slider, index) => {
  slider.addEventListener("input", () => {
    held.add(slider);
    slider.nextElementSibling.textContent = Number(slider.value).toFixed(2);
  });
  slider.addEventListener("change", async () => {
    await move(index, Number(slider.value));
    held.delete(slider);
    draw();
  });
};

const move = async (index, on) => {
  let refused = "";
  try {
    const answer = await fetch("thresholds.json", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ index, on }),
    });
    if (answer.ok) {
      state.thresholds = await answer.json();
      if (index !== null && on !== null) asked.add(index);
    } else {
      const told = await answer.text();
      refused = `The threshold was not changed: ${answer.status === 400 ? JSON.parse(told).error : told}`;
    }
  } catch {
    refused = "The threshold was not changed: no connection.";
  }
  byId("refused").textContent = refused;
  draw();
};

listen(byId("on"), null);
byId("source").addEventListener("change", (event) => {
  source = event.target.value;
  draw();
});
byId("more").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("another");
  const index = state ? state.labels.findIndex((label) => label.toLowerCase() === field.value.trim().toLowerCase()) : -1;
  byId("refused").textContent = index < 0 ? "No class of this model has that name." : "";
  if (index < 0) return;
  asked.add(index);
  field.value = "";
  draw();
});

connect();
