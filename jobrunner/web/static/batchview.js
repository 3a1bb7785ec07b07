// Batches: the list of those whose jobs are known, and one of them with its jobs.

import { ask, post } from "./api.js";
import { announce, clip, fill, h, mark, say } from "./dom.js";
import { STATUSES } from "./jobs.js";
import { label } from "./status.js";
import { unexpected } from "./sync.js";
import { absolute, ago, at, duration } from "./time.js";

const LISTED = 100;
const AGAIN = 500;

/** Return a bar with a part for each status, and the counts beside it. */
function parts(batch) {
  const some = STATUSES.filter((status) => batch.counts[status]);
  const words = some.map((status) => `${batch.counts[status]} ${label(status).toLowerCase()}`);
  const stack = h("span.stack", { role: "img", "aria-label": words.join(", ") || "no jobs" });
  for (const status of some) {
    const part = h("span", { "data-status": status });
    part.style.flexGrow = batch.counts[status];
    stack.append(part);
  }
  return stack;
}

/** A batch as it stands, asked for again when jobs of it change, twice a second at most. */
class Live {
  constructor(app, id, shown) {
    this.app = app;
    this.id = id;
    this.shown = shown;
    this.drawn = null;
    this.batch = null;
    this.wait = 0;
  }

  /** `state` says whether anything has changed: a text that differs then. */
  look(state) {
    this.state = state;
    if (state === this.drawn || this.asking || this.gone) return;
    this.asking = true;
    setTimeout(() => this.load(), this.wait);
    this.wait = AGAIN;
  }

  async load() {
    const { state } = this;
    try {
      this.batch = await ask(`batches/${encodeURIComponent(this.id)}`);
      this.drawn = state;
      this.shown(this.batch, null);
    } catch (error) {
      const problem = unexpected(error);
      this.gone = [404, 410].includes(problem.status);
      this.shown(this.batch, problem);
    }
    this.asking = false;
    if (state === this.drawn) this.look(this.state); // which may be another one meanwhile
  }
}

/** Return of each batch how its known jobs stand, as a text; the newest first. */
function states(jobs) {
  const found = new Map();
  for (let i = jobs.order.length - 1; i >= 0; i -= 1) {
    const { batch, status } = jobs.order[i];
    if (batch === null) continue;
    if (!found.has(batch)) found.set(batch, {});
    const counts = found.get(batch);
    counts[status] = (counts[status] ?? 0) + 1;
  }
  return new Map([...found].map(([id, counts]) => [id, JSON.stringify(counts)]));
}

/** The view of all batches. */
export class BatchesView {
  constructor(app) {
    this.app = app;
  }

  enter() {
    this.items = new Map();
    this.list = h("ul.batches", { "aria-label": "Batches, newest first" });
    this.empty = h("div.empty", {}, h("h2", {}, "No batches"),
      h("p", {}, "Many jobs that are submitted, watched and cancelled as one: ",
        h("code", {}, "POST /batches"), " or ", h("code", {}, "runner.submit_batch(type, [...])"),
        "."));
    this.stop = this.app.jobs.watch(() => this.draw());
    this.app.title("Batches");
    this.draw();
    return h("div.narrow", {}, h("h1", {}, "Batches"), this.list, this.empty);
  }

  leave() {
    this.stop();
  }

  draw() {
    const found = [...states(this.app.jobs)].slice(0, LISTED);
    this.empty.hidden = found.length > 0;
    const nodes = found.map(([id, state]) => {
      const item = this.items.get(id) ?? this.item(id);
      item.live.look(state);
      return item.element;
    });
    const same = nodes.length === this.list.children.length &&
      nodes.every((node, i) => node === this.list.children[i]);
    if (!same) fill(this.list, nodes);
  }

  item(id) {
    const element = h("li.batch", {}, h("a", { href: `#/batches/${encodeURIComponent(id)}` },
      clip(id, 16)));
    const live = new Live(this.app, id, (batch) => batch && fill(element,
      h("a", { href: `#/batches/${encodeURIComponent(id)}` }, batch.type),
      h("code.id", {}, clip(id, 14)), parts(batch),
      h("span.words", {}, batch.progress_message),
      h("time", { title: absolute(at(batch.created_at)) }, ago(at(batch.created_at)))));
    const item = { element, live };
    this.items.set(id, item);
    return item;
  }
}

/** What stands above the list of a batch's jobs. */
export class BatchHead {
  constructor(app, id) {
    this.app = app;
    this.id = id;
    this.bar = h("div.stackplace");
    this.title = h("h1", { tabindex: -1 }, "Batch");
    this.words = h("p.words");
    this.cancel = h("button", { type: "button", hidden: true, onclick: () => this.stop() },
      "Cancel all");
    this.fault = h("p.fault", { role: "alert", hidden: true });
    this.element = h("section.batchhead", { "aria-label": "Batch" },
      h("a.back", { href: "#/batches" }, "← Batches"),
      h("header.jobhead", {}, h("div.titles", {}, this.title, h("code.id", {}, id)),
        h("div.actions", {}, this.cancel)),
      this.bar, this.words, this.fault);
    this.live = new Live(app, id, (batch, problem) => this.show(batch, problem));
    this.unwatch = app.jobs.watch(() => this.draw());
    this.draw();
  }

  leave() {
    this.unwatch();
  }

  draw() {
    this.live.look(states(this.app.jobs).get(this.id) ?? "none");
  }

  show(batch, problem) {
    this.fault.hidden = problem === null;
    if (problem !== null) fill(this.fault, problem.message);
    if (batch === null) return;
    say(this.title, batch.type);
    this.app.title(`Batch of ${batch.type}: ${batch.progress_message}`);
    fill(this.bar, parts(batch));
    const took = at(batch.finished_at ?? batch.updated_at) - at(batch.created_at);
    const ended = batch.finished_at ? `, in ${duration(took)}` : "";
    say(this.words, `${batch.progress_message}${ended}`);
    this.cancel.hidden = batch.finished_at !== null || batch.cancel_requested_at !== null;
    mark(this.element, "data-final", batch.finished_at !== null);
  }

  async stop() {
    this.cancel.disabled = true;
    try {
      this.show(await post(`batches/${encodeURIComponent(this.id)}/cancel`), null);
      announce("The batch is asked to stop");
    } catch (error) {
      this.show(this.live.batch, unexpected(error));
    }
    this.cancel.disabled = false;
  }
}
