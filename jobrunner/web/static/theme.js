// Light, dark, or as the system has it; remembered.

import { announce, mark, say } from "./dom.js";

const KEY = "jobrunner.theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const SHAPES = { auto: "◐", light: "☀", dark: "☾" };
const NAMES = { auto: "as the system", light: "light", dark: "dark" };

/** A browser may keep nothing for a page; then it is as the system has it. */
function kept() {
  try {
    return localStorage.getItem(KEY) ?? "auto";
  } catch {
    return "auto";
  }
}

let theme = kept() in NEXT ? kept() : "auto";

function show(button) {
  mark(document.documentElement, "data-theme", theme);
  say(button, SHAPES[theme]);
  mark(button, "aria-label", `Theme: ${NAMES[theme]}`);
  mark(button, "title", `Theme: ${NAMES[theme]} (t)`);
}

export function nextTheme() {
  theme = NEXT[theme];
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // It holds until the page is closed.
  }
  show(document.getElementById("theme"));
  announce(`Theme: ${NAMES[theme]}`);
}

export function startTheme() {
  const button = document.getElementById("theme");
  button.addEventListener("click", nextTheme);
  show(button);
}
