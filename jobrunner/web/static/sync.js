// Keeps the jobs what the server has: all of them at first, and what events leave open.

import { Problem, ask, withQuery } from "./api.js";
import { MOST } from "./jobs.js";

const PAGE = 200;
const STUBS = 100;
const STATS = 5_000;
const SWEEP = 60_000;

export class Sync {
  constructor(jobs) {
    this.jobs = jobs;
    this.stats = null;
    this.ready = false;
    this.failed = null;
    this.walking = false;
    this.again = false;
    this.asked = 0;
    this.pruned = 0;
    this.walkedAt = 0;
    this.onStats = () => {};
    this.asking = false;
    this.poll();
  }

  /** List all jobs, the newest first; what the server no longer has goes. */
  async reset() {
    if (this.walking) {
      this.again = true;
      return;
    }
    this.walking = true;
    this.again = false;
    const walk = this.jobs.walk();
    try {
      const more = await this.pages(walk);
      walk.end(more);
      this.ready = true;
      this.failed = null;
      this.walkedAt = Date.now();
      this.pruned = this.stats?.pruned ?? 0;
    } catch (error) {
      this.jobs.loading = false;
      this.failed = unexpected(error);
    }
    this.walking = false;
    this.jobs.touched();
    if (this.again) await this.reset();
  }

  async pages(walk) {
    let cursor = "";
    for (let count = 0; count < MOST; count += PAGE) {
      const query = { limit: PAGE, brief: "true", cursor };
      const page = await ask(withQuery("jobs", query));
      for (const job of page.jobs) walk.take(job);
      if (!this.ready) walk.peek();
      cursor = page.next_cursor;
      if (cursor === null) return false;
    }
    return true;
  }

  /** After a cut: go on, unless this is another server than before, which knows no job of ours. */
  async returned() {
    if (!this.ready || this.failed) return this.reset();
    let newest = null;
    for (const row of this.jobs.order) newest = row;
    try {
      if (newest !== null) await ask(`jobs/${newest.id}`);
    } catch (error) {
      if (unexpected(error).status === 404) await this.reset();
      if (error.status === 410) this.jobs.drop(newest.id);
    }
    return this.fillStubs();
  }

  /** Ask for new jobs of which only an event is known, many at once. */
  async fillStubs() {
    if (this.asking || this.jobs.stubs.size === 0) return;
    this.asking = true;
    await new Promise((resolve) => setTimeout(resolve, STUBS));
    try {
      await this.newest();
    } catch (error) {
      unexpected(error);
      await new Promise((resolve) => setTimeout(resolve, STATS));
    }
    this.asking = false;
    if (this.jobs.stubs.size) this.fillStubs();
  }

  async newest() {
    const wanted = [...this.jobs.stubs];
    let cursor = "";
    for (let left = wanted.length; left > 0; left -= PAGE) {
      const limit = Math.min(PAGE, left + 10);
      const page = await ask(withQuery("jobs", { limit, brief: "true", cursor }));
      for (const job of page.jobs) if (this.jobs.rows.has(job.job_id)) this.jobs.take(job);
      cursor = page.next_cursor;
      if (cursor === null) break;
    }
    for (const id of wanted.slice(0, 20)) if (this.jobs.stubs.has(id)) await this.one(id);
  }

  /** Ask for a single job, which others that came after it may hide. */
  async one(id) {
    try {
      this.jobs.take(await ask(`jobs/${id}`));
    } catch (error) {
      if (![404, 410].includes(unexpected(error).status)) throw error;
      this.jobs.drop(id);
    }
  }

  async poll() {
    for (;;) {
      if (!document.hidden) await this.askStats();
      await new Promise((resolve) => setTimeout(resolve, STATS));
    }
  }

  async askStats() {
    try {
      this.stats = await ask("stats");
    } catch (error) {
      unexpected(error);
      return;
    }
    this.onStats(this.stats);
    const late = Date.now() - this.walkedAt > SWEEP;
    const gone = this.ready && late && this.stats.pruned !== this.pruned;
    if (this.failed || gone) await this.reset();
  }
}

/** Return a refusal; anything else is a fault of the page's own, and is thrown. */
export function unexpected(error) {
  if (error instanceof Problem) return error;
  throw error;
}
