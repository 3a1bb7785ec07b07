// Four small charts of the last five minutes, made of the jobs themselves.

import { h, mark, say, svg } from "./dom.js";
import { duration, serverNow } from "./time.js";

export const BUCKETS = 60;
const WIDTH = 5_000;
const WIDE = 120;
const HIGH = 28;

/**
 * Return what the jobs say of the last five minutes, in slices of five seconds, the oldest first:
 * how many waited at the end of each, how many ended and failed, and how long the middle one of
 * those that started waited, and of those that ended ran (milliseconds; null for none).
 */
export function measure(rows, now) {
  const begin = (Math.floor(now / WIDTH) - BUCKETS + 1) * WIDTH;
  const slice = (ms) => Math.floor((ms - begin) / WIDTH);
  const steps = new Array(BUCKETS + 1).fill(0);
  const ended = new Array(BUCKETS).fill(0);
  const failed = new Array(BUCKETS).fill(0);
  const waits = Array.from({ length: BUCKETS }, () => []);
  const runs = Array.from({ length: BUCKETS }, () => []);
  for (const row of rows) {
    const left = row.started ?? row.finished;
    if (left === null || left >= begin) {
      steps[Math.max(0, slice(row.created))] += 1;
      if (left !== null && slice(left) < BUCKETS) steps[Math.max(0, slice(left))] -= 1;
    }
    if (row.started !== null) into(waits, slice(row.started), row.started - row.created);
    if (row.finished === null || !(slice(row.finished) in ended)) continue;
    ended[slice(row.finished)] += 1;
    if (row.status === "failed") failed[slice(row.finished)] += 1;
    if (row.started !== null) into(runs, slice(row.finished), row.finished - row.started);
  }
  let depth = 0;
  const queue = ended.map((_, i) => (depth += steps[i]));
  return { queue, ended, failed, waits: waits.map(middle), runs: runs.map(middle) };
}

function into(slices, place, value) {
  if (place in slices) slices[place].push(Math.max(0, value));
}

function middle(values) {
  if (!values.length) return null;
  return values.sort((a, b) => a - b)[values.length >> 1];
}

/** The strip with the charts; `draw(jobs, stats)` once a second is enough. */
export class Charts {
  constructor() {
    this.charts = {
      queue: new Chart("Waiting", (n) => String(n)),
      ended: new Chart("Ended", (n) => `${(n / (WIDTH / 1000)).toFixed(n && n < 50 ? 1 : 0)}/s`),
      waits: new Chart("Wait", duration),
      runs: new Chart("Run time", duration),
    };
    this.element = h("section.charts", { "aria-label": "The last five minutes" },
      Object.values(this.charts).map((chart) => chart.element));
  }

  draw(jobs, stats) {
    const found = measure(jobs.order, serverNow());
    const waiting = stats?.jobs?.pending ?? jobs.counts.pending;
    this.charts.queue.draw(found.queue, jobs.more ? waiting : jobs.counts.pending);
    this.charts.ended.draw(found.ended, found.ended.at(-2), found.failed);
    this.charts.waits.draw(found.waits, newest(found.waits));
    this.charts.runs.draw(found.runs, newest(found.runs));
  }
}

const newest = (values) => values.findLast((value) => value !== null) ?? null;

class Chart {
  constructor(name, format) {
    this.name = name;
    this.format = format;
    this.line = svg("path", { class: "line" });
    this.area = svg("path", { class: "area" });
    this.bad = svg("path", { class: "bad" });
    this.picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none",
      "aria-hidden": "true", focusable: "false" }, this.area, this.bad, this.line);
    this.value = h("span.now");
    this.peak = h("span.peak");
    this.element = h("div.chart", { role: "group", "aria-label": name },
      h("span.name", {}, name), this.value, this.picture, this.peak);
  }

  draw(values, now, bad = null) {
    const most = Math.max(...values.map((value) => value ?? 0), 0);
    const shown = now === null || now === undefined ? "–" : this.format(now);
    say(this.value, shown);
    say(this.peak, most ? `max ${this.format(most)}` : "");
    mark(this.element, "aria-label",
      `${this.name}: ${now === null ? "none" : shown}, at most ${this.format(most)}`);
    const path = pathOf(values, most);
    mark(this.line, "d", path);
    mark(this.area, "d", path && `${path}V${HIGH}H${startOf(values)}Z`);
    mark(this.bad, "d", bad === null ? "" : barsOf(bad, most));
  }
}

const across = (i) => ((i * WIDE) / (BUCKETS - 1)).toFixed(1);
const startOf = (values) => across(Math.max(0, values.findIndex((value) => value !== null)));

/** Return the line through what there is; a slice with nothing is passed over. */
function pathOf(values, most) {
  const points = values.flatMap((value, i) => {
    if (value === null) return [];
    return [`${across(i)} ${(HIGH - 1 - (most ? (value / most) * (HIGH - 3) : 0)).toFixed(1)}`];
  });
  return points.length ? `M${points.join("L")}${points.length === 1 ? "h.1" : ""}` : "";
}

function barsOf(values, most) {
  return values.flatMap((value, i) =>
    value ? [`M${across(i)} ${HIGH}V${(HIGH - 1 - (value / most) * (HIGH - 3)).toFixed(1)}`] : [],
  ).join("");
}
