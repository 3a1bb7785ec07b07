// What a job says, line by line as it comes: coloured, followed, searched.

import { base } from "./api.js";
import { Ansi } from "./ansi.js";
import { h, mark, say, visible } from "./dom.js";
import { clock } from "./time.js";

const LINES = 5_000;
const LONG = 10_000;
const KEPT = 16_000;

/** The panel with a job's output and log lines. */
export class Output {
  constructor(id) {
    this.ansi = new Map();
    this.open = null;
    this.pending = [];
    this.following = true;
    this.hits = [];
    this.hit = -1;
    this.cut = 0;
    this.top = 0;
    this.lines = h("div.lines", { role: "log", "aria-label": "Output", "aria-live": "off",
      tabindex: 0, onscroll: () => this.scrolled() });
    this.search = h("input", { type: "search", placeholder: "Find in output", autocomplete: "off",
      spellcheck: "false", "aria-label": "Find in output", oninput: () => this.find(),
      onkeydown: (event) => this.key(event) });
    this.found = h("span.found", { role: "status" });
    this.follow = h("button", { type: "button", "aria-pressed": "true",
      onclick: () => this.setFollowing(!this.following) }, "Follow");
    const path = `${base}jobs/${encodeURIComponent(id)}/logs`;
    this.element = h("section.panel.output", { "aria-label": "Output" },
      h("div.panelhead", {}, h("h2", {}, "Output"), this.search, this.found, this.follow,
        h("a.button", { href: path, download: `${id}.log` }, "Download")),
      this.lines);
    this.element.hidden = true;
  }

  /** Take an event in; it is shown with the next frame. */
  take(kind, data) {
    this.pending.push([kind, data]);
    if (this.pending.length === 1) requestAnimationFrame(() => this.flush());
  }

  flush() {
    const news = this.pending;
    this.pending = [];
    const fragment = document.createDocumentFragment();
    this.fragment = fragment;
    for (const [kind, data] of news) this.put(kind, data);
    this.lines.append(fragment);
    this.trim();
    this.element.hidden = false;
    if (this.following) this.lines.scrollTop = this.lines.scrollHeight;
    if (this.search.value) this.find(true);
  }

  put(kind, data) {
    if (kind === "output") this.output(data);
    else if (kind === "log") this.log(data);
    else this.line("mark", null).append(visible(data));
  }

  log(data) {
    this.end();
    const line = this.line("log", null);
    const text = h("span", {}, shortened(data.text));
    line.append(h("time", {}, clock(Date.parse(data.at))), " ", text);
    if (data.fields && Object.keys(data.fields).length) {
      line.append(" ", h("span.fields", {}, shortened(JSON.stringify(data.fields))));
    }
    this.open = null;
  }

  output(data) {
    const stream = data.stream ?? "text";
    if (this.open?.stream !== stream) this.end();
    const ansi = this.ansi.get(stream) ?? new Ansi();
    this.ansi.set(stream, ansi);
    if (data.json) {
      this.end();
      this.line("json", stream).append(visible(shortened(data.text)));
      this.open = null;
      return;
    }
    for (const [text, classes] of ansi.feed(data.text)) this.pieces(text, classes, stream);
  }

  pieces(text, classes, stream) {
    const parts = text.replaceAll("\r\n", "\n").split("\n");
    parts.forEach((part, i) => {
      if (part || i < parts.length - 1) this.piece(part, classes, stream);
      if (i < parts.length - 1) this.end();
    });
  }

  /** Add to the open line. A bare CR begins it anew, as a terminal would. */
  piece(part, classes, stream) {
    this.open ??= { line: this.line("out", stream), stream, size: 0 };
    const { open } = this;
    if (part === "") return;
    if (open.again) {
      open.line.replaceChildren();
      open.size = 0;
      open.again = false;
    }
    const pieces = part.split("\r");
    if (pieces.length > 1 && pieces.at(-1) === "") {
      open.again = true;
      pieces.pop();
    }
    if (pieces.length > 1) {
      open.line.replaceChildren();
      open.size = 0;
    }
    this.append(open, pieces.at(-1), classes);
  }

