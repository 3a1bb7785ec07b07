// What happens to all jobs, by number: the stream of `/events`, and what to do when it breaks.

import { Problem, ask, base, heard } from "./api.js";

const KINDS = ["status", "progress", "question", "answer", "done"];
const HIDDEN = 15_000;
const { OPEN } = EventSource;

/**
 * Follows the feed: the browser resumes by number after a cut; what can't be resumed begins anew.
 *
 * `onEvent(kind, data)` gets each event once and in order; `onReset()` is called when what was
 * known before counts for nothing: at first, after a gap, and when the server is another one;
 * `onReturn()` after each cut; `onState(state, since)` with `live`, `lost`, `denied` or `stopped`.
 */
export class Feed {
  constructor(told) {
    this.told = told;
    this.last = null;
    this.source = null;
    this.state = "connecting";
    this.since = Date.now();
    this.tries = 0;
    this.broken = false;
    this.timer = null;
    heard.addEventListener("answer", (event) => this.answered(event.detail));
    addEventListener("online", () => this.again());
    addEventListener("offline", () => this.become("lost"));
    document.addEventListener("visibilitychange", () => this.seen());
  }

  /** Open a stream, unless nobody sees the page: a browser has six for all its pages. */
  open() {
    this.letGo();
    if (document.hidden) return;
    const query = this.last === null ? "" : `?after=${this.last}`;
    const source = new EventSource(`${base}events${query}`);
    this.source = source;
    source.addEventListener("open", () => this.opened());
    source.addEventListener("error", () => this.cut(source));
    let gap = false; // whose snapshot may be cut off
    source.addEventListener("snapshot", (event) => {
      this.note(event);
      if (!gap) this.told.onReset();
      gap = false;
    });
    source.addEventListener("gap", (event) => {
      gap = true;
      this.note(event);
      this.told.onReset();
    });
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        this.note(event);
        this.told.onEvent(kind, JSON.parse(event.data));
      });
    }
  }

  note(event) {
    if (event.lastEventId) this.last = Number(event.lastEventId);
  }

  opened() {
    this.tries = 0;
    this.become("live");
    if (this.broken) this.told.onReturn();
    this.broken = false;
  }

  cut(source) {
    if (source !== this.source) return;
    this.broken = true;
    this.become("lost");
    if (source.readyState === EventSource.CLOSED) this.later();
  }

  /** Ask why the stream was refused, and come again. */
  later() {
    clearTimeout(this.timer);
    const wait = Math.min(10_000, 500 * 2 ** this.tries);
    this.tries += 1;
    this.timer = setTimeout(async () => {
      try {
        await ask("stats");
        this.open();
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (error.status !== 401) this.later();
      }
    }, wait);
  }

  /** Begin at once with what is left of a connection, as after signing in. */
  again() {
    clearTimeout(this.timer);
    this.tries = 0;
    this.broken = true;
    this.open();
  }

  /** A request told how the server is; a stream that has died, or was let go, says nothing. */
  answered(status) {
    if (status === 401) {
      this.become("denied");
      this.letGo();
      clearTimeout(this.timer);
    } else if (status === 0) {
      this.become("lost");
    } else if (this.state === "denied") {
      this.again();
    } else if (this.state === "lost" && (this.source?.readyState ?? OPEN) === OPEN) {
      this.again();
    }
  }

  letGo() {
    this.source?.close();
    this.source = null;
  }

  /** A page in the background lets its connection go. */
  seen() {
    clearTimeout(this.rest);
    if (document.hidden) {
      this.rest = setTimeout(() => this.letGo(), HIDDEN);
    } else if (this.last === null) {
      this.open();
    } else if (this.source === null && this.state !== "denied") {
      this.again();
    }
  }

  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.since = Date.now();
    this.told.onState(state);
  }
}
