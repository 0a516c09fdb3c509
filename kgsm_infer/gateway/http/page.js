"use strict";
const $ = (s, e = document) => e.querySelector(s), all = (s, e = document) => [...e.querySelectorAll(s)];
const { language: catalogue, timezone, stale_days, texts } = JSON.parse($("#settings").textContent);
const language = navigator.languages.find(l => l.split("-")[0] === catalogue) ?? catalogue; // dates of en-GB or of en-US
const base = location.pathname.replace(/\/?$/, "/"); // works below the path of a proxy, with or without its slash
const box = $("dialog"), tip = $("#tip"), REFRESH_MS = 120e3, MOST = 10000;
const zone = timezone ? { timeZone: timezone } : {};
const text = (key, values = {}) => texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);

// dates: local days, with their age by this device's clock; no age if that clock cannot be right
const DAY = new Intl.DateTimeFormat(language, { dateStyle: "medium", ...zone });
const near = { day: "numeric", month: "short", ...zone }, far = { ...near, year: "numeric" };
const THIS_YEAR = new Intl.DateTimeFormat(language, near), ANY_YEAR = new Intl.DateTimeFormat(language, far);
const SHORT = { format: d => (d.getFullYear() === new Date().getFullYear() ? THIS_YEAR : ANY_YEAR).format(d) };
const HOUR = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short", ...zone });
const PARTS = new Intl.DateTimeFormat("en", { year: "numeric", month: "numeric", day: "numeric", calendar: "gregory", numberingSystem: "latn", ...zone });
const AGO = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
function noon(when) {
  const part = Object.fromEntries(PARTS.formatToParts(new Date(when)).map(p => [p.type, +p.value]));
  return Date.UTC(part.year, part.month - 1, part.day, 12);
}
const days = when => Math.round((noon(Date.now()) - noon(when)) / 864e5);
function age(when) {
  const n = days(when);
  return n < 0 ? "" : n < 730 ? AGO.format(-n, "day") : AGO.format(-Math.floor(n / 365.25), "year");
}
// a day of the farm is written as it is, whatever the zone of this device
const plain = date => Date.parse(`${date}T12:00:00Z`), UTC = { timeZone: "UTC" };
const DATE = new Intl.DateTimeFormat(language, { dateStyle: "medium", ...UTC });
const BRIEF = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", ...UTC });
function datedDay(date) {
  const n = Math.round((noon(Date.now()) - plain(date)) / 864e5);
  return [DATE.format(plain(date)), n < 0 || n > 730 ? "" : AGO.format(-n, "day")].filter(Boolean).join(", ");
}
const isStale = when => (Date.now() - Date.parse(when)) / 864e5 > stale_days;
const dated = (when, form = DAY) => [form.format(new Date(when)), age(when)].filter(Boolean).join(", ");

let rows, map, zoomTo, setView = () => {}, redraw = () => {};
function start() {
  rows = all("#live tbody tr"); map = $("#map");
  for (const t of all("#live time")) {
    t.textContent = "day" in t.dataset ? datedDay(t.dateTime) : dated(t.dateTime, "h" in t.dataset ? HOUR : SHORT);
    if (t.closest("td:nth-child(4)") && isStale(t.dateTime)) { t.classList.add("stale"); t.append(` (${texts.stale})`); }
  }
  const newest = all("#live td:nth-child(4) time").map(t => t.dateTime).sort().at(-1);
  $("#stale").hidden = !newest || !isStale(newest);
  $("#stale").textContent = text("stale.page", { n: stale_days });
  for (const a of all("#live a[data-to]")) a.href = base + a.dataset.to;
  $("#find").addEventListener("input", filter);
  $("#order").addEventListener("change", order);
  for (const r of rows) {
    $("button", r).addEventListener("click", () => { zoomTo?.(r.dataset.i); show(r); });
    for (const [event, on] of [["pointerenter", true], ["pointerleave", false]]) r.addEventListener(event, () => mark(r.dataset.i, on));
  }
  if (map) startMap();
}
function mark(i, on) { $(`#map [data-i="${i}"]`)?.classList.toggle("on", on); }
function filter() {
  const wanted = $("#find").value.trim().toLowerCase();
  for (const r of rows) r.hidden = !$("button", r).textContent.toLowerCase().includes(wanted);
}
function order() {
  const by = $("#order").value;
  const size = r => by === "i" ? +r.dataset.i : by === "d" ? (r.dataset.d === "" ? 1e9 : -Math.abs(r.dataset.d))
    : r.dataset.v === "" ? 1e9 : (by === "-v" ? -1 : 1) * r.dataset.v;
  $("#live tbody").append(...[...rows].sort((a, b) => size(a) - size(b)));
}

