// The API: one way to ask, and every refusal as the problem document that came.

import { learnClock } from "./time.js";

export const base = document.body.dataset.base;
const PATIENCE = 30_000;

/** Why a request was refused: what the server says (RFC 9457), or status 0 when it said nothing. */
export class Problem extends Error {
  constructor(status, code, detail, errors = []) {
    super(detail);
    this.status = status;
    this.code = code;
    this.errors = errors;
  }
}

/** Return what JSON says, whole numbers of any length too: JavaScript's have 53 bits. */
export function exact(text) {
  if (!("rawJSON" in JSON)) return JSON.parse(text);
  return JSON.parse(text, (_, value, { source } = {}) => {
    if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
    return /^-?\d+$/.test(source) ? JSON.rawJSON(source) : value;
  });
}

/** Told of each request whether the server answered, and with which status. */
export const heard = new EventTarget();

const tell = (status) => heard.dispatchEvent(new CustomEvent("answer", { detail: status }));

/**
 * Ask for a path and return the JSON of the answer, null if there is none.
 * `body` is JSON as text: numbers of any length stay what they are.
 */
export async function ask(path, { method = "GET", body = null } = {}) {
  const headers = method === "GET" ? {} : { "content-type": "application/json" };
  const response = await sent(`${base}${path}`, {
    method, headers, body, cache: "no-store", signal: AbortSignal.timeout(PATIENCE),
  });
  learnClock(response.headers.get("date"));
  tell(response.status);
  if (!response.ok) throw await refusal(response);
  if (response.status === 204) return null;
  try {
    return exact(await response.text());
  } catch (error) {
    throw new Problem(0, "cut-off", `the answer was cut off: ${error.message}`);
  }
}

async function sent(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    tell(0);
    const late = error.name === "TimeoutError";
    throw new Problem(
      0, "unreachable", late ? "the server didn't answer in time" : "the server can't be reached",
    );
  }
}

async function refusal(response) {
  try {
    const problem = await response.json();
    const code = String(problem.type).split("/").at(-1);
    return new Problem(response.status, code, problem.detail, problem.errors);
  } catch {
    return new Problem(response.status, "unknown", `the server answered ${response.status}`);
  }
}

export const post = (path, body = "{}") => ask(path, { method: "POST", body });

/** Take a token for the server's cookie; return whether it was the right one. */
export async function signIn(token) {
  const path = `${base}?${new URLSearchParams({ token })}`;
  const response = await sent(path, { cache: "no-store", headers: { accept: "text/html" } });
  return response.ok;
}

/** Return a path with a query of what isn't empty. */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}
