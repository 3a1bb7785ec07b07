// What is known of a job beside its story: times, limits, links to others, params and result.

import { ask, post, withQuery } from "./api.js";
import { announce, clip, fill, h } from "./dom.js";
import { tree } from "./json.js";
import { badge } from "./status.js";
import { unexpected } from "./sync.js";
import { absolute, ago, at, duration } from "./time.js";

const LISTED = 50;
const AGAIN = 2_000;

/** Return a panel with a heading. */
export function panel(name, ...children) {
  return h("section.panel", { "aria-label": name },
    h("div.panelhead", {}, h("h2", {}, name)), ...children);
}

const told = (ms) => {
  const text = ago(ms);
  return text === "now" || text.startsWith("in ") ? text : `${text} ago`;
};

const time = (text) => {
  const ms = at(text);
  return h("time", { datetime: text, title: absolute(ms), "data-ms": ms }, told(ms));
};

/** Return the list of facts; those that there are none of stay away. */
export function facts(job) {
  const to = (path, text) => h("a", { href: `#/${path}` }, clip(text, 16));
  const entries = [
    ["Id", h("code.id", {}, job.job_id)],
    ["Created", time(job.created_at)],
    job.started_at && ["Started", time(job.started_at)],
    job.finished_at && ["Ended", time(job.finished_at)],
    job.run_at && !job.started_at && ["Runs", time(job.run_at)],
    job.next_attempt_at && ["Next attempt", time(job.next_attempt_at)],
    job.expires_at && !job.started_at && ["Expires", time(job.expires_at)],
    job.deadline_at && ["Deadline", time(job.deadline_at)],
    ["Attempt", `${job.attempt} of ${job.max_attempts}`],
    job.timeout && ["Time limit", duration(job.timeout * 1000)],
    job.priority !== 0 && ["Priority", String(job.priority)],
    job.cancel_reason && ["Cancelled by", job.cancel_reason],
    job.cancel_note && ["Reason", job.cancel_note],
    job.session_id && ["Session", h("a",
      { href: `#/${withQuery("", { session: job.session_id })}` }, job.session_id)],
    job.batch_id && ["Batch", to(`batches/${job.batch_id}`, job.batch_id)],
    job.parent_id && ["Parent", to(`jobs/${job.parent_id}`, job.parent_id)],
    job.retry_of && ["Retry of", to(`jobs/${job.retry_of}`, job.retry_of)],
  ].filter(Boolean);
  return h("dl.facts", {}, entries.map(([name, value]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Bring the relative times in an element up to now. */
export function refreshTimes(element) {
  for (const each of element.querySelectorAll("time[data-ms]")) {
    const text = told(Number(each.dataset.ms));
    if (each.textContent !== text) each.textContent = text;
  }
}

/** Return why a job failed, or why its last attempt did. */
export function errorPanel(error) {
  return panel("Error",
    h("p.errorhead", {}, h("strong", {}, error.type), " ", h("span.tag", {}, error.reason),
      error.attempt > 0 && h("span.tag", {}, `attempt ${error.attempt}`),
      error.retryable && h("span.tag", {}, "may be tried again")),
    h("pre.detail", { tabindex: 0, "aria-label": "Error" }, error.detail),
    error.traceback && h("details", {}, h("summary", {}, "Traceback"),
      h("pre.detail", { tabindex: 0, "aria-label": "Traceback" }, error.traceback)));
}

/** Return a panel with a JSON value, and a button that copies it. */
export function jsonPanel(name, value) {
  const copy = h("button.quiet", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(JSON.stringify(value, null, 2));
      announce(`${name} copied`);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Can't copy here";
    }
    setTimeout(() => (copy.textContent = "Copy"), 1_500);
  } }, "Copy");
  const made = panel(name, h("div.tree", { tabindex: 0, role: "group", "aria-label": name },
    tree(value)));
  made.firstChild.append(copy);
  return made;
}

/** The webhooks of a job; nothing while it has none. */
export class Deliveries {
  constructor(id) {
    this.path = `jobs/${encodeURIComponent(id)}/deliveries`;
    this.element = panel("Webhooks", (this.list = h("ul.deliveries")));
    this.fault = h("p.fault", { role: "alert", hidden: true });
    this.element.append(this.fault);
    this.element.hidden = true;
  }

  async load() {
    try {
      const { deliveries } = await ask(this.path);
      this.element.hidden = deliveries.length === 0;
      fill(this.list, deliveries.map((each) => this.item(each)));
      clearTimeout(this.timer);
      const waiting = deliveries.some(({ status }) => status === "pending");
      if (waiting && this.element.isConnected) this.timer = setTimeout(() => this.load(), AGAIN);
    } catch (error) {
      unexpected(error);
    }
  }

  item(each) {
    const looks = { pending: "pending", delivered: "completed", dead: "failed" };
    const tried = `${each.attempts} ${each.attempts === 1 ? "try" : "tries"}`;
    return h("li", {}, badge(looks[each.status] ?? "cancelled"), h("strong", {}, each.event),
      h("span.url", {}, each.url),
      h("span.hint", {}, [tried, each.status_code && `HTTP ${each.status_code}`, each.error]
        .filter(Boolean).join(", ")),
      each.status !== "pending" && h("button.quiet", { type: "button",
        onclick: () => this.resend(each.delivery_id) }, "Send again"));
  }

  async resend(id) {
    try {
      await post(`${this.path}/${encodeURIComponent(id)}/resend`);
      this.fault.hidden = true;
    } catch (error) {
      fill(this.fault, unexpected(error).message).hidden = false;
    }
    await this.load();
  }
}

/** The jobs that this one has submitted, live from what the page knows. */
export class Children {
  constructor(app, id) {
    this.app = app;
    this.id = id;
    this.older = new Map();
    this.list = h("ul.children");
    this.more = h("a", { href: `#/${withQuery("", { parent: id })}` });
    this.element = panel("Sub-jobs", this.list, this.more);
    this.element.hidden = true;
  }

  /** Older ones may not be in the list of all jobs. */
  async load() {
    try {
      const query = { parent_id: this.id, limit: LISTED, brief: "true" };
      for (const job of (await ask(withQuery("jobs", query))).jobs.reverse()) {
        this.older.set(job.job_id, { id: job.job_id, type: job.type, status: job.status,
          about: "" });
      }
      this.draw();
    } catch (error) {
      unexpected(error);
    }
  }

  draw() {
    const known = this.app.jobs.order.filter((row) => row.parent === this.id);
    const older = [...this.older.values()].filter(({ id }) => !this.app.jobs.rows.has(id));
    const rows = [...older, ...known];
    this.element.hidden = rows.length === 0;
    const text = rows.slice(-LISTED).map((row) => `${row.id}${row.status}`).join();
    if (text === this.drawn) return;
    this.drawn = text;
    fill(this.list, rows.slice(-LISTED).reverse().map((row) => h("li", {}, badge(row.status),
      h("a", { href: `#/jobs/${encodeURIComponent(row.id)}` }, row.type || row.id),
      h("span.about", {}, row.about))));
    fill(this.more, `Show all ${rows.length} in the list`);
  }
}
