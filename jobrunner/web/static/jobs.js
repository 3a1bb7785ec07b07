// The jobs as the page knows them: lists bring them, events change them, and rows show them.

import { clip } from "./dom.js";
import { at } from "./time.js";

export const STATUSES = [
  "pending", "running", "retrying", "input_required", "completed", "failed", "cancelled",
];
export const FINAL = new Set(["completed", "failed", "cancelled"]);
/** Rows that are kept, the newest; as many as a runner keeps by default. */
export const MOST = 10_000;
const ORPHANS = 20_000;

/** All jobs, by id and in order. */
export class Jobs {
  constructor() {
    this.rows = new Map();
    this.order = [];
    this.counts = Object.fromEntries(STATUSES.map((status) => [status, 0]));
    this.stubs = new Set();
    this.orphans = new Map();
    this.loading = false;
    this.highest = 0;
    this.more = false;
    this.version = 0;
    this.watchers = new Set();
    this.waiting = false;
  }

  /** Have `watcher(this)` called in the next frame after anything has changed. */
  watch(watcher) {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }

  touched() {
    this.version += 1;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      for (const watcher of this.watchers) watcher(this);
    });
  }

  /** A job as the server has it; an older state than events have told of changes no status. */
  take(job, rank = null) {
    let row = this.rows.get(job.job_id);
    if (row === undefined) {
      row = { id: job.job_id, seq: 0, status: null, rank: rank ?? ++this.highest };
      this.add(row);
    } else if (rank !== null) {
      row.rank = rank;
    }
    this.stubs.delete(row.id);
    describe(row, job);
    if (job.last_seq >= row.seq) {
      row.seq = job.last_seq;
      this.stand(row, job.status);
      Object.assign(row, standing(job));
    }
    for (const [kind, data] of this.orphans.get(row.id) ?? []) this.change(row, kind, data);
    this.orphans.delete(row.id);
    this.touched();
    return row;
  }

  add(row) {
    this.rows.set(row.id, row);
    this.order.push(row);
    if (this.order.length > MOST * 1.1 && !this.loading) this.cut();
  }

  cut() {
    for (const row of this.order.splice(0, this.order.length - MOST)) this.lose(row);
    this.more = true;
  }

  lose(row) {
    this.rows.delete(row.id);
    this.stubs.delete(row.id);
    if (row.status !== null) this.counts[row.status] -= 1;
    row.gone = true;
  }

  /** Take a job away that the server no longer keeps. */
  drop(id) {
    const row = this.rows.get(id);
    if (row === undefined) return;
    this.lose(row);
    this.order.splice(this.order.indexOf(row), 1);
    this.touched();
  }

  /** An event of the feed; a job's first makes a row, whose details are asked for later. */
  event(kind, data) {
    let row = this.rows.get(data.job_id);
    if (row === undefined) {
      if (data.seq === 1) row = this.stub(data);
      else return this.orphan(kind, data);
    }
    this.change(row, kind, data);
    this.touched();
    return row;
  }

  stub(data) {
    const row = {
      id: data.job_id, seq: 0, status: null, rank: ++this.highest, type: "", about: "", hay: "",
      session: null, batch: null, parent: null, created: at(data.at), started: null,
      finished: null, due: null, attempt: 0, attempts: 1, progress: 0, message: null, step: null,
      error: null, question: null, stopping: false, bulk: false,
    };
    this.add(row);
    this.stubs.add(row.id);
    return row;
  }

  orphan(kind, data) {
    if (!this.loading || this.orphans.size > ORPHANS) return null;
    const events = this.orphans.get(data.job_id) ?? [];
    events.push([kind, data]);
    this.orphans.set(data.job_id, events);
    return null;
  }

  change(row, kind, data) {
    if (data.seq <= row.seq) return;
    row.seq = data.seq;
    if (kind === "progress") {
      row.progress = data.progress;
      row.message = data.progress_message;
      row.step = data.step;
    } else if (kind === "question") {
      row.question = data.prompt;
    } else if (kind === "status" || kind === "done") {
      this.turn(row, kind, data);
    }
  }

  turn(row, kind, data) {
    this.stand(row, data.status);
    if (data.status !== "input_required") row.question = null;
    if (data.status === "running" && data.attempt > row.attempt) {
      Object.assign(row, { progress: 0, message: null, step: null });
    }
    if (data.status === "running") row.started ??= at(data.at);
    row.attempt = data.attempt ?? row.attempt;
    row.due = at(data.next_attempt_at ?? null);
    row.stopping = Boolean(data.cancel_requested_at) && kind !== "done";
    if ("error" in data) row.error = data.error?.title ?? null;
    if (kind !== "done") return;
    row.finished = at(data.at);
    if (data.status === "completed") row.progress = 100;
  }

  stand(row, status) {
    if (row.status === status) return;
    if (row.status !== null) this.counts[row.status] -= 1;
    row.status = status;
    this.counts[status] += 1;
  }

  /** Begin a walk over all that the server has; return what ends it. */
  walk() {
    this.loading = true;
    const top = this.highest;
    const before = [...this.rows.values()].filter((row) => !this.stubs.has(row.id));
    const seen = new Set();
    let place = 0;
    return {
      take: (job) => {
        seen.add(job.job_id);
        this.take(job, top - place);
        place += 1;
      },
      end: (more) => {
        this.loading = false;
        this.orphans.clear();
        for (const row of before) if (!seen.has(row.id)) this.lose(row);
        this.order = [...this.rows.values()].sort((a, b) => a.rank - b.rank);
        this.more = more;
        this.touched();
      },
      peek: () => this.order.sort((a, b) => a.rank - b.rank),
    };
  }
}

function describe(row, job) {
  row.type = job.type;
  row.session = job.session_id;
  row.batch = job.batch_id;
  row.parent = job.parent_id;
  row.created = at(job.created_at);
  row.attempts = job.max_attempts;
  row.bulk = job.omitted?.includes("params") ?? false;
  row.about = row.bulk ? "(large params)" : about(job.params);
  const said = Object.keys(job.metadata).length ? JSON.stringify(job.metadata) : "";
  row.hay = [job.type, job.job_id, job.session_id, job.batch_id, row.about, said]
    .join("\n").toLowerCase();
}

function standing(job) {
  return {
    attempt: job.attempt,
    progress: job.progress,
    message: job.progress_message,
    step: job.step,
    started: at(job.started_at),
    finished: at(job.finished_at),
    due: at(job.next_attempt_at ?? job.run_at),
    error: job.error?.title ?? null,
    question: job.question?.prompt ?? null,
    stopping: job.cancel_requested_at !== null && job.finished_at === null,
  };
}

/** Return params in a line: `path=a.pdf model=small`. */
function about(params) {
  const parts = Object.entries(params)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => {
      const text = typeof value === "string" ? value : JSON.stringify(value);
      return `${name}=${clip(text.replace(/\s+/g, " "), 120)}`;
    });
  return clip(parts.join("  "), 300);
}

/** Return whether a row fits a filter; an empty one fits all. */
export function fits(row, { status, type, session, batch, parent, text }) {
  if (status && row.status !== status) return false;
  if (type && row.type !== type) return false;
  if (session && row.session !== session) return false;
  if (batch && row.batch !== batch) return false;
  if (parent && row.parent !== parent) return false;
  if (!text) return true;
  const said = `${row.message ?? ""}\n${row.error ?? ""}\n${row.question ?? ""}`;
  return row.hay.includes(text) || said.toLowerCase().includes(text);
}
