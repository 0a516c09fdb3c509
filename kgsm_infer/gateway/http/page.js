"use strict";
const $ = (s, e = document) => e.querySelector(s), all = (s, e = document) => [...e.querySelectorAll(s)];
const words = JSON.parse($("#words").textContent), rows = all("tbody tr"), map = $("#map"), box = $("dialog");

// how old: said by this device's clock, and not at all where that clock cannot be right
function age(when) {
  const days = Math.floor((Date.now() - Date.parse(when)) / 864e5);
  return days < 0 ? "" : days === 0 ? "today" : days === 1 ? "yesterday" : days < 730 ? `${days} days ago` : `${Math.floor(days / 365)} years ago`;
}
const day = when => new Date(when).toLocaleDateString(undefined, { dateStyle: "medium", timeZone: "UTC" });
for (const t of all("time")) {
  const old = age(t.dateTime);
  t.textContent = day(t.dateTime) + (old && `, ${old}`);
}

// the list: found and ordered
$("#find").addEventListener("input", e => {
  const text = e.target.value.trim().toLowerCase();
  for (const r of rows) r.hidden = !$("button", r).textContent.toLowerCase().includes(text);
});
$("#order").addEventListener("change", e => {
  const by = e.target.value, sign = by === "-v" ? -1 : 1;
  const size = r => by === "i" ? +r.dataset.i : r.dataset.v === "" ? 1e9 : sign * r.dataset.v;
  $("tbody").append(...[...rows].sort((a, b) => size(a) - size(b)));
});
for (const r of rows) $("button", r).addEventListener("click", () => show(r));

// the map: buttons, wheel with Ctrl, drag, two fingers
if (map) {
  const whole = map.viewBox.baseVal, full = { x: 0, y: 0, w: whole.width, h: whole.height };
  let view = { ...full }, fingers = new Map(), moved = 0;
  const unit = () => Math.max(view.w / map.clientWidth, view.h / map.clientHeight);
  function set(v) {
    v.w = Math.min(full.w, Math.max(full.w / 64, v.w)); v.h = v.w * full.h / full.w;
    v.x = Math.min(full.w - v.w, Math.max(0, v.x)); v.y = Math.min(full.h - v.h, Math.max(0, v.y));
    view = v;
    map.setAttribute("viewBox", `${v.x} ${v.y} ${v.w} ${v.h}`);
    map.classList.toggle("in", v.w < full.w);
    $("#h").setAttribute("patternTransform", `rotate(45) scale(${unit()})`);
  }
  function zoom(by, px, py) {
    const r = map.getBoundingClientRect(), u = unit();
    const x = view.x + view.w / 2 + (px - r.left - r.width / 2) * u, y = view.y + view.h / 2 + (py - r.top - r.height / 2) * u;
    const w = view.w / by;
    set({ x: x - (x - view.x) / by, y: y - (y - view.y) / by, w, h: 0 });
  }
  function middle() { const r = map.getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; }
  for (const b of all(".zoom button")) b.addEventListener("click", () => +b.dataset.z ? zoom(+b.dataset.z, ...middle()) : set({ ...full }));
  map.addEventListener("wheel", e => {
    if (!e.ctrlKey && !e.metaKey) return;
    e.preventDefault();
    zoom(e.deltaY < 0 ? 1.25 : 0.8, e.clientX, e.clientY);
  }, { passive: false });
  map.addEventListener("pointerdown", e => { fingers.set(e.pointerId, e); if (fingers.size === 1) moved = 0; });
  map.addEventListener("pointermove", e => {
    const before = fingers.get(e.pointerId);
    if (!before) return;
    if (fingers.size === 2) {
      const other = [...fingers.values()].find(f => f.pointerId !== e.pointerId);
      const far = f => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY) || 1;
      zoom(far(e) / far(before), other.clientX, other.clientY);
    } else {
      const u = unit();
      set({ ...view, x: view.x - (e.clientX - before.clientX) * u, y: view.y - (e.clientY - before.clientY) * u });
    }
    moved += Math.hypot(e.clientX - before.clientX, e.clientY - before.clientY);
    fingers.set(e.pointerId, e);
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) map.addEventListener(end, e => fingers.delete(e.pointerId));
  set(view);
  map.addEventListener("click", e => {
    const i = e.target.dataset.i;
    if (i !== undefined && moved < 8) show(rows.find(r => r.dataset.i === i));
  });
}

