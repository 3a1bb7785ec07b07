// Colours of terminals: SGR (ECMA-48, 8.3.117) as classes; every other control is left out.

const LONGEST = 256;
const FLAGS = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
const OFF = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"],
  29: ["strike"] };
// Escape sequences, whole; and one at the end that may go on in the next piece.
const SEQUENCE =
  /\u001b(?:\[([0-9:;<=>?]*)[ -/]*([@-~])|[\]PX^_][^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c)|[ -/]*[0-OQ-WYZ`-~\\])/g;
const OPEN = /\u001b(?:\[[0-9:;<=>? -/]*|[\]PX^_][^\u0007\u001b\u009c]*\u001b?|[ -/]*)$/;
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;

/** Cuts text into pieces with the classes that they are shown with; keeps its state between. */
export class Ansi {
  constructor() {
    this.rest = "";
    this.flags = new Set();
    this.fg = null;
    this.bg = null;
  }

  /** Return `[text, classes]` for each piece; line ends stay in the texts. */
  feed(text) {
    let all = this.rest + text;
    const open = OPEN.exec(all.slice(-LONGEST));
    this.rest = open ? open[0] : "";
    if (open) all = all.slice(0, -open[0].length);
    const pieces = [];
    let place = 0;
    for (const found of all.matchAll(SEQUENCE)) {
      this.put(pieces, all.slice(place, found.index));
      place = found.index + found[0].length;
      if (found[2] === "m") this.turn(found[1]);
    }
    this.put(pieces, all.slice(place));
    return pieces;
  }

  put(pieces, text) {
    const shown = text.replace(CONTROLS, "");
    if (shown) pieces.push([shown, this.classes()]);
  }

  classes() {
    const names = [...this.flags];
    if (this.fg !== null) names.push(`fg${this.fg}`);
    if (this.bg !== null) names.push(`bg${this.bg}`);
    return names.join(" ");
  }

  turn(parameters) {
    const codes = parameters.split(/[;:]/).map(Number);
    for (let i = 0; i < codes.length; i += 1) {
      const code = codes[i];
      if (code === 38 || code === 48) {
        const [colour, used] = extended(codes, i + 1);
        if (code === 38) this.fg = colour;
        else this.bg = colour;
        i += used;
      } else this.plain(code);
    }
  }

  plain(code) {
    if (!code) {
      this.flags.clear();
      this.fg = this.bg = null;
    } else if (code in FLAGS) this.flags.add(FLAGS[code]);
    else if (code in OFF) for (const name of OFF[code]) this.flags.delete(name);
    else if (code >= 30 && code <= 37) this.fg = code - 30;
    else if (code === 39) this.fg = null;
    else if (code >= 40 && code <= 47) this.bg = code - 40;
    else if (code === 49) this.bg = null;
    else if (code >= 90 && code <= 97) this.fg = code - 82;
    else if (code >= 100 && code <= 107) this.bg = code - 92;
  }
}

/** Return the nearest of the sixteen colours, which can be read on any ground, and what it used. */
function extended(codes, i) {
  if (codes[i] === 5) return [indexed(codes[i + 1] ?? 0), 2];
  if (codes[i] === 2) return [nearest(codes.slice(i + 1, i + 4)), 4];
  return [null, codes.length];
}

function indexed(n) {
  if (n < 16) return n;
  if (n >= 232) return nearest([8 + (n - 232) * 10, 8 + (n - 232) * 10, 8 + (n - 232) * 10]);
  const level = (value) => (value ? 55 + value * 40 : 0);
  const cube = n - 16;
  return nearest([level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)]);
}

function nearest([red = 0, green = 0, blue = 0]) {
  const most = Math.max(red, green, blue);
  if (most < 64) return 0;
  const on = (value) => (value > most * 0.6 ? 1 : 0);
  return on(red) + 2 * on(green) + 4 * on(blue) + (most > 200 ? 8 : 0);
}
