// Elements, made of names and text: nothing that a job says is ever markup.

const BIDI = /[\u202a-\u202e\u2066-\u2069]/g;

/** Show what would turn the text around it: `\u202e` makes `gpj.exe` of `exe.jpg`. */
export function visible(text) {
  const shown = String(text);
  return shown.replace(BIDI, (mark) => `\\u${mark.charCodeAt(0).toString(16)}`);
}

/** Cut a text to `most` characters, never within one. */
export function clip(text, most) {
  if (text.length <= most) return text;
  const cut = text.slice(0, most);
  return `${/[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut}…`;
}

/**
 * Make an element. `name` is a tag with classes, `div.a.b`; `props` are attributes, and listeners
 * under `on...` names; children are elements and texts, and what is null or false stays away.
 */
export function h(name, props = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  put(made, children);
  return made;
}

function put(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) put(parent, child);
    else parent.append(child instanceof Node ? child : visible(child));
  }
}

/** Put children in the place of those that an element has. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  put(parent, children);
  return parent;
}

/** Set an element's text, if it is another one: what stays the same costs no layout. */
export function say(element, text) {
  const shown = visible(text ?? "");
  if (element.textContent !== shown) element.textContent = shown;
}

/** Set an attribute, if it is another one; null takes it away. */
export function mark(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

export function svg(tag, props = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(props)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

let last = 0;

/** Return an id that no other element has. */
export function newId(stem) {
  last += 1;
  return `${stem}-${last}`;
}

const announcer = () => document.getElementById("said");

/** Say something to who listens to the page instead of looking at it. */
export function announce(text) {
  say(announcer(), text);
}