// the map: buttons, wheel with Ctrl, drag, two fingers
function startMap() {
  const whole = map.viewBox.baseVal, full = { x: 0, y: 0, w: whole.width, h: whole.height };
  const paths = all("path[data-i]", map), names = $("#names");
  let view = { ...full }, fingers = new Map(), moved = 0, due = 0;
  const unit = () => Math.max(view.w / (map.clientWidth || 1), view.h / (map.clientHeight || 1));
  function set(v) {
    v.w = Math.min(full.w, Math.max(full.w / 256, v.w)); v.h = v.w * full.h / full.w;
    v.x = Math.min(full.w - v.w, Math.max(0, v.x)); v.y = Math.min(full.h - v.h, Math.max(0, v.y));
    view = v;
    map.setAttribute("viewBox", `${v.x} ${v.y} ${v.w} ${v.h}`);
    map.classList.toggle("in", v.w < full.w);
    $("#h").setAttribute("patternTransform", `rotate(45) scale(${unit()})`);
    due ||= requestAnimationFrame(label);
  }
  // names, as many as fit into their paddocks
  function label() {
    due = 0;
    const u = unit(), size = 13 * u;
    names.setAttribute("font-size", size); names.setAttribute("stroke-width", 3 * u);
    names.replaceChildren(...paths.flatMap(p => {
      const [x, y, width] = p.dataset.l.split(" "), name = $("button", rows[p.dataset.i]).textContent;
      return name.length * size * 0.58 > width ? [] : [make("text", { x, y }, name)];
    }));
    if (view.w > 0.9 * full.w) for (const b of all(".zoom [data-b]")) {
      const [x, y, width, height] = b.dataset.b.split(" ").map(Number), pad = 6 * u;
      names.append(make("rect", { class: "box", x: x - pad, y: y - pad, width: width + 2 * pad, height: height + 2 * pad }),
        make("text", { x: Math.max(size, x - pad - size * 0.6), y, "font-weight": "bold" }, b.dataset.n));
    }
  }
  redraw = () => set(view);
  setView = text => { const [x, y, w] = text.split(" ").map(Number); set({ x, y, w, h: 0 }); };
  function zoom(by, px, py) {
    const r = map.getBoundingClientRect(), u = unit();
    const x = view.x + view.w / 2 + (px - r.left - r.width / 2) * u, y = view.y + view.h / 2 + (py - r.top - r.height / 2) * u;
    set({ x: x - (x - view.x) / by, y: y - (y - view.y) / by, w: view.w / by, h: 0 });
  }
  function zoomToBox(x, y, width, height, share) {
    const w = Math.max(width, height * full.w / full.h) / share;
    set({ x: x + width / 2 - w / 2, y: y + height / 2 - w * full.h / full.w / 2, w, h: 0 });
  }
  const small = p => { const r = p.getBoundingClientRect(); return Math.max(r.width, r.height) < 28; };
  zoomTo = i => { const p = $(`[data-i="${i}"]`, map); if (p && small(p)) { const b = p.getBBox(); zoomToBox(b.x, b.y, b.width, b.height, 0.15); } };
  const middle = () => { const r = map.getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; };
  for (const b of all(".zoom [data-z]")) b.addEventListener("click", () => +b.dataset.z ? zoom(+b.dataset.z, ...middle()) : set({ ...full }));
  for (const b of all(".zoom [data-b]")) b.addEventListener("click", () => zoomToBox(...b.dataset.b.split(" ").map(Number), 0.9));
  map.addEventListener("wheel", e => {
    if (!e.ctrlKey && !e.metaKey) return;
    e.preventDefault();
    zoom(e.deltaY < 0 ? 1.25 : 0.8, e.clientX, e.clientY);
  }, { passive: false });
  map.addEventListener("pointerdown", e => { fingers.set(e.pointerId, e); tip.hidden = true; if (fingers.size === 1) moved = 0; });
  map.addEventListener("pointermove", e => {
    const before = fingers.get(e.pointerId);
    if (!before) return hover(e);
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
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) map.addEventListener(end, e => { fingers.delete(e.pointerId); tip.hidden = true; });
  function hover(e) {
    const row = rows[e.target.dataset.i];
    tip.hidden = !row;
    if (!row) return;
    tip.textContent = [$("button", row).textContent, ...[2, 4].map(n => $(`td:nth-child(${n})`, row).textContent)].filter(Boolean).join(" · ");
    tip.style.left = `${Math.min(e.clientX + 14, innerWidth - tip.offsetWidth - 6)}px`;
    tip.style.top = `${Math.min(e.clientY + 14, innerHeight - tip.offsetHeight - 6)}px`;
  }
  // a tap near paddocks that are too small for a finger zooms in first
  map.addEventListener("click", e => {
    if (moved >= 8) return;
    const path = e.target.closest("path[data-i]");
    if (path && !small(path)) return show(rows[path.dataset.i]);
    const near = path ?? paths.filter(small).find(p => {
      const r = p.getBoundingClientRect();
      return Math.hypot(e.clientX - r.left - r.width / 2, e.clientY - r.top - r.height / 2) < 24;
    });
    if (near) zoom(4, e.clientX, e.clientY);
  });
  set(view);
}
addEventListener("resize", () => redraw());

// the refresh: another version of the page takes the place of this one, and the box is asked how it is
let since = null;
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(base, { cache: "no-cache" });
    if (!answer.ok) throw new Error(answer.status);
    const next = $("#live", new DOMParser().parseFromString(await answer.text(), "text/html"));
    since = null;
    if (next && next.dataset.version !== $("#live").dataset.version) {
      const find = $("#find").value, by = $("#order").value, view = map?.getAttribute("viewBox");
      const focused = document.activeElement?.closest("#live tr")?.dataset.p;
      $("#live").replaceWith(document.adoptNode(next));
      start();
      $("#find").value = find; $("#order").value = by;
      filter(); order();
      if (view && map) setView(view);
      if (focused !== undefined) rows.find(r => r.dataset.p === focused)?.querySelector("button").focus({ preventScroll: true });
    }
    await health();
  } catch {
    since ??= new Date();
  }
  $("#offline").hidden = since === null;
  if (since) $("#offline").textContent = text("offline", { time: HOUR.format(since) });
}
async function health() {
  const answer = await fetch(base + "health", { cache: "no-cache" });
  const h = await answer.json(), said = [];
  if (h.quarantined) said.push(text("health.quarantine", { n: h.quarantined }));
  if (h.broker && h.broker.state !== "ok") said.push(text("health.broker", { state: h.broker.reason || h.broker.state }));
  if (h.disk && h.disk.free_mb < h.disk.needed_mb) said.push(text("health.disk", { n: Math.round(h.disk.free_mb) }));
  if (h.unread_scenes) said.push(text("health.scenes", { n: h.unread_scenes.scenes, names: h.unread_scenes.paddocks.join(", ") }));
  if (h.last_error) said.push(text("health.error", { time: dated(h.last_error.at, HOUR), reason: h.last_error.reason }));
  $("#health").hidden = !said.length;
  $("#health").replaceChildren(...said.map(s => make("li", {}, s)));
}

