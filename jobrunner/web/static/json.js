// JSON that folds: what is large is closed, and made when it is opened.

import { h, visible } from "./dom.js";

const PIECE = 100;
const LONG = 2_000;
const OPEN = 12;

/** Return a value as a tree; `name` is the key that it stands under. */
export function tree(value, name = null, depth = 0) {
  if (value === null || typeof value !== "object" || isRaw(value)) return leaf(value, name);
  const list = Array.isArray(value);
  const entries = list ? value : Object.entries(value);
  const [begin, end] = list ? "[]" : "{}";
  if (!entries.length) return h("div.json", {}, key(name), h("span.punct", {}, begin + end));
  const body = h("div.members", { role: "group" });
  let made = false;
  const make = () => {
    if (made) return;
    made = true;
    some(body, entries, list, depth, 0);
  };
  const noun = list ? "items" : "members";
  const folded = h("details.json", { ontoggle: () => make() },
    h("summary", {}, key(name), h("span.punct", {}, begin),
      h("span.size", {}, `${entries.length} ${noun}`), h("span.punct", {}, end)),
    body);
  if (depth === 0 || (depth < 3 && entries.length <= OPEN)) {
    make();
    folded.open = true;
  }
  return folded;
}

/** Put a hundred members, and a button for the next. */
function some(body, entries, list, depth, from) {
  const end = Math.min(entries.length, from + PIECE);
  for (let i = from; i < end; i += 1) {
    const [name, value] = list ? [String(i), entries[i]] : entries[i];
    body.append(tree(value, name, depth + 1));
  }
  if (end === entries.length) return;
  const more = h("button", { type: "button", onclick: () => {
    more.remove();
    some(body, entries, list, depth, end);
  } }, `${entries.length - end} more`);
  body.append(more);
}

/** Whole numbers that are too long for JavaScript are kept as they were written. */
const isRaw = (value) => "isRawJSON" in JSON && JSON.isRawJSON(value);

const key = (name) => (name === null ? null : [h("span.key", {}, name), h("span.punct", {}, ": ")]);

function leaf(value, name) {
  const kind = value === null ? "null" : isRaw(value) ? "number" : typeof value;
  const text = kind === "string" ? value : JSON.stringify(value);
  const shown = h(`span.value.${kind}`, {}, text.slice(0, LONG));
  const line = h("div.json", {}, key(name), shown);
  if (text.length > LONG) {
    const more = h("button", { type: "button", onclick: () => {
      more.remove();
      shown.textContent = visible(text);
    } }, `${(text.length - LONG).toLocaleString()} more characters`);
    line.append(" ", more);
  }
  return line;
}
