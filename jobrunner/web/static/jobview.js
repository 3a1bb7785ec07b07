// A job's page: how it stands, what it says, what it asks, and what can be done with it.

import { ask, base, exact, post } from "./api.js";
import { announce, fill, h, say } from "./dom.js";
import { Children, Deliveries, errorPanel, facts, jsonPanel, refreshTimes } from "./facts.js";
import { FINAL } from "./jobs.js";
import { Output } from "./output.js";
import { Questions } from "./questions.js";
import { badge, bar, label, setBadge, setBar, stepText } from "./status.js";
import { unexpected } from "./sync.js";
import { Timeline } from "./timeline.js";
import { at, duration, serverNow } from "./time.js";

const KINDS = ["status", "progress", "log", "output", "question", "answer", "gap", "done"];
const HIDDEN = 15_000;
const TEXTS = new Set(["log", "output"]);

/** The view of one job, live. */
export class JobView {
  constructor(app) {
    this.app = app;
  }

  async enter(id) {
    this.id = id;
    this.job = null;
    this.seq = 0;
    this.asked = 0;
    this.build();
    document.addEventListener("visibilitychange", this.seen = () => this.look());
    this.timer = setInterval(() => this.tick(), 1_000);
    this.unwatch = this.app.jobs.watch(() => this.children.draw());
    await this.load();
    if (this.job !== null && !this.left) {
      this.listen();
      this.children.load();
    }
    return this.element;
  }

  leave() {
    this.left = true;
    this.source?.close();
    clearInterval(this.timer);
    this.unwatch();
    document.removeEventListener("visibilitychange", this.seen);
    if ("highlights" in CSS) CSS.highlights.delete("found");
  }

  build() {
    this.title = h("h1", { tabindex: -1 });
    this.badge = badge("pending");
    this.bar = bar("Progress of the job");
    this.step = h("span.step");
    this.message = h("span.message");
    this.took = h("span.took");
    this.cancel = h("button", { type: "button", onclick: () => this.act("cancel") }, "Cancel");
    this.retry = h("button", { type: "button", onclick: () => this.act("retry") }, "Run again");
    this.forget = h("button.quiet", { type: "button", onclick: () => this.act("forget") },
      "Forget");
    this.fault = h("p.fault", { role: "alert", hidden: true });
    this.gone = h("p.banner", { role: "alert", hidden: true });
    this.questions = new Questions(this.id);
    this.output = new Output(this.id);
    this.timeline = new Timeline();
    this.children = new Children(this.app, this.id);
    this.deliveries = new Deliveries(this.id);
    this.facts = h("section.panel", { "aria-label": "Facts" });
    [this.error, this.result, this.params, this.metadata] = [1, 2, 3, 4].map(() => h("div"));
    this.element = h("article.jobview", {},
      h("a.back", { href: "#/", onclick: (event) => this.app.back(event) }, "← Jobs"),
      h("header.jobhead", {},
        h("div.titles", {}, this.badge, this.title, this.took),
        h("div.actions", {}, this.cancel, this.retry, this.forget),
        h("div.progress", {}, this.bar, this.step, this.message)),
      this.fault, this.gone, this.questions.element,
      h("div.columns", {},
        h("div.wide", {}, this.error, this.output.element, this.result, this.timeline.element),
        h("div.side", {}, this.facts, this.params, this.children.element, this.metadata,
          this.deliveries.element)));
  }

  /** Ask for the job as it stands: its events don't have all of it. */
  async load() {
    try {
      this.show(await ask(`jobs/${encodeURIComponent(this.id)}`));
      return true;
    } catch (error) {
      this.missing(unexpected(error));
      return false;
    }
  }

  missing(problem) {
    const words = {
      404: "There is no such job here. The server may have been started anew.",
      410: "This job has ended and is no longer kept.",
    };
    if (problem.status === 401) return;
    fill(this.gone, words[problem.status] ?? problem.message).hidden = false;
    if (!(problem.status in words)) return;
    this.source?.close();
    this.source = null;
    this.lost = true;
    say(this.title, this.title.textContent || this.id);
    for (const button of [this.cancel, this.retry, this.forget]) button.hidden = true;
    if (this.job === null) this.badge.hidden = true;
  }

  show(job) {
    if (this.job !== null && job.last_seq < this.job.last_seq) return;
    const old = this.job;
    this.job = job;
    this.gone.hidden = true;
    this.app.title(`${job.type}: ${label(job.status)}`);
    say(this.title, job.type);
    this.stand();
    this.questions.show(job.questions);
    fill(this.facts, h("div.panelhead", {}, h("h2", {}, "Facts")), facts(job));
    fill(this.error, job.error && job.status !== "completed" && errorPanel(job.error));
    fill(this.result, job.status === "completed" && jsonPanel("Result", job.result));
    if (old === null) {
      fill(this.params, jsonPanel("Params", job.params));
      fill(this.metadata, Object.keys(job.metadata).length > 0 &&
        jsonPanel("Metadata", job.metadata));
    }
    if (old === null || old.status !== job.status) this.deliveries.load();
    if (this.app.jobs.rows.has(job.job_id)) this.app.jobs.take(job);
  }