// one paddock: its value, its remarks, its history
function make(name, attrs = {}, ...inside) {
  const svg = /^(svg|path|circle|line|rect|text|title)$/.test(name);
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  e.append(...inside);
  return e;
}
// a record's number in the unit of its quantity: percent of volume, or the index itself
const columns = { soil_moisture: "sm", wetness: "wetness", unknown: "value" };
const inPercent = v => v.quantity === "soil_moisture";
const num = (v, end = "") => v[columns[v.quantity] + end + (inPercent(v) ? "_percent" : "")] ?? null;
const short = (v, n) => n.toLocaleString(language, inPercent(v) ? { maximumFractionDigits: 0 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const say = (v, n) => n === null ? texts.no_value : inPercent(v) ? `${short(v, n)} %` : text(`number.${v.quantity}`, { n: short(v, n) });
const range = v => num(v, "_lower") === null ? "" : text("range", { low: short(v, num(v, "_lower")), high: short(v, num(v, "_upper")) });
async function show(row) {
  for (const e of all(".on")) e.classList.remove("on");
  for (const e of all(`[data-i="${row.dataset.i}"]`)) e.classList.add("on");
  $("#dt").textContent = $("button", row).textContent;
  $("#dd").replaceChildren(make("p", {}, "…"));
  if (!box.open) box.showModal();
  const query = `paddock=${encodeURIComponent(row.dataset.p)}&limit=${MOST}`;
  const ask = async path => {
    const answer = await fetch(`${base}v1/${path}?${query}`), content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    return content.values;
  };
  try {
    const [values, perDay] = await Promise.all([ask("history"), row.dataset.t ? ask("daily") : []]);
    fill(values, $("td:nth-child(5)", row).textContent, `${base}v1/history.csv?${query}`);
    if (perDay.length) fillDays(perDay, `${base}v1/daily.csv?${query}`);
  } catch (error) {
    $("#dd").replaceChildren(make("p", {}, text("failed", { reason: error.message })));
  }
}
function fill(values, remarks, csv) {
  const last = values.findLast(v => num(v) !== null) ?? values.at(-1);
  if (!last) return $("#dd").replaceChildren(make("p", {}, texts.never));
  const when = make("p", {}, dated(last.acquired_at, HOUR));
  if (isStale(last.acquired_at)) when.append(" ", make("span", { class: "stale" }, `(${texts.stale})`));
  if (range(last)) when.append(`; ${range(last)}`);
  const table = make("table"), details = make("details", {}, make("summary", {}, texts.all), table);
  details.addEventListener("toggle", () => {
    if (!table.childElementCount) table.append(make("tbody", {}, ...[...values].reverse().map(v => make("tr", {},
      make("th", { scope: "row" }, DAY.format(new Date(v.acquired_at))), make("td", {}, say(v, num(v))), make("td", {}, range(v)),
      make("td", {}, v.revision > 1 ? text("revised", { n: v.revision }) : "")))));
  });
  $("#dd").replaceChildren(make("p", { class: "big" }, say(last, num(last))), when, make("p", {}, remarks));
  $("#dd").append(chart(values, last), ...(values.length < MOST ? [] : [make("p", {}, text("cut", { n: MOST }))]), details,
    make("p", {}, make("a", { href: csv }, texts.csv)), make("p", {}, make("small", {}, text("model", { name: last.model }))));
}
// the days of a paddock, above its passes
function fillDays(values, csv) {
  const isAhead = v => v.flags.includes("forecast"), today = values.findLast(v => !isAhead(v));
  if (!today) return;
  const first = $("#dd .big"), line = make("p", {}, datedDay(today.date));
  first.textContent = say(today, num(today));
  if (range(today)) line.append(`; ${range(today)}`);
  first.nextElementSibling.replaceWith(line);
  const table = make("table"), details = make("details", {}, make("summary", {}, texts.all), table);
  details.addEventListener("toggle", () => {
    if (!table.childElementCount) table.append(make("tbody", {}, ...[...values].reverse().map(v => make("tr", {},
      make("th", { scope: "row" }, DATE.format(plain(v.date))), make("td", {}, say(v, num(v))), make("td", {}, range(v)),
      make("td", {}, isAhead(v) ? texts["chart.outlook"] : ""), make("td", {}, v.rain_mm === null ? texts["chart.no_rain"] : `${v.rain_mm.toLocaleString(language)} mm`),
      make("td", {}, v.irrigation_mm ? watered(v) : "")))));
  });
  const old = $("#dd svg.chart"), recent = values.slice(-DAYS_SHOWN);
  const passes = make("details", {}, make("summary", {}, text("history", { n: +old.dataset.n })), old, ...$$after(old));
  $("#dd").append(chartDays(recent, isAhead), legendDays(recent), details, make("p", {}, make("a", { href: csv }, texts.csv)), passes);
}
const watered = v => `${texts["chart.irrigation"]}: ${v.irrigation_mm.toLocaleString(language)} mm`, planned = v => num(v, "_irrigated");
const DAYS_SHOWN = 120, $$after = e => { const found = []; while ((e = e.nextElementSibling)) found.push(e); return found; };
function legendDays(values) {
  const most = Math.max(0, ...values.map(v => v.rain_mm ?? 0)), items = [["pass", texts["chart.pass"]]];
  if (values.some(v => v.rain_mm !== null)) items.push(["rain", text("chart.rain", { n: Math.round(most).toLocaleString(language) })]);
  if (values.some(v => v.irrigation_mm)) items.push(["irrigation", texts["chart.irrigation"]]);
  if (values.some(v => v.rain_mm === null && !v.flags.includes("forecast"))) items.push(["unknown", texts["chart.no_rain"]]);
  if (values.some(v => v.flags.includes("forecast"))) items.push(["ahead", texts["chart.outlook"]]);
  if (values.some(v => planned(v) !== null)) items.push(["planned", texts["chart.planned"]]);
  if (values.some(v => v.threshold !== null)) items.push(["limit", texts["chart.threshold"]]);
  return make("ul", { class: "legend" }, ...items.map(([kind, label]) => make("li", {}, make("i", { class: `s ${kind}` }), label)));
}
function chartDays(values, isAhead) {
  const W = Math.max(280, $("#dd").clientWidth), H = 260, L = 46, B = 26, T = 12, last = values.at(-1), percent = inPercent(last), unit = percent ? 100 : 1;
  const passed = v => v[`pass_${columns[v.quantity]}`], rain = Math.max(5, ...values.map(v => (v.rain_mm ?? 0) + (v.irrigation_mm ?? 0)));
  const highs = values.flatMap(v => [num(v, "_upper") ?? num(v) ?? 0, (passed(v) ?? 0) * unit, (v.threshold ?? 0) * unit]);
  const tick = percent ? 10 : 0.2, top = Math.max(percent ? 40 : 1, Math.ceil(Math.max(...highs) / tick - 1e-9) * tick);
  const t = values.map(v => plain(v.date)), step = (W - L - 12) / Math.max(values.length, 8);
  const x = i => L + step * (i + 0.5), y = p => T + (H - B - T) * (1 - p / top);
  const svg = make("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, height: H, role: "img", "aria-label": `${text("chart.days", { n: values.length })} (${texts[`scale.${last.quantity}`]})` });
  for (let p = 0; p <= top + 1e-9; p += tick) svg.append(make("line", { class: "axis", x1: L, x2: W - 12, y1: y(p), y2: y(p) }),
    make("text", { x: 0, y: y(p) + 4 }, percent ? `${p} %` : p.toLocaleString(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 })));
  const tall = mm => (H - B - T) * 0.3 * mm / rain;
  values.forEach((v, i) => { if (v.irrigation_mm) svg.append(make("rect", { class: isAhead(v) ? "irrigation later" : "irrigation", x: x(i) - step * 0.42, width: Math.max(1, step * 0.84), y: T + tall(v.rain_mm ?? 0), height: Math.max(1.5, tall(v.irrigation_mm)) },
    make("title", {}, `${DATE.format(t[i])}: ${watered(v)}`))); });
  values.forEach((v, i) => {
    if (v.rain_mm === null ? isAhead(v) : !v.rain_mm) return;
    const high = v.rain_mm === null ? 4 : Math.max(1.5, tall(v.rain_mm)), kind = v.rain_mm === null ? "unknown" : isAhead(v) ? "rain later" : "rain";
    svg.append(make("rect", { class: kind, x: x(i) - step * 0.42, width: Math.max(1, step * 0.84), y: T, height: high },
      make("title", {}, `${DATE.format(t[i])}: ${v.rain_mm === null ? texts["chart.no_rain"] : `${v.rain_mm.toLocaleString(language)} mm`}`)));
  });
  const at = (some, end) => some.map(i => `${x(i).toFixed(1)} ${y(num(values[i], end)).toFixed(1)}`).join("L");
  const runs = [[]], now = values.findLastIndex(v => !isAhead(v));
  values.forEach((v, i) => num(v) === null ? runs.push([]) : runs.at(-1).push(i));
  for (const run of runs.filter(r => r.length)) {
    if (run.length > 1) svg.append(make("path", { class: "band", d: `M${at(run, "_upper")}L${at([...run].reverse(), "_lower")}z` }));
    for (const [kind, part] of [["line", run.filter(i => i <= now)], ["line ahead", run.filter(i => i >= now)]]) if (part.length > 1) svg.append(make("path", { class: kind, d: `M${at(part, "")}` }));
  }
  const ahead = values.map((v, i) => i).filter(i => planned(values[i]) !== null);
  if (ahead.length && now >= 0 && num(values[now]) !== null) svg.append(make("path", { class: "line planned", d: `M${x(now).toFixed(1)} ${y(num(values[now])).toFixed(1)}L${at(ahead, "_irrigated")}` }));
  const limits = values.map((v, i) => [v.threshold, i]).filter(([p]) => p !== null);
  if (limits.length) svg.append(make("path", { class: "limit", d: `M${limits.map(([p, i]) => `${(x(i) - step / 2).toFixed(1)} ${y(p * unit).toFixed(1)}L${(x(i) + step / 2).toFixed(1)} ${y(p * unit).toFixed(1)}`).join("L")}` }));
  values.forEach((v, i) => { if ((passed(v) ?? null) !== null) svg.append(make("circle", { class: "dot", cx: x(i), cy: y(passed(v) * unit), r: 3.5 }, make("title", {}, `${DATE.format(t[i])}: ${say(v, passed(v) * unit)}`))); });
  const every = Math.max(1, Math.ceil(80 / step));
  let free = -1;
  for (let i = now < 0 ? values.length - 1 : now; i >= 0; i -= every) {
    const label = BRIEF.format(t[i]), width = label.length * 8, middle = Math.min(W - width / 2, Math.max(width / 2, x(i)));
    if (free >= 0 && middle + width / 2 > free) continue;
    free = middle - width / 2 - 6;
    svg.append(make("line", { class: "axis", x1: x(i), x2: x(i), y1: H - B, y2: H - B + 5 }), make("text", { x: middle, y: H - 6, "text-anchor": "middle" }, label));
  }
  return svg;
}
function ticks(from, to, width) {
  // starts of years, or of months if there is room; local days are near enough to UTC on an axis
  const span = (to - from) / 864e5, step = [1, 2, 3, 6, 12, 24, 60, 120].find(m => span / 30.4 / m <= width / 80) ?? 240, found = [];
  const d = new Date(from), first = new Date(Date.UTC(d.getUTCFullYear(), 0, 1));
  for (let m = 0; ; m += step) {
    const t = Date.UTC(first.getUTCFullYear(), m, 1);
    if (t > to) break;
    if (t >= from) found.push([t, new Date(t).toLocaleDateString(language, { ...(step < 12 ? { month: "short" } : {}), year: "numeric", timeZone: "UTC" })]);
  }
  return found.length ? found : [[from, DAY.format(from)], ...(to > from ? [[to, DAY.format(to)]] : [])];
}
function chart(values, last) {
  values = values.filter(v => v.quantity === last.quantity); // one axis, one quantity
  const W = Math.max(280, $("#dd").clientWidth), H = 240, L = 46, B = 26, t = values.map(v => Date.parse(v.acquired_at));
  const percent = inPercent(last), numbers = values.flatMap(v => [num(v, "_upper") ?? num(v) ?? 0]);
  const high = numbers.reduce((a, b) => Math.max(a, b), percent ? 40 : 1), tick = percent ? 10 : 0.2, top = Math.ceil(high / tick - 1e-9) * tick;
  const x = when => L + 6 + (W - L - 16) * (t.at(-1) === t[0] ? 0.5 : (when - t[0]) / (t.at(-1) - t[0]));
  const y = p => 10 + (H - B - 10) * (1 - p / top);
  const scale = texts[`scale.${last.quantity}`];
  const svg = make("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, height: H, "data-n": values.length, role: "img", "aria-label": `${text("history", { n: values.length })} (${scale})` });
  for (let p = 0; p <= top + 1e-9; p += tick) svg.append(
    make("line", { class: "axis", x1: L, x2: W - 10, y1: y(p), y2: y(p) }), make("text", { x: 0, y: y(p) + 4 }, percent ? `${p} %` : p.toLocaleString(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 })));
  const runs = [[]];
  values.forEach((v, i) => num(v) === null ? runs.push([]) : runs.at(-1).push(i));
  for (const run of runs.filter(r => r.length)) {
    const at = (end, some) => some.map(i => `${x(t[i]).toFixed(1)} ${y(num(values[i], end)).toFixed(1)}`).join("L");
    if (run.every(i => num(values[i], "_lower") !== null) && run.length > 1)
      svg.append(make("path", { class: "band", d: `M${at("_upper", run)}L${at("_lower", [...run].reverse())}z` }));
    svg.append(make("path", { class: "line", d: `M${at("", run)}` }));
  }
  const sparse = values.length * 4 < W;
  values.forEach((v, i) => {
    if (num(v) === null) svg.append(make("path", { class: "gap", d: `M${x(t[i]) - 3} ${H - B - 7}l6 6m0-6l-6 6` }));
    else if (sparse) svg.append(make("circle", { class: "dot", cx: x(t[i]), cy: y(num(v)), r: 3.5 }, make("title", {}, `${DAY.format(t[i])}: ${say(v, num(v))}`)));
  });
  let free = -1;
  for (const [when, label] of ticks(t[0], t.at(-1), W)) {
    const width = label.length * 8, middle = Math.min(W - width / 2, Math.max(width / 2, x(when)));
    if (middle - width / 2 < free) continue;
    free = middle + width / 2 + 8;
    svg.append(make("line", { class: "axis", x1: x(when), x2: x(when), y1: 10, y2: H - B }), make("text", { x: middle, y: H - 6, "text-anchor": "middle" }, label));
  }
  return svg;
}
start();
health().catch(() => {});
setInterval(refresh, REFRESH_MS);
addEventListener("visibilitychange", refresh);
