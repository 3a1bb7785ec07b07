// What the keyboard does, and the list of it.

import { h } from "./dom.js";
import { nextTheme } from "./theme.js";

const HELP = [
  ["/", "Search"],
  ["j  k", "Next, previous job"],
  ["Enter", "Open the chosen job"],
  ["Esc", "Back; clear the search"],
  ["n", "Submit a job"],
  ["g", "List of jobs"],
  ["b", "Batches"],
  ["f", "Follow the output, or don't"],
  ["t", "Theme: system, light, dark"],
  ["?", "This list"],
];
const TYPING = "input, textarea, select, [contenteditable]";

export function startKeys(app) {
  document.getElementById("help").addEventListener("click", showHelp);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") escape(app, event);
    else if (!event.target.closest?.(TYPING)) press(app, event);
  });
}

function escape(app, event) {
  const field = event.target.closest?.(TYPING);
  if (field) {
    if (field === app.list.search && field.value) app.list.set("text", "", true);
    field.blur();
  } else app.up();
}

function press(app, event) {
  const { grid, search } = app.list;
  const listed = app.list.element.isConnected;
  const keys = {
    "/": () => (listed ? search : app.view.output?.search)?.focus(),
    j: () => listed && grid.move(1),
    k: () => listed && grid.move(-1),
    Enter: () => listed && !event.target.closest("a, button, summary") && grid.open(),
    n: () => app.go("new"),
    g: () => app.go(""),
    b: () => app.go("batches"),
    f: () => app.view.output?.setFollowing(!app.view.output.following),
    t: nextTheme,
    "?": showHelp,
  };
  if (!(event.key in keys)) return;
  if (event.key !== "Enter") event.preventDefault();
  keys[event.key]();
}

function showHelp() {
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog.help", { "aria-labelledby": "keys", onclose: () => dialog.remove() },
    h("div.card", {}, h("h2", { id: "keys" }, "Keyboard"),
      h("dl.keys", {}, HELP.map(([keys, text]) => h("div", {},
        h("dt", {}, keys.split("  ").map((key) => h("kbd", {}, key))), h("dd", {}, text)))),
      h("div.actions", {}, close)));
  document.body.append(dialog);
  dialog.showModal();
}