// one paddock: its value, its doubts in words, its history
const make = (name, attrs = {}, ...inside) => {
  const svg = /^(svg|path|circle|line|text|title)$/.test(name);
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  e.append(...inside);
  return e;
};
// a record's number in the unit of its quantity: percent of volume, or the index itself
const columns = { soil_moisture: "sm", wetness: "wetness", unknown: "value" };
const inPercent = v => v.quantity === "soil_moisture";
const num = (v, end = "") => v[columns[v.quantity] + end + (inPercent(v) ? "_percent" : "")] ?? null;
const say = (v, n) => n === null ? "no value" : inPercent(v) ? `${n.toFixed(0)} %` : `${v.quantity === "wetness" ? "index" : "unknown quantity"} ${n.toFixed(2)}`;
const short = (v, n) => n.toFixed(inPercent(v) ? 0 : 2);
async function show(row) {
  for (const e of all(".on")) e.classList.remove("on");
  for (const e of all(`[data-i="${row.dataset.i}"]`)) e.classList.add("on");
  $("#dt").textContent = $("button", row).textContent;
  $("#dd").replaceChildren(make("p", {}, "…"));
  if (!box.open) box.showModal();
  try {
    const answer = await fetch(`v1/history?paddock=${encodeURIComponent(row.dataset.p)}&limit=400`);
    if (!answer.ok) throw new Error((await answer.json()).error);
    fill((await answer.json()).values);
  } catch (error) {
    $("#dd").replaceChildren(make("p", {}, `The gateway did not answer (${error.message}).`));
  }
}
function fill(values) {
  const last = values.at(-1);
  if (!last) return $("#dd").replaceChildren(make("p", {}, "No satellite pass has been taken of it yet."));
  const range = num(last, "_lower") === null ? "" : ` (likely ${short(last, num(last, "_lower"))} to ${say(last, num(last, "_upper"))})`;
  const old = age(last.acquired_at);
  const doubts = last.flags.map(f => make("li", {}, words[f] || `Doubt: ${f.replaceAll("_", " ")}.`));
  if (last.probes) doubts.push(make("li", {}, `Corrected by ${last.probes} probe${last.probes > 1 ? "s" : ""}, ${last.sm_correction < 0 ? "" : "+"}${(100 * last.sm_correction).toFixed(1)} % of volume.`));
  const body = make("tbody");
  for (const v of [...values].reverse()) body.append(make("tr", {},
    make("th", { scope: "row" }, day(v.acquired_at)), make("td", {}, say(v, num(v))),
    make("td", {}, num(v, "_lower") === null ? "" : `${short(v, num(v, "_lower"))}–${short(v, num(v, "_upper"))}`),
    make("td", {}, v.revision > 1 ? `revised, ${v.revision}` : "")));
  $("#dd").replaceChildren(
    make("p", { class: "big" }, say(last, num(last))),
    make("p", {}, `${day(last.acquired_at)}${old && `, ${old}`}${range}`),
    make("ul", {}, ...doubts), chart(values),
    make("details", {}, make("summary", {}, "All values"), make("table", {}, body)),
    make("p", {}, make("small", {}, `Made by model ${last.model}.`)));
}
function chart(values) {
  values = values.filter(v => v.quantity === values.at(-1).quantity); // one axis, one quantity
  const W = 620, H = 240, L = 40, B = 26, t = values.map(v => Date.parse(v.acquired_at));
  const last = values.at(-1), percent = inPercent(last), tick = percent ? 10 : 0.2;
  const top = Math.max(percent ? 50 : 1, ...values.map(v => num(v, "_upper") ?? num(v) ?? 0));
  const x = i => L + (W - L - 10) * (t.at(-1) === t[0] ? 0.5 : (t[i] - t[0]) / (t.at(-1) - t[0]));
  const y = p => 10 + (H - B - 10) * (1 - p / top);
  const svg = make("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `History of ${values.length} passes, ${percent ? "percent of volume" : "index from 0 to 1"}; all values are in the table below` });
  for (let p = 0; p <= top + 1e-9; p += tick) svg.append(
    make("line", { class: "axis", x1: L, x2: W - 10, y1: y(p), y2: y(p) }), make("text", { x: 4, y: y(p) + 4 }, percent ? `${p} %` : p.toFixed(1)));
  const runs = [[]];
  values.forEach((v, i) => num(v) === null ? runs.push([]) : runs.at(-1).push(i));
  for (const run of runs.filter(r => r.length)) {
    const at = (end, some) => some.map(i => `${x(i).toFixed(1)} ${y(num(values[i], end)).toFixed(1)}`).join("L");
    if (num(values[run[0]], "_lower") !== null && run.length > 1)
      svg.append(make("path", { class: "band", d: `M${at("_upper", run)}L${at("_lower", [...run].reverse())}z` }));
    svg.append(make("path", { class: "line", d: `M${at("", run)}` }));
  }
  values.forEach((v, i) => svg.append(num(v) === null
    ? make("path", { class: "gap", d: `M${x(i) - 4} ${H - B - 8}l8 8m0-8l-8 8` })
    : make("circle", { class: "dot", cx: x(i), cy: y(num(v)), r: 3.5 }, make("title", {}, `${day(v.acquired_at)}: ${say(v, num(v))}`))));
  svg.append(make("text", { x: L, y: H - 6 }, day(t[0])));
  if (t.length > 1) svg.append(make("text", { x: W - 10, y: H - 6, "text-anchor": "end" }, day(t.at(-1))));
  return svg;
}