  stand() {
    const { job } = this;
    const final = FINAL.has(job.status);
    const stopping = job.cancel_requested_at !== null && !final;
    if (this.badge.dataset.status !== job.status && this.badge.dataset.known) {
      announce(`${job.type}: ${label(job.status)}`);
    }
    this.badge.dataset.known = "yes";
    setBadge(this.badge, job.status, stopping ? "Stopping" : "");
    setBar(this.bar, job.progress, stepText(job));
    this.bar.dataset.status = job.status;
    say(this.step, stepText(job));
    say(this.message, job.progress_message);
    this.cancel.hidden = final || stopping;
    this.retry.hidden = !final;
    this.forget.hidden = !final;
    this.tick();
  }

  tick() {
    if (this.job === null) return;
    const { created_at: created, started_at: started, finished_at: finished } = this.job;
    const end = at(finished) ?? serverNow();
    if (started) say(this.took, `${finished ? "took" : "for"} ${duration(end - at(started))}`);
    else say(this.took, finished ? "" : `waiting for ${duration(end - at(created))}`);
    refreshTimes(this.element);
  }

  listen() {
    this.source?.close();
    if (document.hidden) return; // look() comes back to it
    const after = this.seq ? `?after=${this.seq}` : "";
    const source = new EventSource(`${base}jobs/${encodeURIComponent(this.id)}/stream${after}`);
    this.source = source;
    source.addEventListener("snapshot", (event) => this.show(exact(event.data)));
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => this.event(kind, JSON.parse(event.data)));
    }
    source.addEventListener("error", () => {
      if (source === this.source && source.readyState === EventSource.CLOSED) this.closed();
    });
  }

  /** The stream was refused: the job may be gone, or the server away. */
  async closed() {
    if (this.left || this.job === null || this.over) return;
    await this.load();
    setTimeout(() => this.look(), 2_000);
  }

  event(kind, data) {
    if (data.seq <= this.seq) return;
    this.seq = data.seq;
    if (TEXTS.has(kind)) this.output.take(kind, data);
    else this.timeline.take(kind, data);
    if (kind === "gap") this.output.take("mark", `events ${data.from} to ${data.to} are missing`);
    if (kind === "status" && data.status === "running" && data.attempt > 1 &&
      !data.cancel_requested_at && data.attempt !== this.attempt) {
      this.output.take("mark", `attempt ${data.attempt}`);
    }
    if (kind === "status") this.attempt = data.attempt;
    if (kind === "progress" && data.seq > this.job.last_seq) this.progress(data);
    if (kind === "done") {
      this.over = true;
      this.source.close();
    }
    if (kind !== "progress" && !TEXTS.has(kind) && data.seq > this.job.last_seq) {
      this.wanted = data.seq;
      this.refresh();
    }
  }

  progress({ progress, progress_message, step }) {
    Object.assign(this.job, { progress, progress_message, step });
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.stand();
    });
  }

  /** Ask again, once for all that happens in a moment. */
  refresh() {
    if (this.refreshing) return;
    this.refreshing = true;
    setTimeout(async () => {
      const loaded = await this.load();
      this.refreshing = false;
      if (loaded && !this.left && this.wanted > this.job.last_seq) this.refresh();
    }, 50);
  }

  /** Look again: after a cut, when the page is seen again, when jobs have been pruned. */
  look() {
    clearTimeout(this.rest);
    if (this.left || this.lost) return;
    if (document.hidden) {
      this.rest = setTimeout(() => this.source?.close(), HIDDEN);
      return;
    }
    if (this.job === null) {
      this.app.route();
      return;
    }
    this.load();
    if (!this.over && this.source?.readyState !== EventSource.OPEN) this.listen();
  }

  async act(what) {
    const path = `jobs/${encodeURIComponent(this.id)}`;
    this.fault.hidden = true;
    const buttons = [this.cancel, this.retry, this.forget];
    for (const button of buttons) button.disabled = true;
    try {
      if (what === "cancel") this.show(await post(`${path}/cancel`));
      else if (what === "retry") {
        const job = await post(`${path}/retry`);
        this.app.jobs.take(job);
        this.app.go(`jobs/${encodeURIComponent(job.job_id)}`);
      } else {
        await ask(path, { method: "DELETE" });
        this.app.jobs.drop(this.id);
        announce("Forgotten");
        this.app.go("");
      }
    } catch (error) {
      fill(this.fault, unexpected(error).message).hidden = false;
      if ([404, 410].includes(error.status)) this.missing(error);
    }
    for (const button of buttons) button.disabled = false;
  }
}
