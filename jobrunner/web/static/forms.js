// Forms made of JSON schemas. What they read is JSON as text; the server says whether it fits.

import { fill, h, mark, newId, say } from "./dom.js";

const DEEP = 4;
const CHOICES = 200;
const SHORT = 200;
const INPUTS = { email: "email", uri: "url", password: "password" };
const EXAMPLES = { date: "2026-01-31", time: "13:30:00", "date-time": "2026-01-31T13:30:00Z" };

/**
 * Return a field for a schema: `element`, `read()`, which gives JSON as text, or undefined when
 * it is left out, and `fields`, the parts that have a place of their own by JSON pointer.
 */
export function field(schema, { root = schema, name = "", pointer = "", required = true,
  depth = 0 } = {}) {
  const { own, nullable } = plain(schema, root);
  const about = {
    own, root, pointer, required, nullable, depth,
    title: name || own.title || "Value",
    hint: schema.description ?? own.description ?? "",
    fallback: schema.default !== undefined ? schema.default : own.default,
  };
  return kindOf(about)(about);
}

function kindOf({ own, depth }) {
  if (depth > DEEP) return raw;
  if (own.enum || "const" in own) return choice;
  if (own.type === "boolean") return yesNo;
  if (own.type === "integer" || own.type === "number") return number;
  if (own.type === "string") return text;
  if (own.type === "array" && simple(own.items)) return lines;
  if (own.type === "object" && own.properties) return object;
  return raw;
}

const simple = (items) => ["string", "integer", "number"].includes(items?.type) && !items.enum;

/** Follow a reference, and take null out of `X | null`. */
export function plain(schema, root) {
  let own = follow(schema ?? {}, root);
  let nullable = false;
  const members = own.anyOf ?? own.oneOf;
  if (Array.isArray(members)) {
    const rest = members.filter((each) => each?.type !== "null");
    nullable = rest.length < members.length;
    if (rest.length === 1) own = follow(rest[0], root);
  }
  return { own, nullable };
}

function follow(schema, root) {
  let found = schema;
  for (let i = 0; i < 10 && typeof found?.$ref === "string"; i += 1) {
    const name = found.$ref.split("/").at(-1);
    found = root.$defs?.[name] ?? {};
  }
  return found !== null && typeof found === "object" ? found : {};
}

/** A label, a control, a hint, and room for what the server finds wrong. */
function framed(about, control, read) {
  const id = newId("field");
  const fault = h("p.fault", { id: `${id}-fault`, hidden: true });
  const hint = h("p.hint", { id: `${id}-hint` }, about.hint);
  hint.hidden = !about.hint;
  mark(control, "id", id);
  mark(control, "aria-describedby", `${id}-fault ${id}-hint`);
  const element = h("div.field", {},
    h("label", { for: id }, about.title, !about.required && h("span.optional", {}, "optional")),
    control, hint, fault);
  const blank = () => control.value === "";
  return { element, read, blank, fields: [[about.pointer, { control, fault }]] };
}

const shown = (value) => (value === undefined || value === null ? "" : JSON.stringify(value));

/** What isn't filled in is left out where it may be, and else sent as what it is. */
function left(about, empty) {
  if (!about.required) return undefined;
  return about.nullable ? "null" : empty;
}

function choice(about) {
  const values = ("const" in about.own ? [about.own.const] : about.own.enum).slice(0, CHOICES);
  const names = values.map((value) => (typeof value === "string" ? value : JSON.stringify(value)));
  const control = h("select", {},
    h("option", { value: "" }, about.fallback === undefined ? "–" :
      `default: ${typeof about.fallback === "string" ? about.fallback : shown(about.fallback)}`),
    values.map((_, i) => h("option", { value: String(i) }, names[i] || "(empty)")));
  const read = () => (control.value === "" ? left(about, "null") :
    JSON.stringify(values[Number(control.value)]));
  return framed(about, control, read);
}

function yesNo(about) {
  const word = { true: "yes", false: "no" };
  const control = h("select", {},
    h("option", { value: "" }, typeof about.fallback === "boolean" ?
      `default: ${word[about.fallback]}` : "–"),
    h("option", { value: "true" }, "Yes"), h("option", { value: "false" }, "No"));
  return framed(about, control, () => control.value || left(about, "null"));
}

/** Numbers stay as they are written: a browser's have 53 bits. What is none goes as a text. */
function number(about) {
  const control = h("input", { inputmode: about.own.type === "integer" ? "numeric" : "decimal",
    placeholder: shown(about.fallback), autocomplete: "off" });
  const read = () => (control.value.trim() === "" ? left(about, '""') : numeral(control.value));
  return framed(about, control, read);
}

function numeral(given) {
  const trimmed = given.trim();
  const isNumber = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(trimmed);
  return isNumber ? trimmed : JSON.stringify(given);
}

