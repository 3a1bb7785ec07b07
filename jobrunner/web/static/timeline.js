// A job's events in the order in which they came: what happened when, and how long after the start.

import { clip, h } from "./dom.js";
import { label } from "./status.js";
import { absolute, at, clock, duration } from "./time.js";

const MOST = 400;

/** The panel with the events that aren't output. */
export class Timeline {
  constructor() {
    this.list = h("ol.events");
    this.begun = null;
    this.pending = [];
    this.left = 0;
    this.note = h("p.hint", { hidden: true });
    this.element = h("section.panel", { "aria-label": "Timeline" },
      h("div.panelhead", {}, h("h2", {}, "Timeline")), this.note, this.list);
  }

  take(kind, data) {
    const last = this.pending.at(-1);
    if (kind === "progress" && last?.[0] === "progress") this.pending.pop();
    this.pending.push([kind, data]);
    if (!this.asked) {
      this.asked = true;
      requestAnimationFrame(() => this.flush());
    }
  }

  flush() {
    this.asked = false;
    for (const [kind, data] of this.pending) this.put(kind, data);
    this.pending = [];
    for (let left = this.list.childElementCount - MOST; left > 0; left -= 1) {
      this.list.firstElementChild.remove();
      this.left += 1;
    }
    this.note.hidden = this.left === 0;
    this.note.textContent = `${this.left.toLocaleString()} older events aren't shown`;
  }

  put(kind, data) {
    const ms = at(data.at);
    this.begun ??= ms;
    const words = wordsOf(kind, data);
    if (words === null) return;
    const [text, more, status] = words;
    const last = this.list.lastElementChild;
    const made = h("li", { "data-kind": kind, "data-status": status ?? null },
      h("time", { datetime: data.at, title: absolute(ms) }, clock(ms)),
      h("span.after", {}, `+${duration(ms - this.begun)}`),
      h("span.what", {}, text, " ", more && h("span.extra", {}, clip(String(more), 500))));
    if (kind === "progress" && last?.dataset.kind === "progress") last.replaceWith(made);
    else this.list.append(made);
  }
}

function wordsOf(kind, data) {
  if (kind === "progress") {
    const { step } = data;
    const how = step ? `Step ${step.current} of ${step.total}` : `${Math.round(data.progress)} %`;
    return [how, data.progress_message];
  }
  if (kind === "question") return [`Asked (${data.question_id})`, data.prompt, "input_required"];
  if (kind === "answer") {
    return [`Answered by ${data.by} (${data.question_id})`, JSON.stringify(data.value)];
  }
  if (kind === "done") return [label(data.status), data.error?.title, data.status];
  if (kind === "gap") return ["Events are missing", `${data.from} to ${data.to}`];
  if (kind !== "status") return null;
  return statusWords(data);
}

function statusWords(data) {
  const { status, attempt } = data;
  if (data.cancel_requested_at) {
    return ["Asked to stop", data.cancel_note ?? data.cancel_reason, "cancelled"];
  }
  if (status === "running") return [attempt > 1 ? `Running, attempt ${attempt}` : "Running", null,
    status];
  if (status === "retrying") {
    const wait = at(data.next_attempt_at) - at(data.at);
    return [`Attempt ${attempt} failed; again in ${duration(wait)}`, data.error?.title, status];
  }
  if (status === "pending") {
    return [data.seq === 1 ? "Submitted" : "Back in the queue", null, status];
  }
  return [label(status), null, status];
}
