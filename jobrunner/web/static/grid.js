// The list: as many rows as are seen, moved and filled again while one scrolls.

import { clip, h, mark, say } from "./dom.js";
import { FINAL } from "./jobs.js";
import { bar, setBadge, setBar, badge, stepText } from "./status.js";
import { absolute, ago, duration, serverNow } from "./time.js";

const EXTRA = 6;
const narrow = matchMedia("(max-width: 640px)");

/** Rows in a window, for one list of them at a time. */
export class Grid {
  constructor(onOpen) {
    this.rows = [];
    this.pool = [];
    this.chosen = null;
    this.top = 0;
    this.tall = 0;
    this.onOpen = onOpen;
    this.body = h("div.rows", { role: "rowgroup" });
    const heads = ["Status", "Type", "Job", "Progress", "Took", "Age"];
    this.head = h("div.row.head", { role: "row", "aria-rowindex": 1 },
      heads.map((text) => h(`span.cell.c-${text.toLowerCase()}`, { role: "columnheader" }, text)));
    this.element = h("div.grid", {
      role: "grid", "aria-label": "Jobs, newest first", tabindex: 0, "aria-readonly": "true",
      onscroll: () => this.scrolled(), onkeydown: (event) => this.key(event),
    }, h("div.heads", { role: "rowgroup" }, this.head), this.body);
    new ResizeObserver(() => {
      this.tall = this.element.clientHeight;
      this.draw();
    }).observe(this.element);
    narrow.addEventListener("change", () => this.draw());
  }

  scrolled() {
    this.top = this.element.scrollTop;
    this.draw();
  }

  get height() {
    return narrow.matches ? 64 : 34;
  }

  /** Show these rows, newest first; who has scrolled down stays at the row that they look at. */
  show(rows) {
    const place = Math.floor(this.top / this.height);
    const held = this.top > 2 ? this.rows[place] : undefined;
    this.rows = rows;
    mark(this.element, "aria-rowcount", rows.length + 1);
    const height = `${rows.length * this.height}px`;
    if (this.body.style.height !== height) this.body.style.height = height;
    if (held !== undefined && rows[place] !== held) {
      const now = rows.indexOf(held);
      if (now >= 0) this.scroll(now * this.height + (this.top % this.height));
    }
    this.draw();
  }

  /** Scroll; what the browser knows of it is asked for only when it tells, since asking is slow. */
  scroll(top) {
    this.element.scrollTop = top;
    this.top = Math.max(0, Math.min(top, this.rows.length * this.height));
  }

  draw() {
    const first = Math.max(0, Math.floor(this.top / this.height) - EXTRA);
    const count = Math.ceil(this.tall / this.height) + 2 * EXTRA;
    const wanted = this.rows.slice(first, first + count);
    const lines = this.assign(wanted);
    this.arrange(lines);
    lines.forEach((line, i) => line.fill(wanted[i], first + i));
    mark(this.element, "aria-activedescendant", this.activeId());
  }

  /** Return a line for each job: the one that it has, or one that no other needs any more. */
  assign(wanted) {
    const known = new Map(this.pool.map((line) => [line.job, line]));
    const keep = new Set(wanted);
    this.free = this.pool.filter((line) => line.job === null || !keep.has(line.job));
    this.moved = new Set(this.free.map((line) => line.element));
    const lines = wanted.map((job) => known.get(job) ?? this.free.pop() ?? this.line());
    for (const line of this.free) line.hide();
    return lines;
  }

  line() {
    const made = new Row(this);
    this.pool.push(made);
    this.moved.add(made.element);
    return made;
  }

  /** Have the lines in the document in the order in which they are seen, moving few of them. */
  arrange(lines) {
    let place = this.body.firstChild;
    for (const { element } of lines) {
      while (place !== null && place !== element && this.moved.has(place)) {
        place = place.nextSibling;
      }
      if (place === element) place = place.nextSibling;
      else this.body.insertBefore(element, place);
    }
  }

