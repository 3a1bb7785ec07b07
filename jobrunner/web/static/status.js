// How a status looks: a colour, and for who can't tell colours a shape and a word.

import { h, mark, say } from "./dom.js";

const LOOKS = {
  pending: ["○", "Pending"],
  running: ["▶", "Running"],
  retrying: ["↻", "Retrying"],
  input_required: ["?", "Needs answer"],
  completed: ["✓", "Completed"],
  failed: ["✕", "Failed"],
  cancelled: ["⊘", "Cancelled"],
};

export const label = (status) => LOOKS[status]?.[1] ?? status;
const shape = (status) => LOOKS[status]?.[0] ?? "·";

export function badge(status) {
  const made = h("span.status", {}, h("span.shape", { "aria-hidden": "true" }), " ",
    h("span.word"));
  setBadge(made, status);
  return made;
}

export function setBadge(badge, status, note = "") {
  if (badge.dataset.status !== status) {
    badge.dataset.status = status;
    say(badge.firstChild, shape(status));
  }
  say(badge.lastChild, note || label(status));
}

/** A bar, with the percentage for who doesn't see it. */
export function bar(name) {
  const value = h("span.value");
  const track = h("span.bar", { role: "progressbar", "aria-label": name, "aria-valuemin": 0,
    "aria-valuemax": 100, "aria-valuenow": 0 }, value);
  return track;
}

export function setBar(track, percent, text = "") {
  const shown = Math.max(0, Math.min(100, Number(percent) || 0));
  mark(track, "aria-valuenow", Math.round(shown));
  mark(track, "aria-valuetext", text || `${Math.round(shown)} %`);
  const width = `scaleX(${shown / 100})`;
  if (track.firstChild.style.transform !== width) track.firstChild.style.transform = width;
}

/** Return where a job stands in words: `Step 3 of 7`, or its percentage. */
export function stepText({ step, progress }) {
  if (step) return `Step ${step.current} of ${step.total}`;
  return progress ? `${Math.round(progress)} %` : "";
}
