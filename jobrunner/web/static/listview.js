// The view of many jobs: what they are narrowed down by, how they do, and the list of them.

import { withQuery } from "./api.js";
import { Charts } from "./charts.js";
import { fill, h, mark, newId, say } from "./dom.js";
import { Grid } from "./grid.js";
import { STATUSES, fits } from "./jobs.js";
import { badge } from "./status.js";

const NAMES = ["status", "type", "session", "batch", "parent", "text"];

/** What the list is narrowed down by, which stands in the page's address. */
export class ListView {
  constructor(app) {
    this.app = app;
    this.filter = {};
    this.shown = [];
    this.version = -1;
    this.grid = new Grid((row) => app.go(`jobs/${encodeURIComponent(row.id)}`));
    this.charts = new Charts();
    this.count = h("p.count", { role: "status" });
    this.empty = h("div.empty", { hidden: true });
    this.note = h("p.more", { hidden: true });
    this.search = h("input", { type: "search", placeholder: "Search  /", "aria-label":
      "Search in jobs", autocomplete: "off", spellcheck: "false",
    oninput: () => this.set("text", this.search.value.trim(), true) });
    this.types = this.select("type", "All types");
    this.sessions = this.select("session", "All sessions");
    this.chips = new Map(STATUSES.map((status) => [status, this.chip(status)]));
    this.scope = h("span.scope", { hidden: true });
    this.head = h("div.listhead");
    this.element = h("div.listview", {},
      this.charts.element, this.head,
      h("div.filters", { role: "search" },
        h("div.chips", { role: "group", "aria-label": "Status" }, [...this.chips.values()]),
        this.search, this.types, this.sessions, this.scope, this.count),
      this.note, this.grid.element, this.empty);
    this.drawn = 0;
  }

  select(name, all) {
    const made = h("select", { "aria-label": all.replace("All ", "Only of ").replace(/s$/, ""),
      onchange: () => this.set(name, made.value) }, h("option", { value: "" }, all));
    made.all = all;
    return made;
  }

  chip(status) {
    const number = h("span.number");
    const made = h("button.chip", { type: "button", "aria-pressed": "false",
      onclick: () => this.set("status", this.filter.status === status ? "" : status) },
    badge(status), " ", number);
    made.number = number;
    return made;
  }

  /** Narrow down by something, in the address too; typing makes no history. */
  set(name, value, typing = false) {
    const next = { ...this.filter, [name]: value };
    if (name === "text") next.text = value.toLowerCase();
    const own = NAMES.filter((key) => !(key in this.fixed));
    const query = Object.fromEntries(own.map((key) => [key, next[key] ?? ""]));
    this.app.go(withQuery(this.place, query), typing);
  }

  /** Come to this view with a filter; `head` is what stands above the list. */
  enter(query, { place = "", head = null, fixed = {} } = {}) {
    this.place = place;
    this.filter = { ...Object.fromEntries(NAMES.map((key) => [key, query.get(key) ?? ""])),
      ...fixed };
    this.fixed = fixed;
    if (this.search.value.trim().toLowerCase() !== this.filter.text) {
      this.search.value = this.filter.text;
    }
    fill(this.head, head ?? h("h1.unseen", {}, "Jobs"));
    this.charts.element.hidden = head !== null;
    this.version = -1;
    this.stop = this.app.jobs.watch(() => this.draw());
    this.timer = setInterval(() => this.tick(), 1_000);
    this.draw();
    this.tick();
    return this.element;
  }

  leave() {
    this.stop?.();
    clearInterval(this.timer);
  }

  tick() {
    if (document.hidden) return;
    this.charts.draw(this.app.jobs, this.app.sync.stats);
    this.options(this.types, "type");
    this.options(this.sessions, "session");
    this.grid.draw();
  }

  options(select, name) {
    if (document.activeElement === select) return;
    const found = new Set(this.app.jobs.order.map((row) => row[name]).filter(Boolean));
    if (this.filter[name]) found.add(this.filter[name]);
    const values = [...found].sort().slice(0, 500);
    const known = [...select.options].slice(1).map((option) => option.value);
    if (known.join("\n") !== values.join("\n")) {
      fill(select, h("option", { value: "" }, select.all),
        values.map((value) => h("option", { value }, value.slice(0, 60))));
    }
    select.value = this.filter[name] ?? "";
    select.hidden = values.length === 0 || "batch" in this.fixed;
  }

  draw() {
    const { jobs } = this.app;
    if (this.version !== jobs.version) {
      this.version = jobs.version;
      this.shown = this.found();
    }
    for (const [status, chip] of this.chips) {
      say(chip.number, this.counts[status].toLocaleString());
      mark(chip, "aria-pressed", String(this.filter.status === status));
      mark(chip, "data-none", this.counts[status] === 0);
    }
    this.words();
    this.grid.show(this.shown);
    const asking = jobs.counts.input_required;
    if (this.place === "") this.app.title(asking ? `${asking} to answer` : "");
  }

  /** Return what fits, newest first, and count what would with each status. */
  found() {
    const { order } = this.app.jobs;
    const { status, ...others } = this.filter;
    const found = [];
    this.counts = Object.fromEntries(STATUSES.map((each) => [each, 0]));
    for (let i = order.length - 1; i >= 0; i -= 1) {
      if (!fits(order[i], others)) continue;
      this.counts[order[i].status] += 1;
      if (!status || order[i].status === status) found.push(order[i]);
    }
    return found;
  }

  words() {
    const { jobs, sync } = this.app;
    const all = jobs.order.length;
    const some = this.shown.length;
    const number = (n) => n.toLocaleString();
    const part = some === all ? "" : `${number(some)} of `;
    say(this.count, `${part}${number(all)} ${all === 1 ? "job" : "jobs"}`);
    this.note.hidden = !jobs.more;
    if (jobs.more) say(this.note, `The newest ${number(all)} jobs; older ones aren't listed here.`);
    const { parent } = this.filter;
    this.scope.hidden = !parent || "batch" in this.fixed;
    if (parent) {
      fill(this.scope, "sub-jobs of ", h("a", { href: `#/jobs/${parent}` }, parent.slice(0, 12)));
    }
    this.empty.hidden = some > 0;
    this.grid.element.hidden = some === 0;
    const state = sync.failed && !sync.ready ? "failed" : !sync.ready ? "loading" : all ? "none"
      : "no jobs";
    if (some === 0 && this.empty.dataset.state !== `${state}${this.place}`) {
      this.empty.dataset.state = `${state}${this.place}`;
      fill(this.empty, this.nothing(state));
    }
  }

  nothing(state) {
    if (state === "loading") return h("p", {}, "Loading jobs …");
    if (state === "failed") return h("p", {}, "The jobs couldn't be loaded. Trying again …");
    if (state === "none") {
      return [h("p", {}, "No job fits."), h("button", { type: "button",
        onclick: () => this.app.go(this.place) }, "Show all jobs")];
    }
    const id = newId("how");
    return [h("h2", { id }, "No jobs yet"),
      h("p", {}, "Submit one ", h("a", { href: "#/new" }, "with a form"),
        " (n), or from elsewhere:"),
      h("pre", { tabindex: 0, "aria-labelledby": id },
        `curl -X POST ${location.origin}${this.app.base}jobs \\\n` +
        '  -H "Authorization: Bearer $JOBRUNNER_TOKEN" -H "Content-Type: application/json" \\\n' +
        '  -d \'{"type": "...", "params": {}}\'\n\njobrunner submit TYPE key=value\n\n' +
        'await runner.submit("...", {})'),
      h("p", {}, "It appears here at once.")];
  }
}
