// Times as the server's clock has them, told as people tell them.

let ahead = 0;
let known = false;

/** Learn from an answer how far the server's clock is ahead; `Date` has whole seconds. */
export function learnClock(date) {
  const told = Date.parse(date ?? "");
  if (Number.isNaN(told)) return;
  const now = Date.now();
  if (!known || told + 1000 < now + ahead || told > now + ahead) {
    ahead = Math.abs(told - now) < 2000 ? 0 : told + 500 - now;
    known = true;
  }
}

/** Return the time on the server's clock, in milliseconds. */
export const serverNow = () => Date.now() + ahead;

/** Return milliseconds of a time on the wire; null of none. */
export const at = (text) => (text === null || text === undefined ? null : Date.parse(text));

/** Return milliseconds as people say them: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d`. */
export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return two(whole, 60, "min", 1, "s");
  if (whole < 86_400) return two(whole, 3600, "h", 60, "min");
  return two(whole, 86_400, "d", 3600, "h");
}

function two(seconds, large, name, small, rest) {
  const left = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)} ${name}${left ? ` ${left} ${rest}` : ""}`;
}

/** Return how long ago it was, or in how long it is: `now`, `5 s`, `3 min`, `in 2 h`. */
export function ago(ms, now = serverNow()) {
  const passed = now - ms;
  if (passed < -1500) return `in ${rough(-passed)}`;
  return passed < 1500 ? "now" : rough(passed);
}

function rough(ms) {
  const seconds = ms / 1000;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

const written = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** Return a time as it is written here, with date and zone. */
export const absolute = (ms) => written.format(ms);

/** Return the time of day with milliseconds. */
export function clock(ms) {
  const date = new Date(ms);
  const pad = (n, width = 2) => String(n).padStart(width, "0");
  return (
    `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}` +
    `.${pad(date.getMilliseconds(), 3)}`
  );
}