function text(about) {
  const format = about.own.writeOnly ? "password" : about.own.format;
  const plainly = { placeholder: EXAMPLES[format] ?? about.fallback ?? "", autocomplete: "off" };
  const short = format in INPUTS || format in EXAMPLES || about.own.maxLength <= SHORT;
  const control = short ?
    h("input", { type: INPUTS[format] ?? "text", ...plainly }) :
    h("textarea", { rows: 1, ...plainly });
  const read = () => (control.value === "" ? left(about, '""') : JSON.stringify(control.value));
  return framed(about, control, read);
}

function lines(about) {
  const kind = about.own.items.type;
  const control = h("textarea", { rows: 3, placeholder: "one per line" });
  const read = () => {
    if (control.value === "") return left(about, "[]");
    const given = control.value.replace(/\n$/, "").split("\n");
    return `[${given.map((line) => (kind === "string" ? JSON.stringify(line) : numeral(line)))
      .join(",")}]`;
  };
  return framed(about, control, read);
}

function raw(about) {
  const control = h("textarea.code", { rows: 4, spellcheck: "false", placeholder:
    `JSON, e.g. ${shown(about.fallback) || (about.own.type === "array" ? "[]" : "{}")}` });
  return framed(about, control, () => control.value.trim() || left(about, "null"));
}

function object(about) {
  const needed = new Set(about.own.required ?? []);
  const parts = Object.entries(about.own.properties).map(([name, schema]) => [name, field(schema, {
    root: about.root, name, required: needed.has(name), depth: about.depth + 1,
    pointer: `${about.pointer}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`,
  })]);
  const fault = h("p.fault", { hidden: true });
  const element = h("fieldset.object", {},
    about.depth > 0 && h("legend", {}, about.title,
      !about.required && h("span.optional", {}, "optional")),
    about.depth > 0 && about.hint && h("p.hint", {}, about.hint), fault,
    parts.length ? parts.map(([, part]) => part.element) : h("p.hint", {}, "Takes no parameters."));
  const blank = () => parts.every(([, part]) => part.blank());
  const read = () => {
    if (about.depth > 0 && blank() && (!about.required || about.nullable)) {
      return left(about, "null");
    }
    const members = parts.map(([name, part]) => [name, part.read()])
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${JSON.stringify(name)}:${value}`);
    return `{${members.join(",")}}`;
  };
  return { element, read, blank,
    fields: [[about.pointer, { control: element, fault }], ...parts.flatMap(([, p]) => p.fields)] };
}

/** A field, and the same as JSON for who would rather write it, with the server's faults shown. */
export class SchemaForm {
  constructor(schema, { title = "", pointer = "" } = {}) {
    this.root = pointer;
    this.field = field(schema, { name: title, pointer });
    this.json = h("textarea.code", { rows: 8, spellcheck: "false", "aria-label": "As JSON" });
    this.json.hidden = true;
    this.summary = h("p.fault", { role: "alert", hidden: true });
    this.toggle = h("button.quiet", { type: "button", "aria-pressed": "false",
      onclick: () => this.turn() }, "As JSON");
    this.element = h("div.schema", {}, this.summary, this.field.element, this.json, this.toggle);
  }

  turn() {
    const on = this.json.hidden;
    if (on) this.json.value = pretty(this.field.read() ?? "null");
    this.json.hidden = !on;
    this.field.element.hidden = on;
    mark(this.toggle, "aria-pressed", String(on));
    this.clear();
  }

  /** Return the value as JSON text. */
  read() {
    return (this.json.hidden ? this.field.read() : this.json.value.trim()) ?? "null";
  }

  clear() {
    this.summary.hidden = true;
    for (const [, { control, fault }] of this.field.fields) {
      fault.hidden = true;
      mark(control, "aria-invalid", null);
    }
  }

  /** Show why the server refused it, each fault at its field; the first one gets the focus. */
  refused(problem) {
    this.clear();
    const places = new Map(this.field.fields);
    const rest = [];
    let first = null;
    for (const { detail, pointer } of problem.errors ?? []) {
      const place = this.json.hidden ? this.place(places, pointer.replace(/^#/, "")) : null;
      if (place === null) {
        rest.push(`${pointer.replace(/^#\/?/, "")} ${detail}`.trim());
        continue;
      }
      say(place.fault, place.fault.hidden ? detail : `${place.fault.textContent}; ${detail}`);
      place.fault.hidden = false;
      mark(place.control, "aria-invalid", "true");
      first ??= place.control;
    }
    if (rest.length || first === null) {
      fill(this.summary, rest.length ? rest.join("; ") : problem.message);
      this.summary.hidden = false;
    }
    first?.focus();
  }

  /** Return the field at a pointer, or the nearest one around it; the whole is none. */
  place(places, pointer) {
    for (let at = pointer; at !== ""; at = at.slice(0, at.lastIndexOf("/"))) {
      if (places.has(at)) return places.get(at);
      if (at === this.root) break;
    }
    return null;
  }
}

function pretty(json) {
  try {
    const value = JSON.parse(json);
    const same = JSON.stringify(value) === json;
    return same ? JSON.stringify(value, null, 2) : json;
  } catch {
    return json;
  }
}