  append(open, text, classes) {
    if (!text || open.size > LONG) return;
    const rest = LONG - open.size;
    open.size += text.length;
    const shown = visible(text.slice(0, rest));
    const last = open.line.lastChild;
    if (last instanceof Text && !classes) last.appendData(shown);
    else if (last?.className === classes && last.firstChild instanceof Text && classes) {
      last.firstChild.appendData(shown);
    } else open.line.append(classes ? h("span", { class: classes }, shown) : shown);
    if (open.size <= LONG) return;
    open.line.append(h("span.note", {}, " … a long line; download all of it"));
  }

  end() {
    this.open = null;
  }

  line(kind, stream) {
    const made = h(`div.line.${kind}`);
    if (stream && stream !== "text" && stream !== "stdout") made.dataset.stream = stream;
    this.fragment.append(made);
    return made;
  }

  /** What is older goes from the page; the download has all that the server keeps. */
  trim() {
    const surplus = this.lines.childElementCount - LINES;
    if (surplus <= 0) return;
    for (let i = 0; i < surplus; i += 1) this.lines.firstElementChild.remove();
    this.cut += surplus;
    this.lines.dataset.cut = `${this.cut.toLocaleString()} older lines aren't shown; download all`;
  }

  /** Who scrolls up stays there; lines that come, or wrap anew, are no scrolling. */
  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.lines;
    const up = scrollTop < this.top - 2;
    this.top = scrollTop;
    if (scrollHeight - scrollTop - clientHeight < 8) this.setFollowing(true, false);
    else if (up) this.setFollowing(false, false);
  }

  setFollowing(on, move = true) {
    this.following = on;
    mark(this.follow, "aria-pressed", String(on));
    if (on && move) this.lines.scrollTop = this.lines.scrollHeight;
  }

  find(quiet = false) {
    const wanted = this.search.value.toLowerCase();
    for (const line of this.lines.querySelectorAll(".hit")) line.classList.remove("hit", "here");
    this.hits = wanted === "" ? [] : [...this.lines.children].filter((line) =>
      line.textContent.toLowerCase().includes(wanted));
    for (const line of this.hits) line.classList.add("hit");
    paint(this.hits, wanted);
    if (!quiet) this.hit = this.hits.length - 1;
    this.here(!quiet);
  }

  here(move) {
    const count = this.hits.length;
    const text = count ? `${this.hit + 1} of ${count}` : "none";
    say(this.found, this.search.value ? text : "");
    const line = this.hits[this.hit];
    line?.classList.add("here");
    if (move) line?.scrollIntoView({ block: "nearest" });
  }

  /** Enter goes to the line before, with shift to the one after: output grows at its end. */
  key(event) {
    if (event.key === "Escape" && this.search.value) {
      event.stopPropagation();
      this.search.value = "";
      this.find();
    } else if (event.key === "Enter" && this.hits.length) {
      this.hits[this.hit]?.classList.remove("here");
      const step = event.shiftKey ? 1 : -1;
      this.hit = (this.hit + step + this.hits.length) % this.hits.length;
      this.here(true);
    }
  }
}

function shortened(text) {
  return text.length > KEPT ? `${text.slice(0, KEPT)} …` : text;
}

/** Have the browser colour each place that was searched for; the lines stay as they are. */
function paint(lines, wanted) {
  if (!("highlights" in CSS)) return;
  const ranges = [];
  for (const line of lines) {
    const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const text = node.data.toLowerCase();
      if (text.length !== node.data.length) continue;
      for (let i = text.indexOf(wanted); i >= 0; i = text.indexOf(wanted, i + wanted.length)) {
        const range = new Range();
        range.setStart(node, i);
        range.setEnd(node, i + wanted.length);
        ranges.push(range);
      }
    }
    if (ranges.length > 2_000) break;
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}
