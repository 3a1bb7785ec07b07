// The page: what the address says is shown, and what happens to the jobs is heard in one place.

import { base } from "./api.js";
import { BatchHead, BatchesView } from "./batchview.js";
import { Door } from "./door.js";
import { fill, h } from "./dom.js";
import { Feed } from "./feed.js";
import { Jobs } from "./jobs.js";
import { JobView } from "./jobview.js";
import { startKeys } from "./keys.js";
import { ListView } from "./listview.js";
import { SubmitView } from "./submit.js";
import { Sync } from "./sync.js";
import { startTheme } from "./theme.js";

class App {
  constructor() {
    this.base = base;
    this.main = document.getElementById("main");
    this.jobs = new Jobs();
    this.sync = new Sync(this.jobs);
    this.list = new ListView(this);
    this.view = this.list;
    this.turn = 0;
    this.scroll = 0;
    this.listed = "";
    this.feed = new Feed({
      onEvent: (kind, data) => {
        this.jobs.event(kind, data);
        if (this.jobs.stubs.size) this.sync.fillStubs();
      },
      onReset: () => this.sync.reset(),
      onReturn: () => this.returned(),
      onState: () => this.door.draw(),
    });
    this.door = new Door(this.feed);
    this.sync.onStats = ({ pruned }) => {
      if (pruned !== this.pruned) this.view.look?.();
      this.pruned = pruned;
    };
  }

  start() {
    startTheme();
    startKeys(this);
    addEventListener("hashchange", () => this.route());
    document.getElementById("skip").addEventListener("click", () => this.main.focus());
    this.route();
    this.feed.open();
  }

  returned() {
    this.sync.returned();
    this.jobs.touched(); // what was asked for in vain is asked for again
    this.view.look?.();
  }

  /** Go to a place of the page; `quietly` without a step in the history. */
  go(place, quietly = false) {
    const hash = `#/${place}`;
    if (hash === location.hash) return;
    if (quietly) {
      history.replaceState(null, "", hash);
      this.route();
    } else location.hash = hash;
  }

  /** Back to the list, as it was. */
  back(event) {
    event.preventDefault();
    this.go(this.listed);
  }

  up() {
    if (this.view === this.list && this.head === undefined) {
      if (location.hash.includes("?")) this.go("");
    } else this.go(this.view === this.list ? "batches" : this.listed);
  }

  title(text) {
    document.title = text ? `${text} · jobrunner` : "jobrunner";
  }

  async route() {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
    const [name, id = ""] = path.split("/").map(unescaped);
    const same = path === this.path && this.view === this.list && this.list.element.isConnected;
    this.path = path;
    this.leave(same);
    this.turn += 1;
    const { turn, listed } = this;
    const element = await this.enter(name, id, new URLSearchParams(query));
    if (turn !== this.turn) return;
    if (this.main.firstChild !== element) fill(this.main, element);
    if (this.view === this.list && !same) {
      this.list.grid.scroll(!this.head && this.listed === listed ? this.scroll : 0);
      this.list.grid.scrolled();
    }
    for (const link of document.querySelectorAll("nav a")) {
      const here = link.dataset.name === (name === "jobs" ? "" : name);
      if (here) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (!same) this.focus();
  }

  /** Leave what is shown; a batch's head stays while only what its jobs are narrowed by changes. */
  leave(same) {
    if (this.view === this.list && !this.head) this.scroll = this.list.grid.top;
    this.view.leave();
    if (same) return;
    this.head?.leave();
    this.head = undefined;
  }

  enter(name, id, query) {
    if (name === "jobs" && id) return (this.view = new JobView(this)).enter(id);
    if (name === "batches" && id) {
      this.view = this.list;
      this.head ??= new BatchHead(this, id);
      return this.list.enter(query, { place: `batches/${encodeURIComponent(id)}`,
        head: this.head.element, fixed: { batch: id } });
    }
    if (name === "batches") return (this.view = new BatchesView(this)).enter();
    if (name === "new") {
      this.title("Submit a job");
      return (this.view = new SubmitView(this)).enter(query.get("type"));
    }
    this.view = this.list;
    this.listed = location.hash.replace(/^#\/?/, "");
    return this.list.enter(query, { place: "" });
  }

  /** Who comes to another view by keyboard or screen reader is at its beginning. */
  focus() {
    const target = this.main.querySelector("h1[tabindex], .grid") ?? this.main;
    target.focus({ preventScroll: true });
  }
}

function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

new App().start();