  activeId() {
    const shown = this.pool.find((row) => row.job !== null && row.job === this.chosen);
    return shown?.element.id ?? null;
  }

  /** Have the chosen row one further down, or up, and in view. */
  move(by) {
    if (!this.rows.length) return;
    const now = this.rows.indexOf(this.chosen);
    const next = now < 0 ? 0 : Math.max(0, Math.min(this.rows.length - 1, now + by));
    this.chosen = this.rows[next];
    const top = next * this.height;
    const room = this.tall - this.head.offsetHeight - this.height;
    if (top < this.top) this.scroll(top);
    else if (top > this.top + room) this.scroll(top - room);
    this.draw();
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.tall / this.height) - 2);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page,
      Home: -this.rows.length, End: this.rows.length };
    if (event.key in moves) {
      event.preventDefault();
      this.move(moves[event.key]);
    }
  }

  open() {
    if (this.chosen !== null && !this.chosen.gone) this.onOpen(this.chosen);
  }
}

let count = 0;

/** One line, which is another job's after scrolling. */
class Row {
  constructor(grid) {
    this.grid = grid;
    this.job = null;
    this.badge = badge("pending");
    this.type = h("a.type", { tabindex: -1 });
    this.about = h("span.about");
    this.note = h("span.note");
    this.bar = bar("Progress");
    this.step = h("span.step");
    this.took = h("span.cell.c-took", { role: "gridcell" });
    this.age = h("time");
    count += 1;
    this.element = h("div.row", {
      role: "row", id: `row-${count}`, onclick: (event) => this.click(event),
    },
    h("span.cell.c-status", { role: "gridcell" }, this.badge),
    h("span.cell.c-type", { role: "gridcell" }, this.type),
    h("span.cell.c-job", { role: "gridcell" }, this.note, " ", this.about),
    h("span.cell.c-progress", { role: "gridcell" }, this.bar, " ", this.step),
    this.took,
    h("span.cell.c-age", { role: "gridcell" }, this.age));
  }

  click(event) {
    this.grid.chosen = this.job;
    if (event.target.closest("a") === null && getSelection().isCollapsed) this.grid.open();
  }

  hide() {
    this.job = null;
    this.element.hidden = true;
  }

  fill(job, place) {
    this.element.hidden = false;
    const top = `translateY(${place * this.grid.height}px)`;
    if (this.element.style.transform !== top) this.element.style.transform = top;
    mark(this.element, "aria-rowindex", place + 2);
    mark(this.element, "aria-selected", String(job === this.grid.chosen));
    if (this.job !== job || this.hay !== job.hay) this.fixed(job);
    this.job = job;
    setBadge(this.badge, job.status, job.stopping ? "Stopping" : "");
    say(this.note, clip(noteOf(job), 200));
    this.note.dataset.kind = job.question ? "question" : job.error ? "error" : "";
    this.progress(job);
    say(this.took, tookText(job));
    say(this.age, ago(job.created));
  }

  fixed(job) {
    this.hay = job.hay;
    say(this.type, job.type || "…");
    mark(this.type, "href", `#/jobs/${encodeURIComponent(job.id)}`);
    say(this.about, job.about);
    mark(this.age, "datetime", new Date(job.created).toISOString());
    mark(this.age, "title", absolute(job.created));
  }

  progress(job) {
    const shown = job.status === "running" || (!FINAL.has(job.status) && job.progress > 0);
    this.bar.hidden = !shown;
    const text = job.status === "running" || job.status === "input_required" ? stepText(job) : "";
    say(this.step, job.status === "retrying" && job.due ? `again ${ago(job.due)}` : text);
    if (shown) {
      setBar(this.bar, job.progress, text);
      this.bar.dataset.status = job.status;
    }
  }
}

function noteOf(job) {
  if (job.question) return job.question;
  if (job.error && job.status !== "completed") return job.error;
  return FINAL.has(job.status) ? "" : job.message ?? "";
}

function tookText(job) {
  if (job.started === null) return "";
  return duration((job.finished ?? serverNow()) - job.started);
}
